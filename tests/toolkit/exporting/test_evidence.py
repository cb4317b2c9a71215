"""Answers are asked of an engine in batches that it takes, and its latency is told for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.proving.proof import Proof, check_proof, recorded
from toolkit.answering import answers
from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions
from toolkit.errors import ShapeError
from toolkit.passports import Passport, TensorSpec


class Doubling(Engine):
    """Doubles its input, in batches of `least` to `most` only, as an engine of TensorRT has them."""

    backend: ClassVar[str] = "doubling"

    def __init__(self, least: int, most: int, *, fixed: int | None = None, answer: float = 2.0) -> None:
        passport = Passport(
            format="trt",
            model="tiny",
            precision="fp32",
            trained=None,
            input=TensorSpec(name="input", shape=(fixed, 4)),
            output=TensorSpec(name="logits", shape=(fixed, 4)),
            classes=tuple("abcd"),
            preprocessing=None,
        )
        super().__init__(Artifact(path=Path("tiny.engine"), passport=passport), EngineOptions())
        self.sizes, self.answer, self.asked = (least, most), answer, set[int]()

    @property
    def batch_sizes(self) -> tuple[int, int | None]:
        return super().batch_sizes if self.artifact.passport.input.shape[0] else self.sizes

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        least, most = self.sizes
        if not least <= len(batch) <= most:
            raise ShapeError(f"batches of {least} to {most}, got {len(batch)}")
        self.asked.add(len(batch))
        return [self.answer * batch]


def proof_of(images: int) -> Proof:
    given = np.random.default_rng(0).standard_normal((images, 4)).astype(np.float32)
    return Proof(given=given, logits=2 * given, tolerance=1e-6)


@pytest.mark.parametrize(
    ("least", "most", "images", "asked"),
    [
        (1, 16, 40, {16, 8}),  # never 32, which it does not take
        (8, 64, 35, {32, 8}),  # the rest of 3 is filled up
        (100, 200, 5, {100}),
        (1, 256, 40, {32, 8}),
    ],
)
def test_an_engine_is_asked_only_in_batches_of_its_profile(
    least: int, most: int, images: int, asked: set[int]
) -> None:
    engine, given = Doubling(least, most), proof_of(images).given
    np.testing.assert_array_equal(answers(engine, given), 2 * given)
    assert engine.asked == asked


@pytest.mark.parametrize(
    ("engine", "batch"),
    [
        (Doubling(1, 16), 1),
        (Doubling(8, 64), 8),
        (Doubling(100, 100, fixed=100), 100),  # more than the proof holds
    ],
)
def test_latency_is_that_of_the_smallest_batch_and_says_its_size(engine: Doubling, batch: int) -> None:
    verdict = check_proof(engine, proof_of(64), runs=3)
    assert (verdict.ok, verdict.images, verdict.batch) == (True, 64, batch)
    assert recorded(engine.artifact.passport, verdict, "cpu", "now").verified[0].batch == batch
