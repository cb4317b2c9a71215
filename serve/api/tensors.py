"""Open Inference Protocol tensors: JSON or binary → a checked array, and arrays → the reply.

Stricter than the protocol's reference server: lying sizes, wrong types and numbers that are not
finite are the client's mistakes (400), never an error of this server or a NaN in an answer.
"""

from __future__ import annotations

import functools
import math
import reprlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serve.api import RefusedError
from serve.api.tensor_data import check_finite, from_json
from toolkit.artifacts import TensorSpec
from toolkit.figures import shape_text

DATATYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bool": "BOOL",
}
# looked up by dtype, because a dtype's name is worked out anew each time
_BY_DTYPE = {np.dtype(name): datatype for name, datatype in DATATYPES.items()}
MAX_DIGITS = 12
# clients of binary tensors send the same few bytes of JSON again and again
MOST_KEPT = 64
LONGEST_KEPT = 1_024


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One output as it was asked for: as numbers or as `classes` best labels, in JSON or binary."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A checked request: rows of the model's own shape and dtype, and what to answer."""

    rows: NDArray[Any]
    wanted: tuple[Wanted, ...]
    ident: str | None
    deadline_s: float | None


def split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    """Return the JSON part of a body and its binary tail. Raises RefusedError."""
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isdigit() or len(header_length) > MAX_DIGITS or int(header_length) > len(body):
        raise RefusedError(400, "Inference-Header-Content-Length does not fit the body")
    at = int(header_length)
    return body[:at], memoryview(body)[at:]


