"""A batch in OpenVINO's streams: its rows are divided among requests that run at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def put_in(request: Any, batch: NDArray[Any]) -> None:
    """Have a request's input share a batch's memory; the request says which, and keeps it alive."""
    from openvino import Tensor

    request.set_input_tensor(0, Tensor(batch, shared_memory=True))
    request.given = batch


class StreamedBatch:
    """Requests of one compiled model, each of which takes an equal part of a batch's rows."""

    def __init__(self, requests: Sequence[Any]) -> None:
        self.requests = requests

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        """Return one call of a batch, whose memory the requests share; it returns when all are done."""
        given = np.require(batch, requirements=["C", "W"])
        parts = np.split(given, len(self.requests))
        first = self.requests[0]

        def put() -> None:
            for request, part in zip(self.requests, parts, strict=True):
                put_in(request, part)

        def call() -> object:
            if first.given is not parts[0]:  # another batch was bound since
                put()
            for request in self.requests:
                request.start_async()
            for request in self.requests:
                request.wait()
            return given

        put()
        return call

    def outputs(self) -> list[NDArray[Any]]:
        """Return every output of the last call, copied; one without a row for each picture is the first's."""
        each = [[np.array(tensor.data) for tensor in request.output_tensors] for request in self.requests]
        rows = self.requests[0].input_tensors[0].shape[0]
        return [
            np.concatenate(parts) if parts[0].shape[:1] == (rows,) else parts[0]
            for parts in zip(*each, strict=True)
        ]
