"""The errors that cnnkit raises on purpose, and the exit status that each one means.

    CnnkitError            1  one line: what was asked, what is possible, what to type next
    ├── NotFoundError      1  a name, file or data set that is not there
    │   └── OtherPrecisionError  …  at the precision that was asked for
    ├── CorruptError       1  a file that is there but cannot be trusted
    │   └── DamagedError     …  pictures of a data set that cannot be read
    ├── ImageError         1  a picture that cannot be read or is refused
    │   ├── ImageSizeError    …  for its bytes or its pixels
    │   └── NoImageError      …  because it is no picture at all
    ├── NoneHeldOutError   1  pictures of which none can be left out of what is learned from
    ├── OutOfMemoryError   1  a device without memory for what was asked of it
    ├── ShapeError         1  arrays that do not fit the model
    ├── MissingExtraError  3  a command whose optional packages are not installed
    ├── UnavailableError   3  a named backend, format or device that is not here
    ├── DivergedError      5  a training whose loss or weights became no numbers, or that never started
    ├── UndecidedError     1  a check that its pictures, or its time, do not suffice to decide
    └── GateError          4  a check that was asked for and failed: parity, accuracy, regression

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path


class CnnkitError(Exception):
    """An expected failure, told in one line."""

    exit_status = 1


class NotFoundError(CnnkitError):
    """A name, file or data set that is not there."""


class OtherPrecisionError(NotFoundError):
    """A name or a file that is here, and not in the precision that was asked for.

    `here` says so, and what to type next stands behind it. `formats` are those that were looked for; none
    where no export would make one.
    """

    def __init__(self, here: str, advice: str, formats: tuple[str, ...] = ()) -> None:
        super().__init__(f"{here}: {advice}")
        self.here = here
        self.formats = formats


class CorruptError(CnnkitError):
    """A file that is there, but is truncated, altered or not what it claims to be."""


class DamagedError(CorruptError):
    """Pictures of a data set that cannot be read: `lines` names each, and why."""

    def __init__(self, text: str, lines: tuple[str, ...]) -> None:
        super().__init__(text)
        self.lines = lines


class ImageError(CnnkitError):
    """A picture that cannot be read, or that is refused."""


class ImageSizeError(ImageError):
    """A picture with more bytes or pixels than are allowed."""


class NoImageError(ImageError):
    """Bytes that are no picture of a format that is read."""


class ShapeError(CnnkitError):
    """Arrays that do not fit the model."""


# what networks raise at pictures that they cannot take: torch's layers, and asserts of their authors'
MISFITS = (RuntimeError, ValueError, IndexError, AssertionError)


class NoneHeldOutError(CnnkitError):
    """Pictures of which none can be held out: `why`, and what to type in a training."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(f"{why}; {advice}")
        self.why = why


class OutOfMemoryError(CnnkitError):
    """A device that has no memory left for what was asked of it."""


# what PyTorch, ONNX Runtime and CUDA's libraries say of memory that ran out
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a library says that memory ran out, by class or by words."""
    of_its_kind = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return of_its_kind or any(words in str(error).lower() for words in _NO_MEMORY)


class UnavailableError(CnnkitError):
    """A named backend, format or device that is not on this machine."""

    exit_status = 3


class MissingExtraError(UnavailableError):
    """A command whose optional packages are not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}: pip install 'cnnkit[{extra}]'")
        self.package = package
        self.extra = extra


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Import optional packages inside the block; a missing one is a MissingExtraError with their extra."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError((error.name or "a package").partition(".")[0], extra) from None


class DivergedError(CnnkitError):
    """A training whose loss or weights became no numbers, or that never started at any rate tried."""

    exit_status = 5


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file inside the block: one that cannot be read is a CorruptError.

    One that is not there stays a FileNotFoundError.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptError(f"{path} cannot be read: {error.strerror or error}") from None


class UndecidedError(CnnkitError):
    """A check that its pictures, or the time that it was given, do not suffice to decide."""


class GateError(CnnkitError):
    """A check that was asked for and failed."""

    exit_status = 4


def refuse_empty(option: str, given: object) -> None:
    """Raise CnnkitError for an empty text, which would be taken for an option that was not given."""
    if given == "":
        raise CnnkitError(
            f"{option} is empty, as a shell variable that is not set makes it: name one, or leave it out"
        )


def unknown_name(kind: str, name: str, known: Iterable[str]) -> NotFoundError:
    """Say that `name` is no `kind`, what is known, and which one was probably meant."""
    import difflib

    names = sorted(known)
    folded = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    starting = [c for c in names if name and c.startswith(name.lower())]
    guess = folded[near[0]] if near else (starting[0] if starting else None)
    hint = f". Did you mean {guess!r}?" if guess else ""
    return NotFoundError(f"no {kind} {name!r}; known: {', '.join(names) or 'none'}{hint}")
