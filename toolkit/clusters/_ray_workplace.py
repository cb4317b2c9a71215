"""Work on a cluster of Ray's: sent with its files, watched, taken back, and run again where it was lost.

Which machine runs what is Ray's to say. Imports Ray when there is a cluster, and not before.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

from toolkit.artifacts import write_bytes
from toolkit.clusters import Demand, Ended, Work, Workplace
from toolkit.clusters._ray_connection import (
    RayMachine,
    answers,
    first_line,
    insist_on_one_release,
    last_line,
    nodes,
)
from toolkit.clusters._ray_site import Piece, Site, SiteNews, pieces
from toolkit.errors import CnnkitError
from toolkit.figures import gibibytes_text, mebibytes_text
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.telling import Tell

MOST_AT_ONCE = 256
_LOOK_S, _WAIT_S, _LAST_WORDS_S, _PATIENCE_S, _STOPPING_S = 0.3, 1.0, 6.0, 30.0, 60.0
_HEAD_S, _MOST_LOSSES = 5.0, 5
_RESUME = "the same command with --resume goes on"
# files that may tell of paths, in which the machine's root is taken away again
_TEXTS = (".json", ".csv", ".txt", ".html")


class _LostError(CnnkitError):
    """A machine, or a process of Ray's on it, that is gone; the text says why, as far as Ray knows."""


