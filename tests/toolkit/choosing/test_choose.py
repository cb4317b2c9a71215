"""A whole choosing over runtimes that are quick, noisy, wrong, that hang and that crash."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door
from tests.hearing import CNNKIT
from toolkit.artifacts import open_artifact, shipped_root
from toolkit.choices import choice_path, find_choice, read_choice, this_machine, write_choice
from toolkit.choosing import Candidate, ChooseSettings, bays
from toolkit.choosing.choose import choose
from toolkit.choosing.confirm import confirm_choice
from toolkit.choosing.explaining import slower_rows
from toolkit.choosing.pictures import pictures_for
from toolkit.errors import CnnkitError, GateError
from toolkit.resolving import release_of

MODEL = "lenet-maxpool"
DATA = ("--dataset", "fashion-mnist-sample")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chosen")


@pytest.fixture(scope="module")
def chosen(plugged: dict[str, str], root: Path) -> Any:
    """Choose among all of the runtimes; one that hangs gets three seconds, the others as long as ever."""

    class Hurried(bays.Bay):
        def __init__(self, candidate: Candidate, limit_s: float, *more: Any) -> None:
            super().__init__(candidate, 3.0 if candidate.backend == "hanging" else limit_s, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bays, "Bay", Hurried)
        found = choose(
            MODEL,
            dataset="fashion-mnist-sample",
            settings=ChooseSettings(
                backends=("plain", "quick", "noisy", "broken", "hanging", "crashing"), time_s=10
            ),
            root=root,
        )
    return found.to_json()


def why(chosen: Any, backend: str, precision: str = "fp32") -> str:
    entry = next(
        one for one in chosen["rejected"] if (one["backend"], one["precision"]) == (backend, precision)
    )
    return str(entry["why"])


def test_the_fastest_that_answers_like_the_baseline_is_chosen(chosen: Any) -> None:
    assert (chosen["chosen"]["backend"], chosen["chosen"]["precision"]) == ("quick", "fp32")
    assert chosen["chosen"]["gain_ci95"][0] > 1.02
    assert chosen["baseline"]["backend"] == "plain"
    assert chosen["chosen"]["accuracy"] == chosen["baseline"]["accuracy"] > 0.9
    assert chosen["chosen"]["memory_bytes"] > 20e6
    assert chosen["chosen"]["settings"] == {}
    assert not chosen["partial"]
    assert {"processor", "cores", "memory_bytes", "versions"} <= set(chosen["machine"])
    assert [point["batch"] for point in chosen["curve"]][:3] == [1, 2, 4]


def test_noise_is_rejected_by_its_accuracy(chosen: Any) -> None:
    assert "it loses +" in why(chosen, "noisy")
    assert "over the 0.5 allowed" in why(chosen, "noisy")


def test_nan_is_rejected_in_the_precision_that_has_it_and_nowhere_else(chosen: Any) -> None:
    assert why(chosen, "broken", "bf16") == "its answers hold NaN or infinity (512 of 512 pictures)"
    assert "not judged" in why(chosen, "broken", "fp32")


def test_one_that_hangs_and_one_that_crashes_end_alone_and_are_rejected_with_the_reason(chosen: Any) -> None:
    assert why(chosen, "hanging") == "answering pictures took over 3 s and was ended"
    assert "answering pictures ended its process by SIGABRT" in why(chosen, "crashing")


def test_the_seconds_of_each_stage_are_told(chosen: Any) -> None:
    stages = chosen["stages"]
    assert {"files", "opening", "timing", "judging", "settings", "ranking", "confirming", "curve"} <= set(
        stages
    )
    assert all(seconds >= 0 for seconds in stages.values())
    assert sum(stages.values()) <= chosen["seconds"] + 0.1


def test_the_choice_is_written_and_holds_for_this_machine_and_these_weights(chosen: Any, root: Path) -> None:
    path = root / MODEL / f"{MODEL}.choice.json"
    assert chosen["choice_file"] == str(path)
    file = read_choice(path)
    assert file is not None
    assert file.chosen.backend == "quick"
    weights = open_artifact(shipped_root() / MODEL / f"{MODEL}.safetensors").passport.sha256
    assert file.weights == weights
    found = find_choice(root, MODEL, release_of)
    assert found is not None
    assert found.why_not is None


def test_confirming_measures_the_choice_again_and_changes_nothing(chosen: Any, root: Path) -> None:
    path = root / MODEL / f"{MODEL}.choice.json"
    before = path.read_bytes()
    done = cnnkit("choose", MODEL, "--confirm", "--artifacts", root, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chosen"]["backend"] == "quick"
    assert found["pictures"] == chosen["pictures"]  # of the data set that was named then
    assert Path(found["chosen"]["artifact"]).is_absolute()
    assert path.read_bytes() == before


def test_what_is_not_confirmed_says_why_and_ctrl_c_is_one_line(
    chosen: Any, root: Path, tmp_path: Path
) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(
        CnnkitError, match="interrupted: nothing was confirmed, and the choice stays as it is"
    ):
        confirm_choice(MODEL, root=root, tell=interrupt)
    known = read_choice(root / MODEL / f"{MODEL}.choice.json")
    assert known is not None
    poor = dataclasses.replace(known, chosen=dataclasses.replace(known.baseline, backend="noisy"))
    write_choice(
        choice_path(tmp_path, MODEL),
        dataclasses.replace(poor, machine=this_machine({"noisy": release_of("noisy") or ""})),
    )
    settings = ChooseSettings(time_s=5, allow_noise=True)
    with pytest.raises(
        GateError, match=r"the choice is not confirmed: it loses \+.* over the 0\.5 allowed; `cn"
    ):
        confirm_choice(MODEL, root=tmp_path, settings=settings)


def test_confirming_holds_a_choice_to_its_own_budget_but_for_what_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def confirm(*given: Any, changes: Any, **more: Any) -> Any:
        asked.append(dict(changes))
        raise CnnkitError("enough")

    monkeypatch.setattr("toolkit.choosing.confirm.confirm_choice", confirm)
    for words, changes in (
        ((), {}),
        (("--p95", "6"), {"within_ms": 6.0, "quantile": 0.95}),
        (("--memory", "60", "--throughput"), {"memory_bytes": 60_000_000, "throughput": True}),
    ):
        assert cnnkit("choose", MODEL, "--confirm", *words).exit_code == 1
        assert asked[-1] == changes


def test_eval_and_profile_look_at_the_choice_and_nothing_beside_it(chosen: Any, root: Path) -> None:
    for words, wanted in (
        (("eval", MODEL, "--choice", *DATA, "--first", 20), "quick"),
        (("profile", MODEL, "--choice", "--duration", 0.05), "quick"),
    ):
        done = cnnkit(*words, "--artifacts", root, "--json")
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        backends = [found["backend"]] if "backend" in found else list(found["runs"][0]["backends"])
        assert backends == [wanted]
        assert "as chosen: quick fp32" in " ".join(done.stderr.split())
    refused = cnnkit("eval", MODEL, "--choice", "--backend", "ort", "--artifacts", root)
    assert (refused.exit_code, "leave those out" in refused.stderr) == (2, True)
    none = cnnkit("eval", MODEL, "--choice", "--artifacts", root / "elsewhere")
    assert (none.exit_code, "`cnnkit choose lenet-maxpool` makes one" in none.stderr) == (1, True)


@pytest.mark.slow
def test_a_file_that_no_picture_can_decide_is_out_and_rows_tell_why_it_is_slower(
    plugged: dict[str, str], tmp_path: Path
) -> None:
    settings = ChooseSettings(backends=("ort", "cheap"), time_s=10, allow_noise=True)
    found = choose(MODEL, dataset="fashion-mnist-sample", settings=settings, root=tmp_path).to_json()
    assert found["baseline"]["backend"] == "ort"
    # 200 pictures cannot tell half a point
    assert "undecided" in why(found, "cheap", "int8")
    plain, cheaper = (
        Candidate(backend="ort", artifact=open_artifact(path))
        for path in (
            shipped_root() / MODEL / f"{MODEL}.onnx",
            tmp_path / MODEL / f"{MODEL}.int8.onnx",
        )
    )
    rows = slower_rows(plain, cheaper, 1, 0)
    assert 0 < len(rows) <= 3
    assert all(row.cheaper_ms > row.plain_ms for row in rows)


@pytest.mark.slow  # test_selection.py has the words
def test_a_budget_that_the_choice_does_not_keep_is_told_with_the_nearest(chosen: Any, root: Path) -> None:
    words = ("choose", MODEL, "--confirm", *DATA, "--artifacts", root, "--p95", "0.00000001")
    done = cnnkit(*words)
    assert done.exit_code == 4
    assert "nothing keeps to the budget; the nearest: p95 within" in " ".join(done.stderr.split())


def cnnkit(*words: object) -> Result:
    return CliRunner().invoke(front_door.main, [str(word) for word in words])


@pytest.mark.slow  # test_selection.py has the rule
def test_without_pictures_only_what_is_numerically_equal_is_chosen(
    plugged: dict[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "choice.html"
    words = (
        "choose",
        MODEL,
        "--untrained",
        "--backend",
        "ort,quick,cheap",
        "--time",
        5,
        "--artifacts",
        tmp_path,
    )
    done = cnnkit(*words, "--html", page, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chosen"]["backend"] == "quick"
    assert found["chosen"]["accuracy"] is None
    assert "not made: no picture can judge it; --unjudged" in why(found, "cheap", "int8")
    assert "No accuracy was measured" in page.read_text()


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_what_is_complete_marked_partial_and_no_process(
    plugged: dict[str, str], tmp_path: Path, stop: signal.Signals
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ("choose", MODEL, *DATA, "--backend", "plain", "--artifacts", str(tmp_path), "--json")
    process = subprocess.Popen(
        [*CNNKIT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**plugged, "TMPDIR": str(temporary)},
        cwd=tmp_path,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("judging"):
            break
    workers = children(process.pid)
    assert workers
    process.send_signal(stop)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert stdout, stderr
    found = json.loads(stdout)
    assert (found["partial"], found["chosen"]) == (True, None)
    assert not list(tmp_path.rglob("*.choice.json"))
    assert not list(temporary.glob("cnnkit-choose-*"))
    assert "interrupted" in stderr
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    source = open_artifact(shipped_root() / MODEL / f"{MODEL}.safetensors")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with (
            pytest.raises(CnnkitError, match=r"cannot write the validation pictures .*free some space"),
            pictures_for(source, ChooseSettings(), "fashion-mnist-sample"),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", "/dev/null")
    with (
        pytest.raises(
            CnnkitError, match=r"cannot make a folder for the pictures: .*; free some space or set"
        ),
        pictures_for(source, ChooseSettings(), "fashion-mnist-sample"),
    ):
        pass


SLIPS: dict[tuple[str, ...], tuple[int, str]] = {
    ("--p95", "3", "--quantile", "0.9", "3"): (2, "name one of them"),
    ("--batch", "0"): (2, "whole numbers of 1 or more"),
    ("--batch", "1,8"): (1, "add `--throughput`, or name one"),
    ("--backend", "orrt"): (1, "no backend 'orrt'; known: .* Did you mean 'ort'"),
    ("--threads", "99999"): (2, "at most 1024"),
    ("--confirm", "--backend", "ort", "--batch", "8"): (1, "leave out --backend, --batch"),
    ("--html", "/dev/null/page.html"): (1, "cannot write /dev/null/page.html: "),
    ("--artifacts", "/dev/null/here"): (1, "cannot write .*choice.json: .*name another folder with `--artif"),
    ("--confirm",): (1, "no choice of lenet-maxpool is here: `cnnkit choose lenet-maxpool` makes one"),
}


@pytest.mark.parametrize("words", SLIPS, ids=lambda words: words[0])
def test_slips_are_told_in_one_line(
    words: tuple[str, ...], run: Callable[..., Result], tmp_path: Path
) -> None:
    status, said = SLIPS[words]
    done = run("choose", MODEL, *DATA, "--artifacts", tmp_path, *words)
    assert done.exit_code == status
    assert re.search(said, " ".join(done.stderr.split())), done.stderr
