"""Open Inference Protocol answers: arrays → JSON, with what was asked for in binary behind it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serve.api.infer_request import WantedOutput
from serve.api.messages import InferReply, OutputSize, OutputTensor
from serve.api.tensor_data import BY_DTYPE


def render(
    reply: InferReply, answers: Sequence[tuple[WantedOutput, NDArray[Any]]], labels: Sequence[str]
) -> tuple[bytes, int | None]:
    """Return the body of a reply without outputs and, where it has a binary tail, its JSON's length."""
    tails: list[bytes] = []
    for wanted, array in answers:
        texts = _classify(array, wanted.classes, labels) if wanted.classes else None
        kind = "BYTES" if texts is not None else BY_DTYPE[array.dtype]
        shape = list(array.shape) if texts is None else [len(array), len(texts) // len(array)]
        output = OutputTensor(name=wanted.name, datatype=kind, shape=shape)
        if wanted.binary:
            raw = array.tobytes() if texts is None else b"".join(map(_counted, texts))
            output.parameters = OutputSize(len(raw))
            tails.append(raw)
        else:
            output.data = array.ravel().tolist() if texts is None else texts
        reply.outputs.append(output)
    body = msgspec.json.encode(reply)
    return (b"".join((body, *tails)), len(body)) if tails else (body, None)


def _counted(text: str) -> bytes:
    """Return a text as the protocol's BYTES: its length, then its UTF-8."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _classify(array: NDArray[Any], count: int, labels: Sequence[str]) -> list[str]:
    """Return `value:index:label` of each row's `count` largest values, row after row."""
    texts = []
    for row in array.reshape(len(array), -1):
        for index in np.argsort(-row.astype(np.float64), kind="stable")[:count]:
            label = labels[index] if index < len(labels) else ""
            texts.append(f"{float(row[index]):f}:{index}:{label}")
    return texts
