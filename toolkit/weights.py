"""Files of weights from elsewhere, read without running anything in them."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import pickle
import types
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError, CorruptError, NotFoundError, unknown_name
from toolkit.impostors import other_format, refuse_impostor
from toolkit.presence import is_file

if TYPE_CHECKING:
    from torch import Tensor, nn

# what torch.save and Lightning write
WEIGHTS_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
# Where training scripts keep the weights inside a larger dictionary, in the order of preference: averaged
# weights first, because those are the ones that a script scores and reports.
INSIDE = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema"),
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights"),
    "module",
)
# what else in such a file holds named tensors, by the beginning of its name
_BESIDE = ("optim", "lr_", "sched", "scaler", "grad", "callbacks", "loops")
# What DataParallel and AveragedModel, and torch.compile, put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
# How many batches, or averaged models, a wrapper has seen; no weight of the network.
_COUNTERS = ("n_averaged",)
_DEEPEST = 4
# how the formats that torch.save writes are told
_TORCH_FORMATS = ("a zip", "a pickle")
# in what torch says where a file asks for more than values
_REFUSALS = ("GLOBAL", "Can only", "unrecognized function")


def read_weights(path: Path) -> dict[str, Any]:
    """Read a .pth, .pt, .ckpt or .safetensors file without running anything in it; return what it holds.

    Raises NotFoundError, CorruptError where it is something else or damaged, CnnkitError where it holds more
    than weights and plain values.
    """
    insist_on_weights(path)
    found = _of_safetensors(path) if path.suffix == ".safetensors" else _of_torch(path)
    if not isinstance(found, dict):
        raise CnnkitError(f"{path} holds a {type(found).__name__} and no named weights (a state_dict)")
    return found


def insist_on_weights(path: Path) -> None:
    """Raise NotFoundError, CorruptError or CnnkitError for what is no file of weights, as far as it is told.

    The file is not read.
    """
    if not is_file(path):
        raise NotFoundError(f"no file {path}; weights are .pth, .pt, .ckpt and .safetensors files")
    if path.suffix == ".onnx":
        raise CnnkitError(f"{path} is a whole network: `cnnkit export {path}` takes it")
    refuse_impostor(path)


def _of_safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # safetensors raises many kinds on damaged files
        raise _damaged(path, error) from None


def _of_torch(path: Path) -> Any:
    """Read what torch.save wrote. Nothing that torch says comes through: it advises to run the file."""
    import torch

    _refuse_archives(path)
    try:
        with plain_values_admitted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages and of slow checks, on which nobody here can act
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if other := _other(path):
            raise CorruptError(f"{path} is {other}") from None
        classes = _classes_in(path)
        if classes or zipfile.is_zipfile(path) or any(word in str(error) for word in _REFUSALS):
            what = f"Python objects ({few(classes)})" if classes else "Python objects"
            raise CnnkitError(
                f"{path} holds {what} and not only weights, and opening those runs code; save it "
                "again where it was made, as torch.save(model.state_dict(), FILE)"
            ) from None
        raise CorruptError(f"{path} is no file of weights, or damaged; copy it anew") from None
    except Exception as error:  # torch raises many kinds on damaged files
        raise _damaged(path, error) from None


def _other(path: Path) -> str | None:
    """Say in which other format a file is; None for the one that its name says, and for what is not known."""
    other = other_format(path)
    own = ("a safetensors",) if path.suffix == ".safetensors" else _TORCH_FORMATS
    return None if other is not None and other.startswith(own) else other


def _damaged(path: Path, error: Exception) -> CorruptError:
    if other := _other(path):
        return CorruptError(f"{path} is {other}")
    return CorruptError(f"{path} is no file of weights, or damaged ({type(error).__name__}); copy it anew")


def _refuse_archives(path: Path) -> None:
    """Raise CnnkitError for programs, which look like weights and are opened by running them."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:  # its end is there, and what that points to is not
        raise _damaged(path, error) from None
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CnnkitError(
            f"{path} is a TorchScript program, and opening it runs code; where it was made, "
            "torch.save(model.state_dict(), FILE) writes its weights, torch.onnx.export the network"
        )
    if not any(name.endswith("data.pkl") for name in names):
        if names and all(name.endswith(".npy") for name in names):
            raise CnnkitError(
                f"{path} holds numpy arrays (.npz); write them as "
                "`safetensors.numpy.save_file(dict(numpy.load(FILE)), 'weights.safetensors')`"
            )
        inner = next((name for name in names if Path(name).suffix in WEIGHTS_SUFFIXES), None)
        more = f": unpack it, weights seem to be in {inner}" if inner else " that holds no weights"
        raise CnnkitError(f"{path} is a zip archive{more}")


def _classes_in(path: Path) -> list[str]:
    """Return what a file of torch.save would have to import; nothing of it is imported or run."""
    import torch

    with contextlib.suppress(Exception), plain_values_admitted():
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return []


@contextlib.contextmanager
def plain_values_admitted() -> Iterator[None]:
    """Let torch read what training scripts save beside weights: options, paths, numpy's numbers and arrays.

    These classes hold values and run nothing. Whatever else a file names stays refused.
    """
    import torch

    with torch.serialization.safe_globals(_plain_values()):
        yield


def _plain_values() -> list[Any]:
    import numpy as np
    from numpy._core import multiarray

    dtypes = [
        kind
        for name, kind in vars(np.dtypes).items()
        if isinstance(kind, type) and name not in ("ObjectDType", "VoidDType")
    ]
    paths = ((PurePosixPath, "PosixPath"), (PureWindowsPath, "WindowsPath"))
    moved = ((multiarray.scalar, "multiarray.scalar"), (multiarray._reconstruct, "multiarray._reconstruct"))
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        *((kind, f"{place}.{name}") for kind, name in paths for place in ("pathlib", "pathlib._local")),
        *(PurePosixPath, PureWindowsPath),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(np.dtype, np.ndarray, *dtypes),
        # numpy 1 and 2 keep these two in different places
        *((what, f"numpy.{core}.{name}") for what, name in moved for core in ("core", "_core")),
    ]


