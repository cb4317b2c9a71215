"""How far two columns' answers to the same input are apart, before their times are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.figures import shape_text
from toolkit.passports import Passport


def difference(answer: NDArray[np.float32], first: NDArray[np.float32]) -> float | None:
    """Return the largest difference of two (N, K) answers as a share of the largest number in `first`.

    NaN or infinite where either holds such; None where `first` is all 0 and `answer` is not.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        apart, largest = float(np.abs(answer - first).max()), float(np.abs(first).max())
        if largest == 0:
            return 0.0 if apart == 0 else None
        return float(np.float64(apart) / largest)


@dataclass(frozen=True, kw_only=True)
class _First:
    key: str
    passport: Passport
    answer: NDArray[np.float32]


@dataclass(kw_only=True)
class Agreements:
    """Each column's answers held against those of the first column of its network that has its form.

    A form is what goes in and comes out: columns of two forms get other numbers, or answer in others.
    `found` are the differences by column, `reference` the columns that they are from.
    """

    found: dict[str, float | None] = field(default_factory=dict)
    reference: dict[str, str] = field(default_factory=dict)
    _firsts: dict[str, list[_First]] = field(default_factory=dict)

    def add(self, key: str, passport: Passport, answer: NDArray[np.float32]) -> str | None:
        """Add a column's answers; say why they are held against nobody's where they are not the first."""
        # a foreign file, which does not say what network it is, is taken for the first
        network = passport.model if passport.sha256 or not self._firsts else next(iter(self._firsts))
        firsts = self._firsts.setdefault(network, [])
        own = _First(key=key, passport=passport, answer=answer)
        alike = next((one for one in firsts if not any(_unlike(one, own))), None)
        if alike is not None:
            self.found[key], self.reference[key] = difference(answer, alike.answer), alike.key
            return None
        firsts.append(own)
        if len(firsts) == 1:
            return None
        first = firsts[0]
        return f"its answers are not held against those of {first.key}: {', '.join(_unlike(first, own))}"


def _unlike(first: _First, other: _First) -> Iterator[str]:
    """Yield in words how the second one's form is not the first one's."""
    takes, wanted = other.passport.input, first.passport.input
    floats = all(np.dtype(spec.dtype).kind == "f" for spec in (takes, wanted))
    if takes.dtype != wanted.dtype and not floats:  # floats of any width are given the same numbers
        yield f"it takes {takes.dtype}, not {wanted.dtype}"
    # a file without a passport does not say its layout, and its shape has to do
    layouts = {takes.layout, wanted.layout}
    turned = None not in layouts and "NHWC" in layouts and len(layouts) > 1
    if takes.shape[1:] != wanted.shape[1:] or turned:
        one, two = (f"{shape_text(spec.shape)} {spec.layout or ''}".strip() for spec in (takes, wanted))
        yield f"it takes {one}, not {two}"
    if other.passport.softmax != first.passport.softmax:
        yield "one of both answers with probabilities"
    if other.answer.shape != first.answer.shape:
        yield f"it answers {shape_text(other.answer.shape)}, not {shape_text(first.answer.shape)}"
