"""Steps, each a process of its own with a limit on its time, under one budget for all of them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["passed", "failed", "out of time", "skipped", "not run: out of time"]

LINES, WIDTH = 15, 240  # of a failure's last lines, so that a page stays a page
LEAST_S = 3.0  # a step that has less than that left is not begun
# what a process that is asked to say where it hangs gets for that, then what a killed one gets to be gone
LAST_WORDS_S, BURIAL_S = 2.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to run: `words` follow the interpreter. `why_not` skips it; `after` names what must have passed.

    `answers` tells whether it prints one JSON object on stdout, as the commands do with --json; `falls_short`
    says what is missing in that object.
    """

    name: str
    words: tuple[str, ...]
    limit_s: float
    why_not: str | None = None
    after: tuple[str, ...] = ()
    answers: bool = True
    falls_short: Callable[[Mapping[str, Any]], str | None] = lambda answer: None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a step; `seconds` is None where it was not begun, `answer` where it printed none."""

    step: Step
    status: Status
    why: str | None = None
    seconds: float | None = None
    answer: Mapping[str, Any] | None = None
    output: str = ""
    last_lines: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it ran to its end and was content."""
        return self.status == "passed"

    @property
    def broke(self) -> bool:
        """Whether it was begun and went wrong."""
        return self.status in ("failed", "out of time")


class Runner:
    """Runs steps one after the other; what the budget does not allow is not begun."""

    def __init__(
        self,
        *,
        budget_s: float,
        environment: Mapping[str, str],
        folder: Path,
        tell: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self.results: list[Result] = []
        self._environment = {**environment, "PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
        self._folder, self._tell = folder, tell
        self._deadline = time.monotonic() + budget_s

    def run(self, step: Step) -> Result:
        """Run a step unless something speaks against it; the result is kept in `results`, too."""
        result = self._refused(step) or self._begun(step)
        self.results.append(result)
        self._tell(result)
        return result

    def _refused(self, step: Step) -> Result | None:
        if step.why_not:
            return Result(step=step, status="skipped", why=step.why_not)
        if self._deadline - time.monotonic() < LEAST_S:
            return Result(step=step, status="not run: out of time")
        passed = {result.step.name for result in self.results if result.passed}
        missing = [name for name in step.after if name not in passed]
        return Result(step=step, status="skipped", why=f"needs: {', '.join(missing)}") if missing else None

    def _begun(self, step: Step) -> Result:
        left = self._deadline - time.monotonic()
        stem = "".join(letter if letter.isalnum() else "-" for letter in step.name)
        out, err = self._folder / f"{stem}.out", self._folder / f"{stem}.err"
        start = time.monotonic()
        status = _run(step, out, err, min(step.limit_s, left), self._environment, self._folder)
        seconds, output = time.monotonic() - start, out.read_text("utf-8", "replace")
        answer = _answer(output) if step.answers else {}
        if status is None:
            limit = f"its limit of {step.limit_s:.0f} s" if step.limit_s <= left else "the end of the budget"
            why: str | None = f"stopped after {seconds:.0f} s, {limit}"
        elif status:
            why = f"exit status {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
        else:
            why = "it did not print one JSON object" if answer is None else step.falls_short(answer)
        return Result(
            step=step,
            status="out of time" if status is None else "failed" if why else "passed",
            why=why,
            seconds=seconds,
            answer=answer or None,
            output=output,
            last_lines=last_lines(*((err, out) if step.answers else (out, err))) if why else (),
        )


def _answer(output: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(output)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _run(
    step: Step, out: Path, err: Path, seconds: float, environment: Mapping[str, str], folder: Path
) -> int | None:
    """Run a step to its end; return its exit status, None where it had to be stopped."""
    command = [sys.executable, *step.words]
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,  # its own children end with it
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let a process say where it hangs (Python's fault handler answers SIGABRT), then end its group."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LAST_WORDS_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # a process that waits inside of a driver is not gone at once, and must not hold up what comes next
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(BURIAL_S)


def without_core_files() -> None:
    """Let processes that are ended from now on leave no memory image behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def last_lines(*files: Path) -> tuple[str, ...]:
    """Return the last lines of the first file that holds any."""
    for file in files:
        text = file.read_text("utf-8", "replace").replace("\r", "\n")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        if lines:
            return tuple(line[:WIDTH] for line in lines[-LINES:])
    return ()
