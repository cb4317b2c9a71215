"""Commands whose figures are kept: run by name, gone on with after a stop, and told with their intervals."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.artifacts import write_json

# Student's t for two-sided 95 %, by degrees of freedom
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_LOOK_S, _STOPPING_S = 0.2, 90.0
_STATES = {"sweep": "*/sweeps/*/sweep.json", "train": "*/runs/*/run.json"}


class FailedError(Exception):
    """A command that printed no object; the text says what it said last."""


class OutOfTimeError(Exception):
    """The time is over."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where measurements are kept, until when commands may run, and what every command is told besides."""

    folder: Path
    seeds: int | None
    epochs: int | None
    images: int | None
    more: tuple[object, ...]
    ends: float = math.inf
    # set by Ctrl-C, and by a polite kill
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    def few(self, usual: int) -> range:
        """Return the seeds, as many as were asked for."""
        return range(usual if self.seeds is None else self.seeds)

    def cnnkit(self, name: str, *words: object) -> dict[str, Any]:
        """Return what one command printed with `--json`, as it was kept under a name or by running it.

        With `processor_s`, of all its processes, and `wall_s`: both of every try. Raises FailedError, and
        OutOfTimeError once the command has saved what it needs to go on.
        """
        told = [*map(str, words), *map(str, self.more), "--json"]
        place = self.folder / f"{name}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]}"
        kept, begun = place / "kept.json", place / "begun.json"
        if kept.exists():
            print(f"  {name}: from before", flush=True)
            return dict(json.loads(kept.read_text()))
        before = {"processor_s": 0.0, "wall_s": 0.0}
        if begun.exists():
            before = json.loads(begun.read_text())
        root = place / "artifacts"
        command = [sys.executable, "-m", "cnnkit", *told, "--artifacts", str(root)]
        if begun.exists() and next(root.glob(_STATES[told[0]]), None):
            command.append("--resume")
        place.mkdir(parents=True, exist_ok=True)
        status, spent = self._run(command, place)
        for what, figure in spent.items():
            before[what] += figure
        if status is None:
            write_json(begun, before)
            raise OutOfTimeError
        try:
            found = {**json.loads((place / "stdout").read_text()), **before, "status": status}
        except ValueError:
            said = (place / "stderr").read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
            raise FailedError(f"{name} failed with status {status}: {said[-1]}") from None
        if status:  # a table with holes: the next time its cells are tried again
            print(f"  {name}: status {status}, see {place / 'stderr'}", flush=True)
        write_json(begun if status else kept, before if status else found)
        return found

    def _run(self, command: Sequence[str], place: Path) -> tuple[int | None, dict[str, float]]:
        """Run a command; return its exit status, None where it was stopped, and what it spent."""
        if self._over:
            raise OutOfTimeError
        start = time.perf_counter()
        with (place / "stdout").open("wb") as out, (place / "stderr").open("ab") as err:
            # a group of its own: a Ctrl-C here must not reach it twice
            process = subprocess.Popen(command, stdout=out, stderr=err, process_group=0)
        stopped: float | None = None
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if stopped is None and self._over:
                stopped = time.monotonic()
                process.send_signal(signal.SIGINT)  # it saves its state
            elif stopped is not None and time.monotonic() > stopped + _STOPPING_S:
                process.kill()
            time.sleep(_LOOK_S)
        process.returncode = os.waitstatus_to_exitcode(status)  # wait4 has taken it from Popen
        spent = {"processor_s": usage.ru_utime + usage.ru_stime, "wall_s": time.perf_counter() - start}
        ended = stopped is None or process.returncode == 0
        return (process.returncode if ended else None), spent

    @property
    def _over(self) -> bool:
        return self.stop.is_set() or time.monotonic() >= self.ends

    def told(self, done: Callable[[], None]) -> None:
        """Make a call for what has no result yet; say how long all took, and whether the time was over."""
        with contextlib.suppress(FailedError):
            try:
                done()
            except OutOfTimeError:
                print("the time is over; the same command with the same --folder goes on", flush=True)
        print(f"{(time.monotonic() - self.started) / 60:.1f} minutes", flush=True)


def tried(call: Callable[[], Any]) -> Any:
    """Return what a call returns; None, and a line, for a command that failed."""
    try:
        return call()
    except FailedError as error:
        print(f"  {error}", flush=True)
        return None


def told(name: str, figures: Sequence[float]) -> None:
    """Print a mean with its 95 % interval and the figures themselves."""
    if not figures:
        return
    text = f"{name}: {statistics.mean(figures):.4f}"
    if len(figures) > 1:
        t = _T95[min(len(figures) - 2, len(_T95) - 1)]
        half = t * statistics.stdev(figures) / math.sqrt(len(figures))
        text += f" ± {half:.4f} (95 %)"
    seeds = f"{len(figures)} seed{'s' if len(figures) > 1 else ''}"
    print(f"{text}, {seeds}: {', '.join(f'{f:.4f}' for f in figures)}", flush=True)
