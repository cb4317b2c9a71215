"""ONNX files read from disk, with errors in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from toolkit.artifacts import hash_file
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, needs_extra
from toolkit.figures import gibibytes_text
from toolkit.graphs.normalising import Normalised, normalise
from toolkit.impostors import other_format, refuse_impostor
from toolkit.presence import is_file

# protobuf cannot hold more in one message; a file beyond it needs external data
LARGEST_BYTES = 2**31 - 1


def load_graph(path: Path, *, weights: bool = True) -> Any:
    """Return the onnx.ModelProto of a file, with its external data unless `weights` is False.

    Raises NotFoundError, CorruptError or CnnkitError in words.
    """
    with needs_extra("export"):
        import onnx
    if not is_file(path):
        raise NotFoundError(f"no file {path}")
    refuse_impostor(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf, OS and onnx errors share no base class
        other = other_format(path)
        why = f"it is {other}" if other else f"it is truncated, or no ONNX file at all ({_first(error)})"
        raise CorruptError(f"{path} is no readable ONNX file: {why}") from None
    outside = [t for t in _tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL]
    sizes = [int(entry.value) for t in outside for entry in t.external_data if entry.key == "length"]
    refuse_too_large(sum(sizes) + path.stat().st_size, path.name)
    if outside and weights:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        except Exception as error:  # a missing or short weights file raises OSError, ValueError …
            raise _unreadable_weights(path, error) from None
    return model


def _unreadable_weights(path: Path, error: Exception) -> CorruptError:
    return CorruptError(f"{path} keeps weights in another file that cannot be read: {_first(error)}")


def read_graph(path: Path) -> Any:
    """Return the onnx.ModelProto of a file, put right. Raises as `read_normalised` does."""
    return read_normalised(path).model


def read_normalised(path: Path, *, before: Callable[[Any], None] = lambda model: None) -> Normalised:
    """Read an ONNX file and put it right; `before` changes it while it is as the file has it.

    Raises as `load_graph` does, CnnkitError for what is no network.
    """
    model = load_graph(path)
    if not model.graph.output:
        raise CnnkitError(f"{path} has no output: it is no network")
    before(model)
    return normalise(model)


def hash_graph(path: Path) -> str:
    """Return the SHA-256 of an ONNX file; one that keeps weights elsewhere counts with those files.

    Such a file holds names and offsets only, and stays the same when its weights change. Raises as
    `load_graph` does.
    """
    import onnx

    outside = {
        entry.value
        for tensor in _tensors(load_graph(path, weights=False).graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if not outside:
        return hash_file(path)
    try:
        hashes = [hash_file(path), *(f"{name}\0{hash_file(path.parent / name)}" for name in sorted(outside))]
    except (FileNotFoundError, CorruptError) as error:
        raise _unreadable_weights(path, error) from None
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every stored tensor of a graph: weights, constants, and those of the graphs in its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def refuse_too_large(size_bytes: int, what: str) -> None:
    """Raise CnnkitError when weights of that size cannot be one ONNX file."""
    if size_bytes > LARGEST_BYTES:
        raise CnnkitError(
            f"{what} holds {gibibytes_text(size_bytes)} of weights; one ONNX file ends at 2 GiB, and an "
            "artifact here is one file: export a smaller network, or convert with torch.onnx.export "
            "(external_data=True) and run that file as it is"
        )
