"""Open Inference Protocol requests: JSON, with or without a binary tail, or raw → rows and what to answer.

Stricter than the protocol's reference server: lying sizes, wrong types and numbers that are not
finite are the client's mistakes (400), never an error of this server or a NaN in an answer.
"""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serve.api import RefusedError
from serve.api.bodies import SMALL, read
from serve.api.messages import (
    InferParameters,
    InferRequest,
    InputParameters,
    InputTensor,
    OutputParameters,
    RequestedOutput,
)
from serve.api.tensors import (
    WantedOutput,
    check_finite,
    datatype,
    from_json,
    is_mostly_structure,
    numbers,
)
from toolkit.figures import shape_text
from toolkit.passports import TensorSpec

MAX_DIGITS = 12
MOST_KEPT = 64
LONGEST_KEPT = 1_024
DECODER = msgspec.json.Decoder(InferRequest)


class UnreadTensor(InputTensor, kw_only=True):
    """An input whose data are not made lists before their number is known."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]  # lists, once they are


class UnreadRequest(InferRequest, kw_only=True):
    """A request whose data are not made lists yet."""

    inputs: Annotated[list[UnreadTensor], msgspec.Meta(min_length=1, max_length=1)]  # type: ignore[assignment]


UNREAD_DECODER = msgspec.json.Decoder(UnreadRequest)


class AskedInference(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's JSON says, checked, but for its data."""

    shape: tuple[int, ...]
    wanted: tuple[WantedOutput, ...]
    ident: str | None = None
    deadline_s: float | None = None


def split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    """Return the JSON part of a body and its binary tail. Raises RefusedError."""
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isdigit() or len(header_length) > MAX_DIGITS or int(header_length) > len(body):
        raise RefusedError(400, "Inference-Header-Content-Length does not fit the body")
    at = int(header_length)
    return body[:at], memoryview(body)[at:]


