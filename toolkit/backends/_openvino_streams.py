"""A batch in OpenVINO's streams: its rows are divided among requests that run at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StreamedBatch:
    """Requests of one compiled model, each of which takes an equal part of a batch's rows."""

    def __init__(self, requests: Sequence[Any]) -> None:
        self.requests = requests

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        """Return one call of a batch, whose memory the requests share; it returns when all are done."""
        from openvino import Tensor

        given = np.require(batch, requirements=["C", "W"])
        for request, part in zip(self.requests, np.split(given, len(self.requests)), strict=True):
            request.set_input_tensor(0, Tensor(part, shared_memory=True))

        def call() -> object:
            for request in self.requests:
                request.start_async()
            for request in self.requests:
                request.wait()
            return given  # a tensor does not keep alive the array whose memory it shares

        return call

    def outputs(self) -> list[NDArray[Any]]:
        """Return every output of the last call, copied; one without a row for each picture is the first's."""
        each = [[np.array(tensor.data) for tensor in request.output_tensors] for request in self.requests]
        rows = self.requests[0].input_tensors[0].shape[0]
        return [
            np.concatenate(parts) if parts[0].shape[:1] == (rows,) else parts[0]
            for parts in zip(*each, strict=True)
        ]
