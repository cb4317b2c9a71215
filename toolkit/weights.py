"""Files of weights from elsewhere, read without running anything in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError, CorruptError, NotFoundError

if TYPE_CHECKING:
    from torch import Tensor

# what torch.save writes
WEIGHTS_SUFFIXES = (".pth", ".pt")
# Where training scripts keep the weights inside a larger dictionary.
_INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
# What DataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: Path) -> dict[str, Any]:
    """Read a .pth, .pt or .safetensors file without running anything in it; return what it holds."""
    import torch

    if not path.is_file():
        raise NotFoundError(f"no file {path}; weights are .pth, .pt and .safetensors files")
    if path.suffix == ".onnx":
        raise CnnkitError(f"{path} is a whole network: `cnnkit export {path}` takes it")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = str(error).splitlines()[0]
        if zipfile.is_zipfile(path):
            raise CnnkitError(
                f"{path} holds Python objects and not only weights, and opening those runs code; save it "
                "again where it was made, as torch.save(model.state_dict(), FILE)"
            ) from None
        raise CorruptError(f"{path} is no file of weights, or damaged: {why}") from None
    except Exception as error:  # torch and safetensors raise many kinds on damaged files
        why = f"{type(error).__name__}: {str(error).split('. ')[0]}"
        raise CorruptError(f"{path} is no file of weights, or damaged ({why}); copy it anew") from None
    if not isinstance(found, dict):
        raise CnnkitError(f"{path} holds a {type(found).__name__} and no named weights (a state_dict)")
    return found


def unwrap(found: dict[str, Any], said: list[str]) -> dict[str, Tensor]:
    """Return the weights inside what a training script saved, without wrappers' prefixes, in fp32."""
    import torch

    for key in _INSIDE:
        inner = found.get(key)
        if isinstance(inner, dict) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            said.append(f"weights are under {key!r} in the file")
            found = inner
            break
    state = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise CnnkitError("the file holds no weights: no tensor in it has a name")
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            said.append(f"{prefix!r} is taken off every name")
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    broken = [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise CorruptError(f"these weights hold NaN or infinity: {few(broken)}; take an earlier checkpoint")
    kinds = {str(v.dtype).removeprefix("torch.") for v in state.values() if v.is_floating_point()}
    if kinds - {"float32"}:
        said.append(f"{', '.join(sorted(kinds))} weights become float32")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def few(names: Sequence[str]) -> str:
    """Name the first eight, and say how many there are."""
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
