"""Transfer: a network starts from weights that were trained elsewhere, and may learn its head only."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import zoo
from toolkit.artifacts import hash_file, open_artifact, sidecar
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, needs_extra
from toolkit.fetching import download
from toolkit.heads import heads, heads_with_dropout, weights_of
from toolkit.models import ModelSpec
from toolkit.preprocessing import Preprocessing
from toolkit.presence import is_file
from toolkit.weights import few, give, insist_on_weights, read_weights, unwrap, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = "imagenet"
# of ImageNet's training pictures, in shares of 255: what torchvision's weights were trained with
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_STEM = (64, 3, 7, 7)  # the shape of its first convolution's weights
# what caches of torch end a file's name with: the beginning of its SHA-256
_HASHED = re.compile(r"-([0-9a-f]{8,})$")


@dataclass(frozen=True, kw_only=True)
class KnownInput:
    """What a pretrained network was fed with, and told apart: None where the weights do not say so.

    `mean` and `std` are of red, green and blue in shares of 255, whatever the network's own units and order
    are; `turned` tells that it was fed with blue first.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    turned: bool = False
    classes: tuple[str, ...] | None = None

    def of_channels(self, channels: int) -> KnownInput:
        """Return the same for pictures of so many channels, mean and deviation each by `figures_of`."""
        return replace(self, mean=figures_of(self.mean, channels), std=figures_of(self.std, channels))


