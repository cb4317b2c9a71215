"""Between the handlers and the queues: deadlines, what a full queue means, and what is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.api import RefusedError
from serve.api.metrics import ServerMetrics
from serve.batching import Arrays, DeadlineError, QueueFullError, StoppedError, Timing
from serve.registry import Version
from toolkit.errors import ShapeError


class Admission:
    """Lets rows through to a version's queue, or says with the right status why not."""

    def __init__(self, metrics: ServerMetrics, deadline_s: float) -> None:
        self.metrics = metrics
        self.deadline_s = deadline_s

    async def run(self, version: Version, rows: NDArray[Any], deadline: float) -> tuple[Arrays, Timing]:
        """Return the outputs of a version's engine, which the rows were made for, behind its queue.

        `deadline` is on the event loop's clock. Raises RefusedError: 400, 429, 503 or 504.
        """
        try:
            if len(rows) <= version.queue.most_rows:
                arrays, timing = await self._submit(version, rows, deadline)
            else:
                arrays, timing = await self._in_slices(version, rows, deadline)
        except (QueueFullError, DeadlineError, StoppedError) as error:
            raise self.refused(version, error) from None
        except ShapeError as error:
            raise RefusedError(400, str(error)) from None
        which = version.model.name, version.classifier.artifact.passport.precision
        self.metrics.took("queue", *which, timing.queue_ms / 1e3)
        return arrays, timing

    def _submit(
        self, version: Version, rows: NDArray[Any], deadline: float, *, let_in: bool = False
    ) -> asyncio.Future[Any]:
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise DeadlineError
        batcher, run = version.queue.batcher, version.classifier.run
        return batcher.submit(rows, run, deadline_s=left_s, let_in=let_in)

    async def _in_slices(
        self, version: Version, rows: NDArray[Any], deadline: float
    ) -> tuple[Arrays, Timing]:
        """Run a batch that is larger than the engine's, slice by slice, with other callers in between."""
        most = version.queue.most_rows
        parts: list[Arrays] = []
        queue_ms = infer_ms = 0.0
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            arrays, timing = await self._submit(version, part, deadline, let_in=start > 0)
            parts.append(arrays)
            queue_ms += timing.queue_ms
            infer_ms += timing.infer_ms
        per_row = [array.shape[:1] == (min(most, len(rows)),) for array in parts[0]]
        joined = [
            np.concatenate([part[at] for part in parts]) if has_rows else parts[0][at]
            for at, has_rows in enumerate(per_row)
        ]
        return joined, Timing(queue_ms=queue_ms, infer_ms=infer_ms, rows=len(rows))

    def refused(self, version: Version, error: QueueFullError | DeadlineError | StoppedError) -> RefusedError:
        """Count a request that finds no room or no time, and return what it is answered."""
        which = version.model.name, version.classifier.artifact.passport.precision
        if isinstance(error, QueueFullError):
            self.metrics.shed(*which, "full")
            return RefusedError(429, str(error), {b"retry-after": b"%d" % error.retry_after_s})
        if isinstance(error, StoppedError):
            self.metrics.shed(*which, "stopping")
            return RefusedError(503, str(error), {b"retry-after": b"1"})
        self.metrics.shed(*which, "deadline")
        return RefusedError(
            504, f"no answer within {self.deadline_s:g} s, or the request's own timeout; the server is busy"
        )
