"""Between the handlers and the queues: deadlines, what a full queue means, and what is counted."""

from __future__ import annotations

import asyncio
from typing import Any

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
        model, classifier, queue = version
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            if left_s <= 0:
                raise DeadlineError
            arrays, timing = await queue.batcher.submit(rows, classifier.run, deadline_s=left_s)
        except (QueueFullError, DeadlineError, StoppedError) as error:
            raise self.refused(model.name, error) from None
        except ShapeError as error:
            raise RefusedError(400, str(error)) from None
        self.metrics.took("queue", model.name, timing.queue_ms / 1e3)
        return arrays, timing

    def refused(self, model: str, error: QueueFullError | DeadlineError | StoppedError) -> RefusedError:
        """Count a request that finds no room or no time, and return what it is answered."""
        if isinstance(error, QueueFullError):
            self.metrics.shed(model, "full")
            return RefusedError(429, str(error), {b"retry-after": b"%d" % error.retry_after_s})
        if isinstance(error, StoppedError):
            self.metrics.shed(model, "stopping")
            return RefusedError(503, str(error), {b"retry-after": b"1"})
        self.metrics.shed(model, "deadline")
        return RefusedError(
            504, f"no answer within {self.deadline_s:g} s, or the request's own timeout; the server is busy"
        )
