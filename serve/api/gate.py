"""Between the handlers and the queues: deadlines, what a full queue means, and what is counted."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from serve.api import RefusedError
from serve.api.metrics import Metrics
from serve.batching import Arrays, DeadlineError, QueueFullError, Run, StoppedError, Timing
from serve.models import Version
from toolkit.errors import ShapeError


class Gate:
    """Lets rows through to a version's queue, or says with the right status why not."""

    def __init__(self, metrics: Metrics, deadline_s: float) -> None:
        self.metrics = metrics
        self.deadline_s = deadline_s

    async def run(
        self,
        model: str,
        version: Version,
        run: Run,
        rows: NDArray[Any],
        deadline_s: float | None = None,
    ) -> tuple[Arrays, Timing]:
        """Return the outputs of `run`, the engine that the rows were made for, in the version's queue.

        Raises RefusedError: 400, 429, 503 or 504.
        """
        limit = min(deadline_s or self.deadline_s, self.deadline_s)
        try:
            arrays, timing = await version.batcher.submit(rows, run=run, deadline_s=limit)
        except QueueFullError as full:
            self.metrics.shed(model, "full")
            retry = b"%d" % full.retry_after_s
            raise RefusedError(429, str(full), {b"retry-after": retry}) from None
        except DeadlineError:
            self.metrics.shed(model, "deadline")
            raise RefusedError(504, f"no answer within {limit:g} s; the server is busy") from None
        except StoppedError as stopped:
            self.metrics.shed(model, "stopping")
            raise RefusedError(503, str(stopped), {b"retry-after": b"1"}) from None
        except ShapeError as error:
            raise RefusedError(400, str(error)) from None
        self.metrics.queued(model, timing.queue_ms / 1e3)
        return arrays, timing