class RayWorkplace(Workplace):
    """A cluster that this process is connected to."""

    def __init__(self, address: str | None, sent: Sequence[Path], need: Demand, tell: Tell) -> None:
        import ray

        self._head = address or str(ray.get_runtime_context().gcs_address)
        self._sent, self._tell = tuple(sent), tell
        self._session = secrets.token_hex(6)
        self._head_asked = time.monotonic()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._supplied: dict[str, Any] = {}
        machines = nodes()
        insist_on_room(need, machines)
        insist_on_one_release(machines)
        self._supply(machines)
        self.at_once = min(MOST_AT_ONCE, max(1, sum(_places(need, machine) for machine in machines)))

    def close(self) -> None:
        """Remove what was sent from every machine that is still there."""
        import ray

        for depot in self._supplied.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(depot.close.remote(), timeout=_WAIT_S)

    def stop(self) -> None:
        self._stopped.set()

    def run(self, work: Work) -> Ended:
        for _ in range(_MOST_LOSSES):
            try:
                return self._tried(work)
            except _LostError as lost:
                why = str(lost)
                self._tell(f"{work.label}: {why}; it runs again")
        raise CnnkitError(f"{work.label} was lost {_MOST_LOSSES} times, at last because {why}; {_RESUME}")

    def run_together(self, works: Sequence[Work]) -> list[Ended | None]:
        if len(works) > self.at_once:  # those that have a machine would wait for the others without end
            raise CnnkitError(
                f"{len(works)} ranks of {_words(works[0].need)} each are more than the cluster has room for, "
                f"which is {self.at_once}: give fewer --ranks, or add a machine"
            )
        with contextlib.ExitStack() as stack:
            sites = [stack.enter_context(self._site(work.need)) for work in works]
            try:
                homes = [self._placed(site, work) for site, work in zip(sites, works, strict=True)]
                address, port = self._get(sites[0].meeting.remote())
            except _LostError as lost:
                raise CnnkitError(f"{lost} before the ranks began; the same command starts again") from None
            met = {"MASTER_ADDR": address, "MASTER_PORT": str(port)}

            def run(number: int) -> Ended:
                return self._ran(sites[number], works[number], *homes[number], met)

            with ThreadPoolExecutor(len(works)) as pool:
                begun = [pool.submit(run, number) for number in range(len(works))]
                try:
                    for done in as_completed(begun):
                        if done.result().status != 0:
                            # the others find out by themselves, and say which one they miss
                            wait(begun, timeout=_LAST_WORDS_S)
                            break
                except _LostError as lost:
                    raise CnnkitError(f"{works[begun.index(done)].label}: {lost}; {_RESUME}") from None
                finally:
                    self.stop()
            return [None if isinstance(one.exception(), KeyboardInterrupt) else one.result() for one in begun]

    def _tried(self, work: Work) -> Ended:
        with stopped_as_by_ctrl_c(), self._site(work.need) as site:
            return self._ran(site, work, *self._placed(site, work), {})

    @contextlib.contextmanager
    def _site(self, need: Demand) -> Iterator[Any]:
        """Ask for a process on a machine that has what is needed; end it on the way out."""
        import ray

        site: Any = (
            ray.remote(Site)
            .options(num_cpus=need.cpus, num_gpus=need.gpus, memory=need.memory_bytes, max_restarts=0)
            .remote(self._session)
        )
        try:
            yield site
        finally:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(site)

    def _placed(self, site: Any, work: Work) -> tuple[str, str]:
        """Wait until a site has a machine, and give it what work goes on from; return its name and root."""
        node, root = self._get(site.home.remote(), waiting=work)
        machine = next((one for one in nodes() if one.id == node), None)
        if machine is None:
            raise _LostError("its machine was lost")
        with self._lock:
            if node not in self._supplied:  # a machine that came later
                insist_on_one_release((machine,))
                self._supply((machine,))
        for held in pieces([path.absolute() for path in work.kept()]):
            self._give([(machine.name, site)], held)
        return machine.name, root

    def _ran(self, site: Any, work: Work, where: str, root: str, environment: Mapping[str, str]) -> Ended:
        folder, log = str(work.folder.absolute()), str(work.log.absolute())
        told = dict(work.environment) | dict(environment)
        self._get(site.start.remote(list(work.words(root)), folder, log, told), where=where)
        self._tell(f"{work.label}: on {where}")
        began = time.monotonic()
        known = {path.relative_to(work.folder).as_posix() for path in work.kept()}
        try:
            while True:
                look = self._looked(site, work, where, root, known)
                if look.status is not None:
                    output = look.output.replace(root.encode(), b"")
                    wall_s = time.monotonic() - began
                    return Ended(status=look.status, output=output, where=where, wall_s=wall_s)
                if work.timeout_s is not None and time.monotonic() - began >= work.timeout_s:
                    raise subprocess.TimeoutExpired(work.label, work.timeout_s)
                if work.enough is not None and work.enough():
                    site.stop.remote(at_once=True)
                self._insist_on_the_head()
                self._stopped.wait(_LOOK_S)
                if self._stopped.is_set():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._save(site, work, where, root, known)
            raise

    def _save(self, site: Any, work: Work, where: str, root: str, known: set[str]) -> None:
        """Have a command save its state, and take that back."""
        site.stop.remote(at_once=False)
        until = time.monotonic() + _STOPPING_S
        with contextlib.suppress(CnnkitError):
            while self._looked(site, work, where, root, known).status is None:
                if time.monotonic() > until:
                    return
                time.sleep(_LOOK_S)

    def _looked(self, site: Any, work: Work, where: str, root: str, known: set[str]) -> SiteNews:
        """Take back what was written since the last look; `known` are files that both sides have."""
        look: SiteNews = self._get(site.look.remote(), where=where)
        for name, data in look.files:
            path = work.folder / name
            text = data.replace(root.encode(), b"") if path.suffix in _TEXTS else data
            if path.suffix == ".txt":  # a log that grows is no file that appears whole
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
            else:
                write_bytes(path, text)
        known |= {name for name, _ in look.files}
        if look.present is not None:
            for name in known - look.present:
                if (work.folder / name).is_file():
                    (work.folder / name).unlink()
            known.clear()
            known |= look.present
        return look

    def _supply(self, machines: Sequence[RayMachine]) -> None:
        """Send the files to machines, each piece to all of them at once."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        depots: dict[str, Any] = {}
        for machine in machines:
            there = NodeAffinitySchedulingStrategy(machine.id, soft=False)
            asked = ray.remote(Site).options(num_cpus=0, scheduling_strategy=there)
            depots[machine.id] = asked.remote(self._session)
        named = [(machine.name, depots[machine.id]) for machine in machines]
        total = sum(path.stat().st_size for path in self._sent)
        if total > 1 << 20:
            what = f"{mebibytes_text(total)} of data"
            self._tell(f"sending {what} to {', '.join(name for name, _ in named)}")
        for held in pieces(self._sent):
            self._give(named, held)
        for name, depot in named:
            self._get(depot.home.remote(), where=name)
        self._supplied |= depots

    def _give(self, sites: Sequence[tuple[str, Any]], held: list[Piece]) -> None:
        """Have files' pieces written by sites; Ray brings each piece to a machine once."""
        import ray

        with _room_in_words():
            reference = ray.put(held)
        for name, refused in [(name, site.take.remote(reference)) for name, site in sites]:
            why = self._get(refused, where=name)
            if why is not None:
                raise CnnkitError(f"{name} cannot take what the work reads: {why}; make room there")

    def _get(self, reference: Any, *, where: str = "its machine", waiting: Work | None = None) -> Any:
        """Return what a site answers. Raises _LostError where it is gone, CnnkitError where all are."""
        import ray

        began, told = time.monotonic(), False
        while True:
            try:
                with _room_in_words():
                    return ray.get(reference, timeout=_WAIT_S)
            except ray.exceptions.GetTimeoutError:
                if waiting is not None and self._stopped.is_set():
                    raise KeyboardInterrupt from None
                if waiting is not None and not told and time.monotonic() - began > _PATIENCE_S:
                    self._tell(f"{waiting.label}: waits for a machine with {_words(waiting.need)} free")
                    told = True
                self._insist_on_the_head()
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                if not answers(self._head):
                    raise self._headless() from None
                raise _LostError(f"{where} was lost ({first_line(error)})") from None
            except (ray.exceptions.RaySystemError, ray.exceptions.LocalRayletDiedError) as error:
                raise self._headless(first_line(error)) from None
            except ray.exceptions.RayTaskError as error:
                raise CnnkitError(f"{where} cannot go on: {last_line(error)}; {_RESUME}") from None

    def _insist_on_the_head(self) -> None:
        """Raise CnnkitError where the head node is gone: Ray would end this process a minute later."""
        if time.monotonic() < self._head_asked + _HEAD_S:
            return
        self._head_asked = time.monotonic()
        if not answers(self._head) and not answers(self._head):
            raise self._headless()

    def _headless(self, why: str = "") -> CnnkitError:
        return CnnkitError(
            f"the head node of Ray at {self._head} does not answer any more{why and f' ({why})'}; once there "
            f"is a cluster again, {_RESUME}, in the middle of what was at work"
        )