def parse(head: bytes, tail: memoryview, spec: TensorSpec, outputs: Sequence[str]) -> InferRequest:
    """Check a request against the model's input and outputs. Raises RefusedError (400)."""
    if not head:  # the raw binary request: the body is the one input
        return _parse_raw(tail, spec, outputs)
    try:
        data = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the request is no JSON: {error}") from None
    inputs = data.get("inputs") if isinstance(data, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RefusedError(400, f"inputs must be a list of one tensor, {spec.name!r}")
    # a look for a letter that hardly any request has costs a hundredth of a look at every value
    bools = (b"r" in head and b"true" in head) or (b"l" in head and b"false" in head)
    rows, used = _rows(inputs[0], tail, spec, bools=bools)
    if used != len(tail):
        raise RefusedError(400, f"{len(tail)} binary bytes came, the request speaks of {used}")
    parameters = _object(data, "parameters")
    ident = data.get("id")
    if ident is not None and not isinstance(ident, str):
        raise RefusedError(400, "id must be a string")
    return InferRequest(
        rows=rows,
        wanted=_wanted(data.get("outputs"), outputs, binary=_flag(parameters, "binary_data_output")),
        ident=ident,
        deadline_s=_deadline(parameters),
    )


class Parser:
    """`parse` for one model: what the JSON beside binary rows says is read once for equal bytes.

    Only requests that passed every check are kept, and the rows themselves are checked each time.
    """

    def __init__(self, spec: TensorSpec, outputs: Sequence[str]) -> None:
        self.spec = spec
        self.outputs = tuple(outputs)
        self._dtype = np.dtype(spec.dtype)
        self._kept: dict[bytes, tuple[int, tuple[int, ...], InferRequest]] = {}

    def parse(self, head: bytes, tail: memoryview) -> InferRequest:
        """Check a request against the model's input and outputs. Raises RefusedError (400)."""
        kept = self._kept.get(head)
        if kept is not None and kept[0] == len(tail):
            rows = np.frombuffer(tail, dtype=self._dtype).reshape(kept[1])
            check_finite(rows, self.spec.name)
            known = kept[2]
            return InferRequest(
                rows=rows, wanted=known.wanted, ident=known.ident, deadline_s=known.deadline_s
            )
        asked = parse(head, tail, self.spec, self.outputs)
        if len(tail) and 0 < len(head) <= LONGEST_KEPT and asked.ident is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            nothing = np.empty(0, self._dtype)  # the rows are the request's own and are not held
            held = InferRequest(rows=nothing, wanted=asked.wanted, ident=None, deadline_s=asked.deadline_s)
            self._kept[head] = (len(tail), asked.rows.shape, held)
        return asked


def _object(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RefusedError(400, f"{key} must be an object")
    return value


def _flag(parameters: dict[str, Any], key: str) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise RefusedError(400, f"{key} must be true or false")
    return value


def _deadline(parameters: dict[str, Any]) -> float | None:
    """Return the protocol's `timeout` (microseconds) in seconds; 0 means none."""
    value = parameters.get("timeout", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**MAX_DIGITS:
        raise RefusedError(400, "timeout must be a whole number of microseconds")
    return value / 1e6 if value else None


def _parse_raw(tail: memoryview, spec: TensorSpec, outputs: Sequence[str]) -> InferRequest:
    dtype = np.dtype(spec.dtype)
    size = math.prod(n or 1 for n in spec.shape[1:]) * dtype.itemsize
    if not tail or len(tail) % size:
        raise RefusedError(400, f"{len(tail)} bytes are no whole rows of {size} bytes")
    rows = np.frombuffer(tail, dtype=dtype).reshape(len(tail) // size, *(n or 1 for n in spec.shape[1:]))
    check_finite(rows, spec.name)
    wanted = tuple(Wanted(name=name, binary=True) for name in outputs)
    return InferRequest(rows=rows, wanted=wanted, ident=None, deadline_s=None)


def _rows(
    tensor: dict[str, Any], tail: memoryview, spec: TensorSpec, *, bools: bool
) -> tuple[NDArray[Any], int]:
    """Return an input as rows of the model's dtype, and how many binary bytes it took."""
    if tensor.get("name") != spec.name:
        raise RefusedError(400, f"no input {_shown(tensor.get('name'))!r}; this model takes {spec.name!r}")
    datatype = DATATYPES.get(spec.dtype, spec.dtype.upper())
    if tensor.get("datatype") != datatype:
        raise RefusedError(400, f"input {spec.name!r} is {datatype}, not {_shown(tensor.get('datatype'))}")
    shape = _shape(tensor.get("shape"), spec)
    parameters = _object(tensor, "parameters")
    if "shared_memory_region" in parameters:
        raise RefusedError(400, "shared memory is not offered; send the data in the body")
    count = math.prod(shape)
    if "binary_data_size" in parameters:
        size = parameters["binary_data_size"]
        dtype = np.dtype(spec.dtype)
        if type(size) is not int or size != count * dtype.itemsize or size > len(tail):
            raise RefusedError(400, f"binary_data_size does not fit the shape {shape} or the body")
        if "data" in tensor:
            raise RefusedError(400, "a tensor is either binary or has data, not both")
        rows = np.frombuffer(tail[:size], dtype=dtype).reshape(shape)
        check_finite(rows, spec.name)
        return rows, size
    return from_json(tensor.get("data"), shape, spec, bools=bools), 0


def _shape(shape: Any, spec: TensorSpec) -> tuple[int, ...]:
    fits = (
        isinstance(shape, list)
        and len(shape) == len(spec.shape)
        and all(type(have) is int for have in shape)
        and min(shape[1:], default=1) > 0
        and all(want is None or want == have for want, have in zip(spec.shape, shape, strict=True))
    )
    if not fits:
        wanted = shape_text(spec.shape)
        raise RefusedError(400, f"input {spec.name!r} takes the shape {wanted}, not {_shown(shape)}")
    if not 1 <= shape[0] < 10**9:
        raise RefusedError(400, f"a batch of {shape[0]} is none; send 1 picture or more")
    return tuple(shape)


def _shown(value: Any) -> str:
    """Return a client's value in a few words: its whole text may be long, or nested too deep for Python."""
    return value[:80] if isinstance(value, str) else reprlib.repr(value)


def _wanted(asked: Any, outputs: Sequence[str], *, binary: bool) -> tuple[Wanted, ...]:
    if not asked and asked in (None, []):
        return tuple(Wanted(name=name, binary=binary) for name in outputs)
    if not isinstance(asked, list) or not all(isinstance(entry, dict) for entry in asked):
        raise RefusedError(400, "outputs must be a list of objects with a name")
    found: list[Wanted] = []
    for entry in asked:
        name, parameters = entry.get("name"), _object(entry, "parameters")
        if name not in outputs or any(done.name == name for done in found):
            raise RefusedError(400, f"no output {_shown(name)!r}, or twice; known: {', '.join(outputs)}")
        if "shared_memory_region" in parameters:
            raise RefusedError(400, "shared memory is not offered; read the data from the reply")
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise RefusedError(400, "classification must be a whole number")
        one = _flag(parameters, "binary_data") if "binary_data" in parameters else binary
        found.append(Wanted(name=name, binary=one, classes=classes))
    return tuple(found)


def render(
    head: dict[str, str], answers: Sequence[tuple[Wanted, NDArray[Any]]], labels: Sequence[str]
) -> tuple[bytes, int | None]:
    """Return a reply's body and, where it has a binary tail, the length of its JSON part."""
    # an id is the caller's, of any length, and is not kept
    if "id" not in head and all(wanted.binary and not wanted.classes for wanted, _ in answers):
        parts = tuple((w.name, _BY_DTYPE[a.dtype], a.shape, a.nbytes) for w, a in answers)
        start = _binary_head(tuple(head.items()), parts)
        return b"".join((start, *(a.tobytes() for _, a in answers))), len(start)
    tails: list[bytes] = []
    outputs = []
    for wanted, array in answers:
        entry: dict[str, Any] = {"name": wanted.name}
        if wanted.classes:
            texts = _classify(array, wanted.classes, labels)
            entry |= {"datatype": "BYTES", "shape": [len(array), len(texts) // len(array)]}
            data: Any = texts
            raw = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
        else:
            entry |= {"datatype": _BY_DTYPE[array.dtype], "shape": list(array.shape)}
            contiguous = np.ascontiguousarray(array)
            # orjson writes no float16; its values are exact in float32
            flat = contiguous.ravel()
            data = flat.astype(np.float32) if array.dtype == np.float16 else flat
            raw = contiguous.tobytes() if wanted.binary else b""
        if wanted.binary:
            entry["parameters"] = {"binary_data_size": len(raw)}
            tails.append(raw)
        else:
            entry["data"] = data
        outputs.append(entry)
    body = orjson.dumps({**head, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (body + b"".join(tails), len(body)) if tails else (body, None)


@functools.lru_cache(maxsize=MOST_KEPT)
def _binary_head(
    head: tuple[tuple[str, str], ...], parts: tuple[tuple[str, str, tuple[int, ...], int], ...]
) -> bytes:
    """Return the JSON before binary outputs, each a name, datatype, shape and size in bytes."""
    outputs = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, kind, shape, size in parts
    ]
    return orjson.dumps({**dict(head), "outputs": outputs})


def _classify(array: NDArray[Any], count: int, labels: Sequence[str]) -> list[str]:
    """Return `value:index:label` of each row's `count` largest values, row after row."""
    texts = []
    for row in array.reshape(len(array), -1):
        for index in np.argsort(-row.astype(np.float64), kind="stable")[:count]:
            label = labels[index] if index < len(labels) else ""
            texts.append(f"{float(row[index]):f}:{index}:{label}")
    return texts
