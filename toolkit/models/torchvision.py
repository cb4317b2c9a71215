"""torchvision's classifiers by name: `torchvision:resnet18`, `torchvision:resnet50.IMAGENET1K_V1`.

Source: https://github.com/pytorch/vision (BSD 3-Clause); each network's paper stands there.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from toolkit.errors import NotFoundError, needs_extra
from toolkit.models import Library, ModelSpec, Published
from toolkit.models._library_recipes import RECIPES
from toolkit.preprocessing import Interpolation, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEME = "torchvision"
# heads that only training uses are left out; weights of these two expect pixels shifted inside the network
_OPTIONS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True, "transform_input": True}
    for name in ("googlenet", "inception_v3")
}
_LEFT_OUT = ("aux1.", "aux2.", "AuxLogits.")
_SHIFTED = (
    "it shifts its pixels inside, as torchvision's published weights and all that began with them expect "
    "(transform_input=True); weights that were trained without need a --model-file that builds it so"
)
# DenseNet's files are older than the names of its layers
_OLD_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\..*)$")


def names(pattern: str) -> Sequence[str]:
    """Return torchvision's classifiers that a pattern fits."""
    with needs_extra("train"):
        from torchvision import models
    return fnmatch.filter(models.list_models(module=models), pattern)


def find(name: str) -> ModelSpec:
    """Return one of torchvision's classifiers. Raises NotFoundError with the nearest match."""
    with needs_extra("train"):
        from torchvision import models
    architecture, _, tag = name.partition(".")
    known = models.list_models(module=models)
    if architecture not in known:
        near = difflib.get_close_matches(architecture.lower(), known, n=1, cutoff=0.5)
        hint = f". Did you mean '{SCHEME}:{near[0]}'?" if near else ""
        raise NotFoundError(
            f"no classifier {architecture!r} in torchvision; `cnnkit models '{SCHEME}:*'` lists them{hint}"
        )
    weights = models.get_model_weights(architecture)
    tags = [entry.name for entry in weights]
    if tag and tag not in tags:
        raise NotFoundError(f"torchvision has no weights {tag!r} of {architecture}; known: {', '.join(tags)}")
    chosen = weights[tag] if tag else weights.DEFAULT
    preprocessing = _preprocessing(chosen)
    classes = len(chosen.meta["categories"] or ()) or 1000
    return ModelSpec(
        name=f"{SCHEME}:{name}",
        family=SCHEME,
        input_shape=(3, *preprocessing.size),
        classes=classes,
        build=partial(_build, architecture),
        dataset=None,
        recipes=RECIPES,
        summary=chosen.name,
        source="torchvision",
        published=Published(
            preprocessing=preprocessing,
            classes=_class_names(chosen),
            files=partial(_files, chosen),
            load=partial(_load, architecture, classes),
            note=_SHIFTED if architecture in _OPTIONS else "",
            training_only=_LEFT_OUT if architecture in _OPTIONS else (),
        ),
    )


def _preprocessing(weights: Any) -> Preprocessing:
    made = weights.transforms()
    crop, resized = made.crop_size[0], made.resize_size[0]
    return Preprocessing(
        size=(crop, crop),
        channels=3,
        resize="crop",
        crop_share=share_of(crop, resized),
        interpolation=cast(Interpolation, made.interpolation.value),
        mean=tuple(made.mean),
        std=tuple(made.std),
        formula="divide",
    )


def share_of(crop: int, resized: int) -> float:
    """Return the share that a crop is of a picture, so that dividing by it gives the picture's whole side."""
    share = crop / resized
    while math.floor(crop / share) < resized:
        share = math.nextafter(share, 0)
    return share


def _class_names(weights: Any) -> tuple[str, ...] | None:
    """Return the names of the classes; those that two classes share get the number of their class, too."""
    words = weights.meta["categories"]
    if not words:
        return None
    return tuple(f"{word} ({at})" if words.count(word) > 1 else word for at, word in enumerate(words))


def _build(architecture: str, channels: int, classes: int) -> nn.Module:
    with needs_extra("train"):
        from torchvision import models
    options = dict(_OPTIONS.get(architecture, {}))
    if options:
        options["transform_input"] = channels == 3
    net: nn.Module = models.get_model(architecture, weights=None, num_classes=classes, **options)
    return net if channels == 3 else _with_channels(net, channels)


def _with_channels(net: nn.Module, channels: int) -> nn.Module:
    """Give the first convolution, which torchvision builds for colours, another number of channels."""
    from torch import nn

    path, first = next((path, part) for path, part in net.named_modules() if isinstance(part, nn.Conv2d))
    taken = nn.Conv2d(
        channels,
        first.out_channels,
        kernel_size=cast("tuple[int, int]", first.kernel_size),
        stride=cast("tuple[int, int]", first.stride),
        padding=cast("tuple[int, int]", first.padding),
        bias=first.bias is not None,
    )
    net.set_submodule(path, taken)
    return net


def _files(weights: Any) -> list[Path]:
    """Return where torch's cache keeps the weights."""
    import torch

    return [Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rpartition("/")[2]]


def _load(architecture: str, classes: int, weights: dict[str, Tensor]) -> nn.Module:
    """Build the network that published weights belong to, and give it those."""
    state = {
        _OLD_NAME.sub(r"\1\2", key): value for key, value in weights.items() if not key.startswith(_LEFT_OUT)
    }
    net = _build(architecture, 3, classes)
    net.load_state_dict(state)
    return net


MODELS = Library(
    scheme=SCHEME,
    summary="lists torchvision's classifiers",
    names=names,
    find=find,
)
