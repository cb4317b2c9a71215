"""Transfer: a network starts from weights that were trained elsewhere, and may learn its head only."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import zoo
from toolkit.artifacts import hash_file
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, needs_extra
from toolkit.fetching import download
from toolkit.models import ModelSpec
from toolkit.weights import few, give, read_weights, unwrap, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = "imagenet"


def load_pretrained(model: str, module: nn.Module, source: str) -> str:
    """Give a network's layers, all but the head, weights that were trained elsewhere; say what fits.

    `source` is `imagenet`, torchvision's weights for the resnets, or a file of weights. A first
    convolution for one channel gets the sum over colours, which answers a grey picture alike. Layers
    of another shape keep their start and are named. Raises NotFoundError where ImageNet's weights are
    neither cached nor reachable, CnnkitError where nothing fits.
    """
    said: list[str] = []
    path = _imagenet(model) if source == IMAGENET else Path(source)
    wanted = module.state_dict()
    inside = {name for name, _ in head(module).named_parameters(prefix=head_name(module))}
    body = {name: value for name, value in wanted.items() if name not in inside}
    given = without_prefix(unwrap(read_weights(path), said), body, said)
    spec = zoo.known(model)
    given = as_built(spec, given, body) if spec else given
    fitting: dict[str, Tensor] = {}
    for key, value in wanted.items():
        found = given.get(key)
        if key in inside or found is None:
            continue
        if found.ndim == 4 and found.shape[1] == 3 and value.shape[1] == 1:
            found = found.sum(dim=1, keepdim=True)
        if found.shape == value.shape:
            fitting[key] = found
    if not any(key.endswith("weight") for key in fitting):
        raise CnnkitError(
            f"none of {model}'s layers but its head has weights in {path}; it holds {few(list(given))}"
        )
    give(module, {**wanted, **fitting})
    left = [key for key in wanted if key not in fitting and not key.endswith("num_batches_tracked")]
    said.append(f"{len(fitting)} of {len(wanted)} tensors from {path}; left at their start: {few(left)}")
    return "; ".join(said)


def as_built(spec: ModelSpec, given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names of the network that is built; published ones may have older names."""
    if spec.published is None or wanted.keys() <= given.keys():
        return given
    with contextlib.suppress(RuntimeError, KeyError, AttributeError, TypeError, ValueError):
        return dict(spec.published.load(given).state_dict())
    return given  # what fits of them is said


def freeze(module: nn.Module) -> str:
    """Let only the head learn: the other layers' weights and running statistics stay; say which it is.

    A frozen batch norm normalises by its running statistics in training, too.
    """
    from torch import nn

    kept = {id(parameter) for parameter in head(module).parameters()}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in kept)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part is not head(module):
            # before each call, since train() of the whole network turns it on again
            part.register_forward_pre_hook(_stay_in_eval)
    count = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return f"only {head_name(module)} learns: {count:,} parameters"


def _stay_in_eval(module: nn.Module, given: Any) -> None:
    module.training = False


def head_name(module: nn.Module) -> str:
    """Return the path of the last layer that holds parameters: the one whose outputs are the classes."""
    named = [
        path
        for path, part in module.named_modules()
        if next(part.parameters(recurse=False), None) is not None
    ]
    if not named:
        raise CnnkitError("the network has no layer that learns")
    return str(named[-1])


def head(module: nn.Module) -> nn.Module:
    """Return the last layer that holds parameters."""
    return module.get_submodule(head_name(module))


def _imagenet(model: str) -> Path:
    """Return the file of torchvision's ImageNet weights, fetched into torch's cache where it is not there."""
    if not model.startswith("resnet18"):
        raise CnnkitError(f"there are no ImageNet weights for {model}; `--pretrained FILE` takes a file")
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
    # torchvision's files carry the beginning of their SHA-256 in their name
    if not hash_file(path).startswith(path.stem.rpartition("-")[2]):
        raise CorruptError(f"{path} is not the published file (its SHA-256 differs); delete it")
    return path