class Parser:
    """Reads requests to one model, whose input and outputs it knows."""

    def __init__(self, spec: TensorSpec, outputs: Sequence[str]) -> None:
        self.spec = spec
        self.outputs = tuple(outputs)
        self._dtype = np.dtype(spec.dtype)
        self._datatype = datatype(spec)
        self._row = list(spec.shape[1:])
        self._everything = {
            binary: tuple(WantedOutput(name=name, binary=binary) for name in outputs)
            for binary in (False, True)
        }
        # clients of binary tensors send the same few bytes of JSON again and again
        self._kept = functools.lru_cache(MOST_KEPT)(self._read)
        one = f"inputs must be a list of one tensor, {spec.name!r}"
        self._words = {
            "": one,
            "inputs": one,
            "shape": f"input {spec.name!r} takes the shape {shape_text(spec.shape)}",
            "data": f"input {spec.name!r} has neither data nor binary_data_size",
            "parameters": "parameters must be an object",
            "binary_data_size": "binary_data_size does not fit the shape or the body",
            "id": "id must be a string",
            "outputs": "outputs must be a list of objects with a name",
            "binary_data": "binary_data must be true or false",
            "binary_data_output": "binary_data_output must be true or false",
            "classification": "classification must be a whole number",
            "timeout": "timeout must be a whole number of microseconds",
            "shared_memory_region": "shared memory is not offered",
        }

    def parse(self, head: bytes, tail: memoryview) -> tuple[NDArray[Any], AskedInference]:
        """Return a request's rows, in the model's own shape and dtype, and what is asked of them.

        Raises RefusedError (400).
        """
        if not head:  # the raw binary request: the body is the one input
            return self._rows(self._raw(len(tail)), tail)
        read_head = self._kept if len(tail) and len(head) <= LONGEST_KEPT else self._read
        asked, data = read_head(head, len(tail))
        if data is None:
            return self._rows(asked, tail)
        # a look for a letter that hardly any request has costs a hundredth of a look at every value
        bools = (b"r" in head and b"true" in head) or (b"l" in head and b"false" in head)
        # nobody keeps the data: 784 numbers of each of 16 callers are more than a core's own cache holds
        return from_json(data, asked.shape, self.spec, bools=bools), asked

    def take(
        self, request: InferRequest, size: int, rows: Callable[[], memoryview]
    ) -> tuple[NDArray[Any], AskedInference]:
        """Return what `parse` does, of a request that was read already and whose rows are so many bytes.

        They are made only for a request that speaks of them rightly. Raises RefusedError (400).
        """
        asked, _ = self._checked(request, size)
        return self._rows(asked, rows())

    def _rows(self, asked: AskedInference, tail: memoryview) -> tuple[NDArray[Any], AskedInference]:
        rows = np.frombuffer(tail, dtype=self._dtype).reshape(asked.shape)
        check_finite(rows, self.spec.name)
        return rows, asked

    def _raw(self, size: int) -> AskedInference:
        shape = tuple(n or 1 for n in self.spec.shape[1:])
        row_size = math.prod(shape) * self._dtype.itemsize
        if not size or size % row_size:
            raise RefusedError(400, f"{size} bytes are no whole rows of {row_size} bytes")
        return AskedInference(shape=(size // row_size, *shape), wanted=self._everything[True])

    def _read(self, head: bytes, behind: int) -> tuple[AskedInference, list[Any] | None]:
        """Check a request's JSON, with so many bytes behind it; None where these are its data."""
        if len(head) > SMALL and is_mostly_structure(head):
            return self._checked(read(UNREAD_DECODER, head, self._words), behind)
        return self._checked(read(DECODER, head, self._words), behind)

    def _checked(self, request: InferRequest, behind: int) -> tuple[AskedInference, list[Any] | None]:
        tensor = request.inputs[0]
        shape, used = self._tensor(tensor, behind)
        if used != behind:
            raise RefusedError(400, f"{behind} binary bytes came, the request speaks of {used}")
        parameters = request.parameters or InferParameters()
        asked = AskedInference(
            shape=shape,
            wanted=self._wanted(request.outputs, binary=parameters.binary_data_output),
            ident=request.id,
            deadline_s=parameters.timeout / 1e6 or None,
        )
        if isinstance(tensor, UnreadTensor) and tensor.data is not msgspec.UNSET:
            return asked, numbers(tensor.data, shape, self.spec)
        return asked, None if tensor.data is msgspec.UNSET else tensor.data

    def _tensor(self, tensor: InputTensor, behind: int) -> tuple[tuple[int, ...], int]:
        """Return an input's shape, and how many binary bytes it takes."""
        name = self.spec.name
        if tensor.name != name:
            raise RefusedError(400, f"no input {tensor.name[:80]!r}; this model takes {name!r}")
        if tensor.datatype != self._datatype:
            raise RefusedError(400, f"input {name!r} is {self._datatype}, not {tensor.datatype[:80]}")
        shape = self._shape(tensor.shape)
        parameters = tensor.parameters or InputParameters()
        if parameters.shared_memory_region is not msgspec.UNSET:
            raise RefusedError(400, "shared memory is not offered; send the data in the body")
        size = parameters.binary_data_size
        if size is msgspec.UNSET:
            if tensor.data is msgspec.UNSET:
                raise RefusedError(400, self._words["data"])
            return shape, 0
        if size != math.prod(shape) * self._dtype.itemsize or size > behind:
            raise RefusedError(400, f"binary_data_size does not fit the shape {shape} or the body")
        if tensor.data is not msgspec.UNSET:
            raise RefusedError(400, "a tensor is either binary or has data, not both")
        return shape, size

    def _shape(self, shape: list[int]) -> tuple[int, ...]:
        if shape[1:] != self._row or self.spec.shape[0] not in (None, shape[0]):
            asked = self.spec.shape
            filled = [have if want is None else want for want, have in zip(asked, shape, strict=False)]
            if len(shape) != len(asked) or filled != shape or min(shape[1:], default=1) <= 0:
                raise RefusedError(400, f"{self._words['shape']}, not {reprlib.repr(shape)}")
        if not 1 <= shape[0] < 10**9:
            raise RefusedError(400, f"a batch of {shape[0]} is none; send 1 picture or more")
        return tuple(shape)

    def _wanted(self, asked: list[RequestedOutput] | None, *, binary: bool) -> tuple[WantedOutput, ...]:
        if not asked:
            return self._everything[binary]
        found: dict[str, WantedOutput] = {}
        for output in asked:
            name, parameters = output.name, output.parameters or OutputParameters()
            if name not in self.outputs or name in found:
                raise RefusedError(
                    400, f"no output {name[:80]!r}, or twice; known: {', '.join(self.outputs)}"
                )
            if parameters.shared_memory_region is not msgspec.UNSET:
                raise RefusedError(400, "shared memory is not offered; read the data from the reply")
            own = parameters.binary_data
            found[name] = WantedOutput(
                name=name,
                binary=binary if own is msgspec.UNSET else own,
                classes=parameters.classification,
            )
        return tuple(found.values())
