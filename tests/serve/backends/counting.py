"""A real backend in small, as anybody may add one: counts who runs its engines at once and what is closed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Availability, Backend, Engine, EngineOptions
from toolkit.errors import CorruptError, OutOfMemoryError
from toolkit.passports import Format

RUN_S = 0.005


class CountingEngine(Engine):
    """Answers with zeros, takes its time, and cannot be run after `close`."""

    backend = "counting"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        self.inside = 0
        self.most_at_once = 0
        self.closed = 0

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        assert not self.closed
        self.inside += 1
        self.most_at_once = max(self.most_at_once, self.inside)
        time.sleep(RUN_S)
        self.inside -= 1
        if b"fails when run" in self.artifact.path.read_bytes():
            raise RuntimeError("out of luck")
        return [np.zeros((len(batch), len(self.artifact.passport.classes)), dtype=np.float32)]

    def close(self) -> None:
        assert not self.inside
        self.closed += 1


class Counting(Backend):
    """Opens any file that does not say that it is damaged, while there is memory."""

    name = "counting"
    title = "Counting"
    summary = "counts"
    platform = "counting"
    formats: ClassVar[Mapping[Format, str | None]] = {"onnx": None}

    def __init__(self) -> None:
        self.opened: list[CountingEngine] = []
        self.has_memory = True

    def availability(self) -> Availability:
        return Availability(available=True)

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        if b"damaged" in artifact.path.read_bytes():
            raise CorruptError(f"{artifact.path} is damaged")
        if not self.has_memory:
            raise OutOfMemoryError(f"no memory for {artifact.path}")
        made = CountingEngine(artifact, options)
        self.opened.append(made)
        return made


BACKEND = Counting()
