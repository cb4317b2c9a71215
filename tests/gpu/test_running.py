"""Steps that pass, fail, crash, hang, fall short, and those that the budget does not allow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gpu import running
from tests.gpu.running import LINES, Result, Runner, Step


def run(folder: Path, code: str, *, limit_s: float = 30.0, budget_s: float = 60.0, **more: object) -> Result:
    runner = Runner(budget_s=budget_s, environment=dict(os.environ), folder=folder)
    return runner.run(Step(name="a step", words=("-c", code), limit_s=limit_s, **more))  # type: ignore[arg-type]


def is_alive(process: int) -> bool:
    """Tell whether a process still runs; one that was killed may be a zombie for a while."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_step_that_prints_its_object_passes(tmp_path: Path) -> None:
    result = run(tmp_path, "print('{\"accuracy\": 0.5}')")
    assert (result.status, result.answer) == ("passed", {"accuracy": 0.5})
    assert result.seconds is not None


def test_a_failure_is_told_with_its_status_and_last_lines(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(99): print('line', n, file=sys.stderr)\nsys.exit(3)"
    result = run(tmp_path, code)
    assert (result.status, result.why) == ("failed", "exit status 3")
    assert result.last_lines == tuple(f"line {n}" for n in range(99 - LINES, 99))


def test_a_crash_is_told_with_its_signal_and_where_it_was(tmp_path: Path) -> None:
    result = run(tmp_path, "import ctypes\ndef deep(): ctypes.string_at(0)\ndeep()")
    assert (result.status, result.why) == ("failed", "ended by SIGSEGV")
    assert any("in deep" in line for line in result.last_lines)


def test_a_hang_is_stopped_and_says_where_it_hung(tmp_path: Path) -> None:
    code = "import time\nprint('half way', flush=True)\ndef waits(): time.sleep(60)\nwaits()"
    started = time.monotonic()
    result = run(tmp_path, code, limit_s=1)
    assert time.monotonic() - started < 20
    assert result.status == "out of time"
    assert result.why is not None
    assert result.why.endswith("its limit of 1 s")
    assert any("in waits" in line for line in result.last_lines)


def test_a_hang_that_no_polite_signal_ends_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGABRT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )
    assert run(tmp_path, code, limit_s=1).status == "out of time"
    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(child))


def test_output_that_is_no_object_is_a_failure(tmp_path: Path) -> None:
    result = run(tmp_path, "print('no JSON')")
    assert (result.status, result.why) == ("failed", "it did not print one JSON object")
    assert result.last_lines == ("no JSON",)


def test_an_answer_that_falls_short_is_a_failure_and_is_kept(tmp_path: Path) -> None:
    result = run(tmp_path, "print('{\"accuracy\": 0.1}')", falls_short=lambda answer: "it did not learn")
    assert (result.status, result.why, result.answer) == ("failed", "it did not learn", {"accuracy": 0.1})


def test_what_the_budget_does_not_allow_is_not_begun(tmp_path: Path) -> None:
    result = run(tmp_path, "raise SystemExit(1)", budget_s=1)
    assert (result.status, result.seconds) == ("not run: out of time", None)


def test_a_step_is_stopped_at_the_end_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LEAST_S", 0.5)
    result = run(tmp_path, "import time; time.sleep(60)", budget_s=1)
    assert result.status == "out of time"
    assert result.why is not None
    assert result.why.endswith("the end of the budget")


def test_a_step_is_skipped_by_name_where_what_it_opens_was_not_made(tmp_path: Path) -> None:
    runner = Runner(budget_s=60, environment=dict(os.environ), folder=tmp_path)
    runner.run(Step(name="train", words=("-c", "raise SystemExit(1)"), limit_s=30))
    result = runner.run(Step(name="profile", words=("-c", ""), limit_s=30, after=("train",)))
    assert (result.status, result.why) == ("skipped", "needs: train")
    assert [known.step.name for known in runner.results] == ["train", "profile"]
