"""Choosing the fastest way to run a network here that keeps its accuracy: what is asked and tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.artifacts import Artifact
from toolkit.choices import Contender
from toolkit.errors import CnnkitError


class LostError(CnnkitError):
    """A candidate that failed, hung or crashed: it is not tried any more."""


class BaselineLostError(CnnkitError):
    """The baseline failed, hung or crashed: nothing can be held against it."""


@dataclass(frozen=True, kw_only=True)
class ChooseSettings:
    """How to choose: what is tried, in how many seconds, and whether what no picture can judge may be chosen.

    `backends` None are all that run here, `batches` None is 1 or what a file fixes (with the throughput 1, 8
    and 32), `threads` None each runtime's default and fewer. `image_limit` is on how many pictures at most.
    With `allow_noise` what a noisy machine cannot tell is no error: the baseline is chosen. Without `expand`
    no other settings are tried than those of the candidates. `limit_s` is how long one may take to answer
    before it is taken to hang, and, where that is over a minute, to open; `wait_s` how long another
    choosing on this machine is waited for. `search_s` are the seconds in which an int8 file that is made is
    judged, and layers that must stay in float are looked for.
    """

    batches: tuple[int, ...] | None = None
    backends: tuple[str, ...] | None = None
    threads: tuple[int, ...] | None = None
    time_s: float = 60.0
    unjudged: bool = False
    allow_noise: bool = False
    seed: int = 0
    data_dir: Path | None = None
    model_file: Path | None = None
    image_limit: int = 10_000
    expand: bool = True
    limit_s: float = 30.0
    wait_s: float = 900.0
    search_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to run a network: a file by a backend, with settings of its own and a number of threads."""

    backend: str
    artifact: Artifact
    settings: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None

    @property
    def key(self) -> str:
        """What tells it from every other candidate of one run."""
        settings = ",".join(f"{name}={value}" for name, value in sorted(self.settings.items()))
        known = self.artifact.passport
        return f"{self.backend}:{known.precision}:{self.artifact.path.name}:{settings}:{self.threads or ''}"

    @property
    def file_key(self) -> str:
        """What candidates share that run one file in one precision by one backend."""
        return f"{self.backend}:{self.artifact.passport.precision}:{self.artifact.path.name}"

    def contender(self, batch: int) -> Contender:
        """Return it with nothing measured yet."""
        return Contender(
            backend=self.backend,
            artifact=str(self.artifact.path.absolute()),
            precision=self.artifact.passport.precision,
            dialect=self.artifact.passport.int8_dialect,
            threads=self.threads,
            settings=dict(self.settings),
            batch=batch,
        )


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A way to run the network that was not chosen, and why."""

    contender: Contender
    why: str