def unwrap(found: Mapping[str, Any], said: list[str], *, key: str | None = None) -> dict[str, Tensor]:
    """Return the weights inside what a training script saved, without wrappers' prefixes, in fp32.

    `key` names the part of the file that holds them; None takes the first of INSIDE that there is. `said`
    hears what was taken for what. Raises NotFoundError, CnnkitError, CorruptError.
    """
    import torch

    found = _inner(found, said, key)
    state = {_text(key): _dense(value, said) for key, value in found.items() if _is_weight(value)}
    if not state:
        state = {_text(key): torch.from_numpy(value) for key, value in found.items() if _is_array(value)}
    if not state:
        raise CnnkitError("the file holds no weights: no tensor in it has a name")
    state = _unwrapped(state, said)
    broken = [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise CorruptError(f"these weights hold NaN or infinity: {few(broken)}; take an earlier checkpoint")
    kinds = {str(v.dtype).removeprefix("torch.") for v in state.values() if v.is_floating_point()}
    if kinds - {"float32"}:
        said.append(f"{', '.join(sorted(kinds))} weights become float32")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _inner(found: Mapping[str, Any], said: list[str], wanted: str | None) -> Mapping[str, Any]:
    """Return the dictionary of weights inside what was saved, as deep as it lies."""
    path: list[str] = []
    for part in wanted.split("/") if wanted else ():
        inside = {str(name): value for name, value in found.items() if isinstance(value, Mapping)}
        if part not in inside:
            raise unknown_name("part of the file", part, inside)
        found = inside[part]
        path.append(part)
    while len(path) < _DEEPEST:
        holding = {
            str(key): value
            for key, value in found.items()
            if _holds_weights(value) and not str(key).lower().startswith(_BESIDE)
        }
        key = next((key for key in INSIDE if key in holding), None)
        named = any(_is_weight(value) for value in found.values())
        if key is None and not named and len(holding) > 1:
            raise CnnkitError(
                f"the file holds weights in several parts: {few(list(holding))}; --key NAME takes one"
            )
        if key is None:
            key = None if named else next(iter(holding), None)
        if key is None:
            break
        others = [other for other in holding if other != key and other in INSIDE]
        more = f" (also in it: {few(others)}; --key NAME takes another)" if others and not wanted else ""
        path.append(key)
        said.append(f"weights are under {'/'.join(path)!r} in the file{more}")
        found = holding[key]
    return found


def _text(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _is_array(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu"


def _dense(value: Tensor, said: list[str]) -> Tensor:
    """Return a weight as an ordinary tensor. Raises CnnkitError for complex numbers."""
    import torch

    if value.is_complex():
        raise CnnkitError("the file holds complex numbers, which no network here computes with")
    if value.is_quantized:
        note = "quantised weights are read as the floats that they stand for"
        said.extend([note] if note not in said else [])
        return value.dequantize()
    return value if value.layout == torch.strided else value.to_dense()


def _is_weight(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _holds_weights(value: Any, depth: int = 0) -> bool:
    """Tell whether a value is a dictionary with named tensors in it, or in one of its dictionaries."""
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return False
    named = any(isinstance(key, str) and _is_weight(inner) for key, inner in value.items())
    return named or any(
        isinstance(key, str) and _holds_weights(inner, depth + 1) for key, inner in value.items()
    )


def _unwrapped(state: dict[str, Tensor], said: list[str]) -> dict[str, Tensor]:
    """Take off what wrappers put before every name, and the counts that they keep of themselves."""
    counters = [name for name in _COUNTERS if name in state]
    kept = {key: value for key, value in state.items() if key not in counters}
    if counters and kept:
        said.append(f"{few(counters)} is a count of the averaging and left out")
        state = kept
    again = True
    while again:
        again = False
        for prefix in _WRAPPERS:
            if all(key.startswith(prefix) for key in state):
                said.append(f"{prefix!r} is taken off every name")
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                again = True
    return state


def without_prefix(
    state: dict[str, Tensor], wanted: Mapping[str, Tensor], said: list[str]
) -> dict[str, Tensor]:
    """Take one prefix off, such as Lightning's `model.`, where every wanted weight is there behind it.

    Weights that do not begin with it are of something else, such as a loss, and are left out, which `said`
    hears. Names that fit as they are, or behind no single prefix, stay.
    """
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    if not needed or needed <= state.keys():
        return state
    first = min(needed)
    for prefix in (key.removesuffix(first) for key in state if key.endswith(f".{first}")):
        if all(prefix + name in state for name in needed):
            left = [key for key in state if not key.startswith(prefix)]
            said.append(f"{prefix!r} is taken off every name" + (f"; left out: {few(left)}" if left else ""))
            return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    return state


def give(module: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Give a module weights by name, in the form that its layers write them now.

    A plain dictionary does not tell in which form it is, and some layers take that for an old one. Raises
    RuntimeError where names or shapes do not fit.
    """
    own = module.state_dict()
    found = OrderedDict(state)
    found._metadata = own._metadata  # type: ignore[attr-defined]  # torch's own place for it
    module.load_state_dict(found, assign=assign)


def unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of which no two share their memory, as safetensors asks for: tied weights are copied."""
    found: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, value in state.items():
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in memory else value
        memory.add(place)
    return found


def few(names: Sequence[str]) -> str:
    """Name the first eight, and say how many there are."""
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