def insist_on_room(need: Demand, machines: Sequence[RayMachine]) -> None:
    """Raise CnnkitError where no machine has what one piece of work asks for."""
    if any(_places(need, machine) for machine in machines):
        return
    largest = max(machines, key=lambda machine: (machine.gpus, machine.cpus, machine.memory_bytes))
    has = Demand(cpus=int(largest.cpus), gpus=int(largest.gpus), memory_bytes=largest.memory_bytes)
    raise CnnkitError(
        f"no machine of the cluster has {_words(need)}, which a cell asks for; the largest, {largest.name}, "
        f"has {_words(has)}: give fewer --threads{' or --device cpu' if need.gpus else ''}, or add a machine"
    )


def _places(need: Demand, machine: RayMachine) -> int:
    """Return how many pieces of work fit on a machine at once."""
    asked = [(machine.cpus, need.cpus), (machine.gpus, need.gpus), (machine.memory_bytes, need.memory_bytes)]
    return int(min(has // want for has, want in asked if want))


def _words(need: Demand) -> str:
    parts = [f"{need.cpus} CPU{'s' if need.cpus != 1 else ''}"]
    parts += [f"{need.gpus} GPU{'s' if need.gpus != 1 else ''}"] if need.gpus else []
    parts += [f"{gibibytes_text(need.memory_bytes)} of memory"] if need.memory_bytes else []
    return " and ".join(parts)


@contextlib.contextmanager
def _room_in_words() -> Iterator[None]:
    """Turn a full object store, or a full disk behind it, into one line."""
    import ray

    try:
        yield
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise CnnkitError(
            f"Ray's object store is full ({first_line(error)}): start Ray with more --object-store-memory, "
            f"or make room on its disk; {_RESUME}"
        ) from None