def figures_of(figures: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return figures for so many channels: one is the mean of three, three are alike where there was one."""
    return figures if len(figures) == channels else (sum(figures) / len(figures),) * channels


def known_input(source: str) -> KnownInput | None:
    """Return what is known of the pictures of pretrained weights: ImageNet's, or a passport's beside them.

    Raises CnnkitError where the passport wants pictures that training does not make.
    """
    if source == IMAGENET:
        return KnownInput(size=(224, 224), mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
    path = Path(source)
    if not is_file(path) or not is_file(sidecar(path)):
        return None
    passport = open_artifact(path).passport
    found = passport.preprocessing
    if found is None:
        return None
    if found.invert:
        raise CnnkitError(
            f"{source} reads pictures inverted, and training does not: take its passport "
            f"({sidecar(path).name}) away to start from its weights alone"
        )
    return replace(input_of(found), classes=passport.classes)


def input_of(known: Preprocessing) -> KnownInput:
    """Return what a network was fed with by its passport, in the units and the order that training has."""
    # 1 where the passport has shares, too, and exactly so
    unit, turned = 255 * known.scale, known.order == "bgr"
    mean, std = (tuple(figure / unit for figure in figures) for figures in (known.mean, known.std))
    return KnownInput(
        size=known.size,
        mean=mean[::-1] if turned else mean,
        std=std[::-1] if turned else std,
        turned=turned,
    )


def load_pretrained(
    model: str,
    module: nn.Module,
    source: str,
    classes: Sequence[str] = (),
    *,
    freeze: bool = False,
    by_classes: Collection[str] = (),
) -> str:
    """Give a network's layers weights that were trained elsewhere; say what fits.

    `source` is `imagenet`, torchvision's weights for the resnets, or a file of weights. The head is left at
    its start, unless the passport beside the file names the same `classes`, or they are those that weights
    from this machine's cache were published with. A first convolution for one channel gets the sum over
    colours, which answers a grey picture alike. Layers of another shape keep their start and are named;
    where the body is to `freeze`, it is said that those of it will not learn. `by_classes` are the weights
    that tell which layer is the head (toolkit/heads.py). Raises NotFoundError where
    ImageNet's weights are neither cached nor reachable, CnnkitError where nothing fits.
    """
    said: list[str] = []
    path = pretrained_file(model, source)
    wanted = module.state_dict()
    inside = _inside(wanted, heads(module, by_classes))
    body = {name: value for name, value in wanted.items() if name not in inside}
    given = _given(model, path, body, said)
    known = known_input(source)
    same_classes = _known_classes(model, path, known) == tuple(classes)
    if known is not None and known.turned:
        given = _turned(given, wanted, source)
        said.append("its first layer takes red, green, blue in place of blue, green, red")
    fitting: dict[str, Tensor] = {}
    for key, value in wanted.items():
        found = given.get(key)
        if found is None or (key in inside and not same_classes):
            continue
        if found.ndim == value.ndim == 4 and found.shape[1] == 3 and value.shape[1] == 1:
            found = found.sum(dim=1, keepdim=True)
        if found.shape == value.shape:
            fitting[key] = found
    # a head under a body of random figures is worth nothing, unless there is no body
    alone = not any(_is_weight(key) for key in body)
    if not any(_is_weight(key) for key in fitting if alone or key not in inside):
        if alone and not same_classes:
            raise CnnkitError(
                f"{model} is its head alone, which starts from weights of the same classes: {path} tells "
                "others apart, or does not say which; leave out --pretrained"
            )
        raise CnnkitError(
            f"none of {model}'s layers {'' if alone else 'but its head '}has weights in {path}; it holds "
            f"{few(list(given))}"
        )
    give(module, {**wanted, **fitting})
    left = [key for key in wanted if key not in fitting and not key.endswith("num_batches_tracked")]
    rest = f"left at their start: {few(left)}" if left else "the head too, since the classes are the same"
    said.append(f"{len(fitting)} of {len(wanted)} tensors from {path}; {rest}")
    random = [key for key in left if key not in inside]
    if freeze and random:
        said.append(
            f"note: --freeze keeps {few(random)} at random figures, which those weights have no others for: "
            "they learn without --freeze, or from --unfreeze-at N on"
        )
    return "; ".join(said)


def _is_weight(key: str) -> bool:
    return key.endswith("weight")


def _given(model: str, path: Path, body: Mapping[str, Tensor], said: list[str]) -> dict[str, Tensor]:
    """Return a file's weights under the names of a network whose layers but its head are `body`."""
    given = without_prefix(unwrap(read_weights(path), said), body, said)
    spec = zoo.known(model)
    return as_built(spec, given, body) if spec else given


def _known_classes(model: str, path: Path, known: KnownInput | None) -> tuple[str, ...] | None:
    """Return what weights tell apart, by their passport or as they were published; None where nobody says."""
    spec = zoo.known(model)
    published = spec.published if spec else None
    if (
        (known is None or known.classes is None)
        and published is not None
        and _is_one_of(published.files(), path)
    ):
        return published.classes
    return known.classes if known is not None else None


def _is_one_of(files: Sequence[Path], path: Path) -> bool:
    """Tell whether a file is one of those that caches keep, here or, when it was sent, on another machine.

    What was sent lies elsewhere, in folders of the same names.
    """
    return path in files or any(
        path.name == file.name and file.parent.name in path.parts and is_as_named(path) for file in files
    )


def is_as_named(path: Path) -> bool:
    """Tell whether a file is what its name says, where that ends in its hash's start as in torch's caches."""
    told = _HASHED.search(path.stem)
    return told is None or hash_file(path).startswith(told[1])


def knows_stem(model: str, module: nn.Module, source: str) -> bool:
    """Tell whether pretrained weights have a network's first convolution, for any number of channels.

    A network with another stem, for smaller pictures, say, keeps its start there, and the size of the
    pretrained network's pictures is not its own. Raises what `load_pretrained` raises where the file cannot
    be read.
    """
    wanted = module.state_dict()
    first = next((name for name, value in wanted.items() if value.ndim == 4), None)
    if first is None:
        return True
    found: tuple[int, ...] = _IMAGENET_STEM
    if source != IMAGENET:
        body = {name: wanted[name] for name in wanted.keys() - _inside(wanted, heads(module))}
        weight = _given(model, Path(source), body, []).get(first)
        found = () if weight is None else tuple(weight.shape)
    own = tuple(wanted[first].shape)
    return (found[:1], found[2:]) == (own[:1], own[2:])


def as_built(spec: ModelSpec, given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names of the network that is built; published ones may have older names.

    What nothing but training reads is left out.
    """
    if spec.published is None:
        return given
    idle = spec.published.training_only
    given = {key: value for key, value in given.items() if key in wanted or not key.startswith(idle)}
    if wanted.keys() <= given.keys():
        return given
    with contextlib.suppress(RuntimeError, KeyError, AttributeError, TypeError, ValueError):
        return dict(spec.published.load(given).state_dict())
    return given  # what fits of them is said


def _turned(given: dict[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return weights whose first layer takes red first, of a network that was fed with blue first."""
    first = next((key for key in wanted if key in given and given[key].ndim == 4), None)
    if first is None or given[first].shape[1] != 3:
        raise CnnkitError(
            f"{source} takes blue first, training gives red first, and its first layer is no convolution of "
            "three colours that could be turned"
        )
    return {**given, first: given[first].flip(1)}


class Frozen:
    """A network of which only the heads learn: the other layers' weights and running statistics stay.

    Frozen layers compute as they will when they are used: nothing of them is dropped, no block is skipped,
    and batch norms normalise by their running statistics. `thaw` undoes all of it.
    """

    def __init__(self, module: nn.Module, by_classes: Collection[str] = ()) -> None:
        self._module = module
        tops = heads(module, by_classes)
        self._names = list(tops)
        kept = {id(weight) for top in tops.values() for weight in weights_of(top)}
        self._stopped = [p for p in module.parameters() if p.requires_grad and id(p) not in kept]
        for parameter in self._stopped:
            parameter.requires_grad_(False)
        tails = heads_with_dropout(module, by_classes)
        learning = {id(part) for tail in tails for top in tail for part in top.modules()}
        self._still = [part for part in module.modules() if id(part) not in learning]
        # before each call, since train() of the whole network turns its parts on again
        self._hook = module.register_forward_pre_hook(self._hold)

    @property
    def sentence(self) -> str:
        """Say what learns."""
        count = sum(p.numel() for p in self._module.parameters() if p.requires_grad)
        return f"only {self._learning}: {count:,} parameters"

    @property
    def _learning(self) -> str:
        names = self._names
        return f"{names[0]} learns" if len(names) == 1 else f"{' and '.join(names)} learn"

    def insist_on(self, logits: Tensor) -> None:
        """Raise CnnkitError where what learns takes no part in the answers, so that nothing would."""
        if not logits.requires_grad:
            raise CnnkitError(
                f"under --freeze only {self._learning}, and the answers do not come of that: leave out "
                "--freeze, or build the network so that the layer which gives them is its last one, or is "
                "what its get_classifier() returns"
            )

    def thaw(self) -> str:
        """Let all layers learn again; say how many figures do."""
        for parameter in self._stopped:
            parameter.requires_grad_(True)
        self._hook.remove()
        self._stopped, self._still = [], []
        count = sum(p.numel() for p in self._module.parameters() if p.requires_grad)
        return f"all layers learn from here on: {count:,} parameters"

    def _hold(self, module: nn.Module, given: Any) -> None:
        for part in self._still:
            part.training = False


def _inside(names: Iterable[str], paths: Iterable[str]) -> set[str]:
    """Return the names of weights that are at one of these paths, or lie in a part that is."""
    return {
        name for name in names if any(path in ("", name) or name.startswith(f"{path}.") for path in paths)
    }


def pretrained_hash(model: str, source: str) -> str:
    """Return the SHA-256 of the file that pretrained weights are read from."""
    return hash_file(pretrained_file(model, source))


def pretrained_file(model: str, source: str) -> Path:
    """Return the file that pretrained weights are read from; ImageNet's are fetched where nobody has yet.

    Raises what `insist_on_source` raises.
    """
    insist_on_source(model, source)
    return imagenet_file() if source == IMAGENET else Path(source)


def insist_on_source(model: str, source: str) -> None:
    """Raise what is told of pretrained weights before they are read or fetched.

    NotFoundError where no file is there, CnnkitError for what is none, and for other networks than
    ImageNet's.
    """
    if source != IMAGENET:
        insist_on_weights(Path(source))
    elif not model.startswith("resnet18"):
        raise CnnkitError(f"there are no ImageNet weights for {model}; `--pretrained FILE` takes a file")


def imagenet_file() -> Path:
    """Return the file of torchvision's ImageNet weights, fetched into torch's cache where it is not there."""
    with needs_extra("train"):
        import torch
        from torchvision.models import ResNet18_Weights
    url = str(ResNet18_Weights.IMAGENET1K_V1.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    try:
        if not path.is_file():
            download(url, path)
    except NotFoundError as error:
        raise NotFoundError(
            f"ImageNet's weights are not in {path} and cannot be fetched ({error}); bring that file "
            "from a machine with a network, or name another: `--pretrained FILE`"
        ) from None
    if not is_as_named(path):
        raise CorruptError(f"{path} is not the published file (its SHA-256 differs); delete it")
    return path
