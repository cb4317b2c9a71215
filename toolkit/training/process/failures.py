"""Failures of libraries and machines, told in one line with the setting to change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from toolkit.errors import CnnkitError, is_out_of_memory
from toolkit.training import Job


@contextlib.contextmanager
def explained(job: Job, *, begun: bool) -> Iterator[None]:
    """Raise a CnnkitError for what is no bug; other failures pass.

    That is want of memory, a dead loader worker, batch norm of one picture, a GPU's errors and Ctrl-C.
    `begun` tells whether the run has a folder by now, from which it can go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise CnnkitError(
            "stopped; the same command with --resume goes on where it was"
            if begun
            else "stopped before the training began; the same command starts again"
        ) from None
    except MemoryError:
        raise _out_of_memory(job, "this machine") from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        more = "--batch 2 or more" if job.recipe.batch == 1 else "train on two pictures or more"
        raise CnnkitError(
            f"a step has one picture, and batch norm has nothing to compare it with: {more}"
        ) from None
    except RuntimeError as error:  # torch raises subclasses of it, and for the CPU the class itself
        text = str(error)
        if is_out_of_memory(error):
            of_the_host = "can't allocate memory" in text or "not enough memory" in text
            raise _out_of_memory(job, "this machine" if of_the_host else job.device) from None
        if "DataLoader worker" in text:
            raise CnnkitError(
                f"a loader worker died ({' '.join(text.split())}), most often for want of memory: "
                f"--workers {(job.workers or 2) // 2}, a smaller --batch, or --workers 0"
            ) from None
        if is_of_the_gpu(error):
            first = text.strip().splitlines()[0]
            raise CnnkitError(
                f"{job.device} failed: {first}; `cnnkit doctor` says what does not fit together here, "
                "`--device cpu` does without"
            ) from None
        raise


def is_of_the_gpu(error: Exception) -> bool:
    """Tell whether CUDA or one of its libraries failed, rather than what was asked of torch."""
    return any(words in str(error) for words in ("CUDA error", "CUDA driver", "cuDNN error"))


def _out_of_memory(job: Job, where: str) -> CnnkitError:
    batch = job.recipe.batch
    smaller = f"try --batch {batch // 2} (now {batch})" if batch > 1 else "try a smaller model"
    return CnnkitError(f"{where} ran out of memory; {smaller}")
