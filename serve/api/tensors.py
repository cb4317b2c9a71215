"""Tensors of the protocol: JSON data → rows of the model's own dtype, or why not; arrays → JSON and bytes.

Nothing is made of a client's values before their number and their types are known: numpy would give a
list of texts as many bytes for each as the longest of them takes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serve.api import RefusedError
from serve.api.messages import InferReply, OutputSize, OutputTensor
from toolkit.answering import decisions
from toolkit.passports import Passport, TensorSpec

DATATYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bool": "BOOL",
}
# looked up by dtype, because a dtype's name is worked out anew each time
BY_DTYPE = {np.dtype(name): datatype for name, datatype in DATATYPES.items()}
# up to this size one dot product, in this thread, tells sooner than a look at every number
DOT_UP_TO = 4_096
# what JSON must hold for each kind of dtype; a bool is an int to Python, but not to the protocol
ALLOWED: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
}

VALUES: dict[str, msgspec.json.Decoder[list[Any]]] = {
    "b": msgspec.json.Decoder(list[bool]),
    "i": msgspec.json.Decoder(list[int | float]),
    "u": msgspec.json.Decoder(list[int | float]),
    "f": msgspec.json.Decoder(list[float]),
}
NO_STRUCTURE = bytes(set(range(256)) - set(b"[],"))


def datatype(spec: TensorSpec) -> str:
    """Return the protocol's word for a tensor's dtype."""
    return DATATYPES.get(spec.dtype, spec.dtype.upper())


def from_json(data: list[Any], shape: tuple[int, ...], spec: TensorSpec, *, bools: bool) -> NDArray[Any]:
    """Return parsed JSON data, flat or nested as `shape`, as rows. Raises RefusedError (400).

    `bools` says that there are true or false among the request's values, maybe among these.
    """
    dtype = np.dtype(spec.dtype)
    values = _flat(data, shape)
    rows = None if bools or dtype != np.float32 else _packed(values)
    if rows is not None:  # JSON has no infinite numbers, and packing refuses what float32 cannot hold
        return rows.reshape(shape)
    _check_types(values, dtype, shape)
    wide = np.dtype(np.float64) if dtype.kind == "f" else dtype
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused next
            rows = np.array(values, dtype=wide).astype(dtype, copy=False)
    except OverflowError:  # of a whole number that no float reaches
        raise _not_finite(spec.name) from None
    check_finite(rows, spec.name)
    return rows.reshape(shape)


def is_mostly_structure(text: bytes) -> bool:
    """Tell whether JSON holds so many lists, objects and texts that Python's would be far larger."""
    letters = np.frombuffer(text, np.uint8)
    # all brackets lie beyond the digits, and what marks numbers lies before them
    structure = np.count_nonzero(letters > ord("9")) + np.count_nonzero(letters == ord('"'))
    return bool(structure * 20 > len(text))  # rows of 28 numbers are fewer


def numbers(data: msgspec.Raw, shape: tuple[int, ...], spec: TensorSpec) -> list[Any]:
    """Return the values of JSON data, flat or nested as `shape`, in one list, and make no other.

    Raises RefusedError (400).
    """
    text, count, kind = bytes(data), math.prod(shape), np.dtype(spec.dtype).kind
    structure = text.translate(None, NO_STRUCTURE)
    if count <= len(text) and structure in (_brackets((count,)), _brackets(shape)):
        with contextlib.suppress(msgspec.DecodeError):
            return VALUES[kind].decode(b"[%b]" % text.translate(None, b"[]"))
    raise _no_numbers(shape, "true or false" if kind == "b" else "numbers")


def _brackets(shape: tuple[int, ...]) -> bytes:
    """Return nested data of a shape without its values."""
    inner = b""
    for length in reversed(shape):
        inner = b"[%b%b]" % (inner, (b"," + inner) * (length - 1))
    return inner


def _packed(values: list[Any]) -> NDArray[Any] | None:
    """Return numbers as float32; None for all else, which is then looked at one by one.

    Packing takes a third of what np.array takes for 784 numbers, and refuses what is no number or bool; in a
    named order of bytes, also what float32 cannot hold.
    """
    try:
        return np.frombuffer(struct.pack(f"<{len(values)}f", *values), dtype="<f4")
    except (struct.error, OverflowError):
        return None


