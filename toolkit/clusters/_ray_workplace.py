"""Work on a cluster of Ray's: sent with its files, watched, taken back, and run again where it was lost.

Which machine runs what is Ray's to say. Imports Ray when there is a cluster, and not before.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.clusters import Demand, Ended, LostWorkError, Work, Workplace
from toolkit.clusters._ray_connection import (
    RayMachine,
    UnfitMachineError,
    answers,
    first_line,
    insist_on_one_release,
    last_line,
    nodes,
    processors,
    unlike,
)
from toolkit.clusters._ray_pieces import STATE, Piece, SiteNews, pieces
from toolkit.clusters._ray_return import Return
from toolkit.clusters._ray_room import (
    RESUME,
    amount,
    insist_on_another,
    insist_on_room,
    places,
    room_in_words,
)
from toolkit.clusters._ray_site import Site
from toolkit.errors import CnnkitError
from toolkit.figures import mebibytes_text
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.telling import Tell

MOST_AT_ONCE = 256
_LOOK_S, _WAIT_S, _LAST_WORDS_S, _PATIENCE_S, _STOPPING_S = 0.3, 1.0, 6.0, 30.0, 60.0
# gigabytes of data take so long to be removed
_CLEARING_S = 60.0
_HEAD_S, _MOST_LOSSES = 5.0, 5
# so long no work is given to a machine that could not take some: room is made there, or is free again
_UNFIT_S = 600.0
# which Ray gives to every machine
_NODE_LABEL = "ray.io/node-id"


class LostMachineError(CnnkitError):
    """A machine, or a process of Ray's on it, that is gone; the text says why, as far as Ray knows."""


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """Why a machine could take no work, and since when (as `time.monotonic`)."""

    why: UnfitMachineError
    since: float


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
        self._unfit: dict[str, Unfit] = {}
        machines = nodes()
        insist_on_room(need, machines)
        insist_on_one_release(machines)
        self._processors = dict(processors(machines))
        self.unlike = unlike(self._processors)
        self._supply(machines)
        self.at_once = min(MOST_AT_ONCE, max(1, sum(places(need, machine) for machine in machines)))

    def close(self) -> None:
        """Remove what was sent from every machine that is still there."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            closing = [depot.close.remote() for depot in self._supplied.values()]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=_CLEARING_S)

    def stop(self) -> None:
        self._stopped.set()

    def run(self, work: Work) -> Ended:
        losses = 0
        while True:
            before = _states(work)
            try:
                return self._tried(work)
            except LostMachineError as lost:
                losses = losses + 1 if _states(work) == before else 1
                if losses == _MOST_LOSSES:
                    raise LostWorkError(
                        f"{work.label} was lost {losses} times, at last because {lost}; {RESUME}"
                    ) from None
                self._tell(f"{work.label}: {lost}; it runs again")
            except UnfitMachineError as unfit:
                insist_on_another(work.need, nodes, self._unfit_now())
                self._tell(f"{work.label}: {unfit}; until then it runs on another machine")

    def run_together(self, works: Sequence[Work]) -> list[Ended | None]:
        if len(works) > self.at_once:  # those that have a machine would wait for the others without end
            raise CnnkitError(
                f"{len(works)} ranks of {amount(works[0].need)} each are more than the cluster has room for, "
                f"which is {self.at_once}: give fewer --ranks, or add a machine"
            )
        with self._room_for(works) as group, contextlib.ExitStack() as stack:
            sites = [
                stack.enter_context(self._site(work.need, scheduling_strategy=group(number)))
                for number, work in enumerate(works)
            ]
            try:
                homes = [self._placed(site, work) for site, work in zip(sites, works, strict=True)]
                address, port = self._get(sites[0].meeting.remote())
            except LostMachineError as lost:
                raise CnnkitError(f"{lost} before the ranks began; the same command starts again") from None
            met = {"MASTER_ADDR": address, "MASTER_PORT": str(port)}

            def run(number: int) -> Ended:
                return self._ran(sites[number], works[number], *homes[number], met)

            with ThreadPoolExecutor(len(works)) as pool:
                begun = [pool.submit(run, number) for number in range(len(works))]
                try:
                    for done in as_completed(begun):
                        if done.exception() is not None or done.result().status != 0:
                            # the others find out by themselves, and say which one they miss
                            wait(begun, timeout=_LAST_WORDS_S)
                            break
                finally:
                    self.stop()
            errors = [one.exception() for one in begun]
            for work, error in zip(works, errors, strict=True):
                if isinstance(error, LostMachineError):
                    raise CnnkitError(f"{work.label}: {error}; {RESUME}")
            return [
                None if isinstance(error, KeyboardInterrupt) else one.result()
                for one, error in zip(begun, errors, strict=True)
            ]

    def _tried(self, work: Work) -> Ended:
        unfit = self._unfit_now()
        with stopped_as_by_ctrl_c(), self._site(work.need, unfit) as site:
            return self._ran(site, work, *self._placed(site, work, unfit), {})

    def _unfit_now(self) -> dict[str, UnfitMachineError]:
        """Return the machines that are given no work for a while, and why."""
        before = time.monotonic() - _UNFIT_S
        return {node: unfit.why for node, unfit in tuple(self._unfit.items()) if unfit.since > before}

    @contextlib.contextmanager
    def _room_for(self, works: Sequence[Work]) -> Iterator[Callable[[int], Any]]:
        """Keep room for all of some works at once; yield how Ray is told the place of each, by its number.

        Two commands whose ranks had a part of their places each would wait for one another.
        """
        import ray
        from ray.util import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        needs = [
            {"CPU": work.need.cpus, "GPU": work.need.gpus, "memory": work.need.memory_bytes} for work in works
        ]
        group = placement_group([{what: many for what, many in need.items() if many} for need in needs])
        try:
            waiting = f"{len(works)} ranks wait until {amount(works[0].need)} for each are free at once"
            self._get(group.ready(), waiting=waiting)
            yield lambda number: PlacementGroupSchedulingStrategy(group, number)
        finally:
            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(group)

    @contextlib.contextmanager
    def _site(self, need: Demand, unfit: Collection[str] = (), **options: Any) -> Iterator[Any]:
        """Ask for a process on a machine that has what is needed, none of the unfit; end it at last."""
        import ray

        if unfit:
            options["label_selector"] = {_NODE_LABEL: f"!in({','.join(sorted(unfit))})"}
        site: Any = (
            ray.remote(Site)
            .options(
                num_cpus=need.cpus,
                num_gpus=need.gpus,
                memory=need.memory_bytes,
                max_restarts=0,
                **options,
            )
            .remote(self._session)
        )
        try:
            yield site
        finally:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(site)

    def _placed(
        self, site: Any, work: Work, unfit: Mapping[str, UnfitMachineError] | None = None
    ) -> tuple[str, str]:
        """Wait until a site has a machine, and give it what work goes on from; return its name and root.

        Raises UnfitMachineError where that machine, which came later or is full by now, cannot take the
        work; no other work is given to it for a while. `unfit` are those that the site must not be on:
        CnnkitError where no other has room for the work.
        """
        waiting = f"{work.label}: waits for a machine with {amount(work.need)} free"
        possible = partial(insist_on_another, work.need, nodes, unfit or {})
        node, root = self._get(site.home.remote(), waiting=waiting, insist=possible)
        machine = next((one for one in nodes() if one.id == node), None)
        if machine is None:
            raise LostMachineError("its machine was lost")
        try:
            with self._lock:
                if node not in self._supplied:
                    insist_on_one_release((machine,))
                    self._processors |= processors((machine,))
                    if self.unlike is None and (other := unlike(self._processors)):
                        self._tell(f"warning: {other}: with --precision auto they compute in other formats")
                    self._supply((machine,))
            for held in pieces([path.absolute() for path in work.kept()]):
                self._give([(machine.name, site)], held)
        except UnfitMachineError as why:
            self._unfit[node] = Unfit(why=why, since=time.monotonic())
            raise
        return machine.name, root

    def _ran(self, site: Any, work: Work, where: str, root: str, environment: Mapping[str, str]) -> Ended:
        folder, log = str(work.folder.absolute()), str(work.log.absolute())
        told = work.variables(root) | dict(environment)
        self._get(site.start.remote(list(work.words(root)), folder, log, told), where=where)
        self._tell(f"{work.label}: on {where}")
        began = time.monotonic()
        # looked at in another thread, so that Ctrl-C, which may come at any moment, drops no half of a look
        with Return(work, root) as back, ThreadPoolExecutor(1) as thread:

            def looked() -> SiteNews:
                return thread.submit(self._looked, site, back, where).result()

            try:
                while True:
                    look = looked()
                    enough = work.enough is not None and work.enough()
                    if look.status is not None:
                        output = look.output.replace(root.encode(), b"")
                        wall_s = time.monotonic() - began
                        return Ended(status=look.status, output=output, where=where, wall_s=wall_s)
                    if work.timeout_s is not None and time.monotonic() - began >= work.timeout_s:
                        raise subprocess.TimeoutExpired(work.label, work.timeout_s)
                    if enough:
                        site.stop.remote(at_once=True)
                    self._insist_on_the_head()
                    self._stopped.wait(_LOOK_S)
                    if self._stopped.is_set():
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                _save(site, looked)
                raise

    def _looked(self, site: Any, back: Return, where: str) -> SiteNews:
        """Take back what was written since the last look, all of it."""
        while True:
            look: SiteNews = self._get(site.look.remote(), where=where)
            back.take(look)
            if not look.more:
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

        with room_in_words():
            reference = ray.put(held)
        for name, refused in [(name, site.take.remote(reference)) for name, site in sites]:
            why = self._get(refused, where=name)
            if why is not None:
                raise UnfitMachineError(f"{name} cannot take what the work reads: {why}; make room there")

    def _get(
        self,
        reference: Any,
        *,
        where: str = "its machine",
        waiting: str | None = None,
        insist: Callable[[], None] = lambda: None,
    ) -> Any:
        """Return what a site answers. Raises LostMachineError where it is gone, CnnkitError where all are.

        `waiting` is said after a while of what may take any time, and is stopped by a stop. `insist` raises
        where that would be in vain.
        """
        import ray

        began, told = time.monotonic(), False
        while True:
            try:
                with room_in_words():
                    return ray.get(reference, timeout=_WAIT_S)
            except ray.exceptions.GetTimeoutError:
                if waiting is not None and self._stopped.is_set():
                    raise KeyboardInterrupt from None
                if waiting is not None and not told and time.monotonic() - began > _PATIENCE_S:
                    self._tell(waiting)
                    told = True
                insist()
                self._insist_on_the_head()
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                if not answers(self._head):
                    raise self._headless() from None
                raise LostMachineError(f"{where} was lost ({first_line(error)})") from None
            except (ray.exceptions.RaySystemError, ray.exceptions.LocalRayletDiedError) as error:
                raise self._headless(first_line(error)) from None
            except ray.exceptions.RayTaskError as error:
                raise CnnkitError(f"{where} cannot go on: {last_line(error)}; {RESUME}") from None

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
            f"is a cluster again, {RESUME}, in the middle of what was at work"
        )


def _save(site: Any, looked: Callable[[], SiteNews]) -> None:
    """Have a command save its state, and take that back."""
    site.stop.remote(at_once=False)
    until = time.monotonic() + _STOPPING_S
    with contextlib.suppress(CnnkitError):
        while looked().status is None and time.monotonic() < until:
            time.sleep(_LOOK_S)


def _states(work: Work) -> dict[Path, int]:
    """Return when each state that work goes on from was written."""
    return {path: path.stat().st_mtime_ns for path in work.kept() if path.suffix == STATE}
