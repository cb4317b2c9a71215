"""The contract of a cluster file: `CLUSTER`, a Cluster: where a sweep's cells and a training's ranks run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from toolkit.catalog import Shelf, place_of, place_words
from toolkit.errors import CnnkitError
from toolkit.telling import Tell


class LostWorkError(CnnkitError):
    """A piece of work whose machines were lost so often that it is given up; other work may go on."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one piece of work asks a machine for; `memory_bytes` None is no certain amount."""

    cpus: int = 1
    gpus: int = 0
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """One `cnnkit` command, to be run in a process of its own on some machine.

    `words(root)` are the command's words, asked for anew at each try, which may go on from what an earlier
    one left: every path P in them is absolute and begins with `root`, which stands for the file system's
    root on the machine ("" on this one). What the command writes under `folder` comes to lie there on this
    machine, also what it says on stderr, in `log`; it finds there what `goes_on_from` names, None being all
    that the folder holds. `enough`, asked now and then, tells to end the command. `label` is what people are
    told; `folders` are more variables of the environment: each names a folder of this machine, under `root`.
    """

    label: str
    folder: Path
    log: Path
    words: Callable[[str], Sequence[str]]
    need: Demand = Demand()
    timeout_s: float | None = None
    enough: Callable[[], bool] | None = None
    goes_on_from: Sequence[Path] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)

    def variables(self, root: str) -> dict[str, str]:
        """Return what the command's environment holds beside its machine's own."""
        return {**self.environment, **{name: f"{root}{path}" for name, path in self.folders.items()}}

    def kept(self) -> list[Path]:
        """Return the files that the command goes on from."""
        found = self.folder.rglob("*") if self.goes_on_from is None else self.goes_on_from
        return sorted(path for path in found if path.is_file() and is_kept(path.relative_to(self.folder)))


def is_kept(path: Path) -> bool:
    """Tell whether a file goes to other machines and comes back; `path` is from the command's folder on.

    A lock is held on one machine, and what was being written by a killed command is nothing to go on from.
    """
    return path.suffix != ".lock" and not any(name.endswith(".part") for name in path.parts)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: exit status, below 0 for a signal's number; stdout; on which machine; how long."""

    status: int
    output: bytes
    where: str
    wall_s: float


# returns files that work reads; asked only where they have to be sent
Sent = Callable[[], Sequence[Path]]


class Workplace(ABC):
    """A cluster that work may be given to; `at_once` pieces of it run together, each in a call of `run`."""

    at_once: int = 1
    # what machines have that others lack and that decides what they compute in, where they are left to choose
    unlike: str | None = None

    @abstractmethod
    def run(self, work: Work) -> Ended:
        """Run a command to its end, again where its machine was lost.

        Raises subprocess.TimeoutExpired after `timeout_s`, KeyboardInterrupt when stopped, once the command
        has saved what it needs to go on, LostWorkError where this command alone is given up, and CnnkitError
        where the cluster cannot be used any more.
        """

    def run_together(self, works: Sequence[Work]) -> list[Ended | None]:
        """Run commands that need each other, as a launcher does with ranks: all of them at one time.

        They are told in MASTER_ADDR and MASTER_PORT where to meet. Where one fails the others are stopped,
        and None is returned for each that had to be. Raises CnnkitError where a machine was lost, or where
        the cluster takes one command at a time.
        """
        raise CnnkitError("this cluster runs no ranks; leave out --on, or --ranks")

    def stop(self) -> None:  # noqa: B027  (what runs in the calling thread is stopped by that thread)
        """Have every call of `run` stop its command, and no other begin."""


class Cluster(ABC):
    """Machines that commands run on. `address` says how an address of one is typed, None where none is."""

    name: ClassVar[str]
    summary: ClassVar[str]
    address: ClassVar[str | None] = None

    @abstractmethod
    def open(
        self, address: str | None, sent: Sent, need: Demand, *, tell: Tell, verbose: bool
    ) -> AbstractContextManager[Workplace]:
        """Reach the machines; files `sent` are there for work when it begins. `need` is the largest of any.

        Raises CnnkitError for what would keep all work from running; `verbose` shows what the cluster says.
        """


CLUSTERS = Shelf("toolkit.clusters", "CLUSTER", Cluster, "cluster")
# runs what nobody named a cluster for
DEFAULT_CLUSTER = "local"


def cluster_words() -> list[str]:
    """Return what `--on` takes: each cluster's word, with how its address is typed."""
    return place_words(CLUSTERS)


def cluster_of(word: str) -> tuple[Cluster, str | None]:
    """Return the cluster that `--on` names and its address, None where none was typed. Raises CnnkitError."""
    return place_of(CLUSTERS, word)