def _flat(data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return the values of flat or nested data in one list; looks at lengths alone, level by level."""
    if data and not isinstance(data[0], list):
        if len(data) != math.prod(shape):
            raise RefusedError(400, f"data has {len(data)} values, the shape {list(shape)} says otherwise")
        return data
    if len(data) != shape[0]:
        raise RefusedError(400, f"data has {len(data)} rows, the shape {list(shape)} says otherwise")
    for length in shape[1:]:
        if not all(type(inner) is list and len(inner) == length for inner in data):
            raise _no_numbers(shape)
        data = list(itertools.chain.from_iterable(data))
    return data


def _check_types(values: list[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    found = set(map(type, values))
    if dtype.kind in "iu" and found <= {int, float}:
        info = np.iinfo(dtype)
        if float in found or min(values) < info.min or max(values) > info.max:
            raise RefusedError(400, f"data must be whole numbers from {info.min} to {info.max}")
    if not found <= ALLOWED[dtype.kind]:
        raise _no_numbers(shape, "true or false" if dtype.kind == "b" else "numbers")


def _no_numbers(shape: tuple[int, ...], what: str = "numbers") -> RefusedError:
    return RefusedError(400, f"data must be {what}, flat or nested as the shape {list(shape)}")


def finite(array: NDArray[Any]) -> bool:
    """Tell whether no number is NaN or infinite."""
    if array.dtype.kind != "f":
        return True
    # NaN and infinity survive squaring and adding; what overflows is looked at. vdot warns of no overflow,
    # so that it needs no errstate, which costs more than the product
    if array.dtype == np.float32 and array.size <= DOT_UP_TO and math.isfinite(np.vdot(array, array)):
        return True
    return bool(np.isfinite(array).all())


def check_finite(rows: NDArray[Any], name: str) -> None:
    """Raise RefusedError (400) where a number is NaN or infinite."""
    if not finite(rows):
        raise _not_finite(name)


def _not_finite(name: str) -> RefusedError:
    return RefusedError(400, f"input {name!r} holds NaN or infinite numbers")


class WantedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output as it was asked for: as numbers or as `classes` best labels, in JSON or binary."""

    name: str
    binary: bool = False
    classes: int = 0


def render(
    reply: InferReply, answers: Sequence[tuple[WantedOutput, NDArray[Any]]], passport: Passport
) -> tuple[bytes, int | None]:
    """Return the body of a reply without outputs and, where it has a binary tail, its JSON's length."""
    tails: list[bytes] = []
    for wanted, array in answers:
        texts = best_labels(wanted, array, passport) if wanted.classes else None
        output = OutputTensor(
            name=wanted.name,
            datatype=BY_DTYPE[array.dtype] if texts is None else "BYTES",
            shape=list(array.shape) if texts is None else [len(array), len(texts) // len(array)],
        )
        if wanted.binary:
            raw = array.tobytes() if texts is None else as_bytes(texts)
            output.parameters = OutputSize(len(raw))
            tails.append(raw)
        else:
            output.data = array.ravel().tolist() if texts is None else texts
        reply.outputs.append(output)
    body = msgspec.json.encode(reply)
    return (b"".join((body, *tails)), len(body)) if tails else (body, None)


def as_bytes(texts: Sequence[str]) -> bytes:
    """Return texts as the protocol's BYTES: each one's length, then its UTF-8."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(data)) + data for data in encoded)


def best_labels(wanted: WantedOutput, array: NDArray[Any], passport: Passport) -> list[str]:
    """Return `value:index:label` of each row's largest values, as many as are wanted, row after row.

    One score decides between two classes by its threshold. Only the scores have labels: what is beside them
    is answered as `value:index`.
    """
    rows = array.reshape(len(array), -1)
    scores, labels = wanted.name == passport.output.name, passport.classes
    if scores and rows.shape[1] == 1:
        best = decisions(rows, probable=bool(passport.softmax))[:, None]
        return [_best(row[0], index[0], labels) for row, index in zip(rows, best, strict=True)]
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : wanted.classes]
    known = labels if scores and len(labels) == rows.shape[1] else ()
    return [
        _best(row[index], index, known) for row, indices in zip(rows, best, strict=True) for index in indices
    ]


def _best(value: float, index: int, labels: Sequence[str]) -> str:
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{float(value):f}:{index}{label}"
