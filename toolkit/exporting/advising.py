"""What to type for a precision that a name or a file is not here in: another backend, or an export."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from toolkit.backends import BACKENDS, Backend, backend_names
from toolkit.errors import CnnkitError, OtherPrecisionError
from toolkit.exporting import EXPORTERS
from toolkit.opening import Selection, newest_name, open_model
from toolkit.passports import Precision


@contextlib.contextmanager
def advising(model: str | None, selection: Selection) -> Iterator[None]:
    """Open MODEL inside the block; an OtherPrecisionError says what of all that is here has the precision."""
    try:
        yield
    except OtherPrecisionError as error:
        name = newest_name(selection) if model is None else model
        advice = _by_another_backend(name, selection) or _by_an_export(name, error, selection.precision)
        raise (OtherPrecisionError(error.here, advice, error.formats) if advice else error) from None


def _by_another_backend(model: str, selection: Selection) -> str | None:
    for backend in _able(selection.precision):
        with contextlib.suppress(CnnkitError):
            asked = replace(selection, insists=True)
            found = open_model(model, backend.opens(asked))
            if found.passport.format in backend.formats:
                computed = selection.precision in backend.computes
                does = f"computes {selection.precision} of" if computed else "opens"
                return f"`--backend {backend.name}` {does} {found.path.name}"
    return None


def _by_an_export(model: str, error: OtherPrecisionError, precision: Precision) -> str | None:
    """Name a format of another backend; None where one that was looked for is made so, or none can be."""
    makers = {one.format for one in EXPORTERS.all() if precision in one.precisions}
    if not error.formats or makers & set(error.formats):
        return None
    for backend in _able(precision):
        for kind, word in backend.formats.items():
            if kind in makers and word is not None:
                made = f"`cnnkit export {model} --format {word} --precision {precision}`"
                return f"{made} makes one for `--backend {backend.name}`"
    return None


def _able(precision: Precision) -> list[Backend]:
    """Return the backends that may have a precision, those that run here first."""
    every = [BACKENDS.load(name) for name in backend_names()]
    here = {one.name: one.availability().available and not one.lacks(precision) for one in every}
    return sorted(every, key=lambda one: not here[one.name])
