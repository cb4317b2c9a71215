"""A run that is killed at any moment ends, resumed, with the same checkpoint byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from toolkit.artifacts import hash_file, sidecar  # noqa: E402  (after the skip)
from toolkit.errors import CnnkitError, CorruptError, NotFoundError  # noqa: E402
from toolkit.training import run, session  # noqa: E402
from toolkit.training.data.prepare import prepare  # noqa: E402
from toolkit.training.recipes import override  # noqa: E402
from toolkit.training.record import facts  # noqa: E402
from toolkit.training.record.facts import differences, identity, scheme_of  # noqa: E402
from toolkit.training.record.folder import RunFolder  # noqa: E402
from toolkit.training.run import train  # noqa: E402
from toolkit.transfer import KnownInput  # noqa: E402

# everything that has a state: dropout, momentum, averaged weights, augmentation, a schedule
FIELDS = {"epochs": 3, "batch": 100, "ema_decay": 0.9, "flip": True, "shift_pixels": 1, "cutout_pixels": 3}
STEPS = 18  # an epoch: 1,800 images
# in the first epoch before anything good was kept, on an epoch's last step, and in the last epoch
KILL_POINTS = (3, 2 * STEPS, 2 * STEPS + 7)

KILLED = f"""
import os, signal, sys
from pathlib import Path
import torch
from toolkit import zoo
from toolkit.training import Job, recipes
from toolkit.training.run import train

class Killer:
    left = int(sys.argv[2])
    def say(self, text): pass
    def start(self, *, epochs, images, done): pass
    def epoch(self, record): pass
    def images(self, count):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

spec = zoo.model("lenet-dropout")
recipe = recipes.override(recipes.find(spec, "default"), {FIELDS!r})
job = Job(model=spec, recipe=recipe, root=Path(sys.argv[1]), dataset="fashion-mnist-sample", threads=1,
          save_every_s=0.0)
train(job, Killer())
"""


def weights(root: Path) -> str:
    return hash_file(root / "lenet-dropout" / "lenet-dropout.safetensors")


@pytest.fixture
def job(make_job: Any) -> Any:
    return make_job("lenet-dropout", changes=FIELDS, threads=1)


def test_a_killed_run_ends_with_the_same_bytes_as_one_that_was_not(
    job: Any, listener: Any, tmp_path: Path
) -> None:
    train(job, listener)
    wanted = weights(job.root)
    for point in KILL_POINTS:
        root = tmp_path / f"killed-{point}"
        ended = subprocess.run([sys.executable, "-c", KILLED, str(root), str(point)], check=False)
        assert ended.returncode == -signal.SIGKILL
        assert not (root / "lenet-dropout" / "lenet-dropout.safetensors").exists()
        outcome = train(dataclasses.replace(job, root=root, resume=True), listener)
        assert weights(root) == wanted, f"killed at step {point}"
        assert [record.epoch for record in outcome.records] == [1, 2, 3]
        assert not list(outcome.folder.glob("*.state"))  # a finished run needs none


class Stopper:
    """Presses Ctrl-C, or sends another signal, after so many steps."""

    def __init__(self, steps: int, number: int = signal.SIGINT) -> None:
        self.left = steps
        self.signal = number

    def say(self, text: str) -> None: ...

    def read(self, done: int, total: int) -> None: ...

    def start(self, *, epochs: int, images: int, done: int) -> None: ...

    def epoch(self, record: object) -> None: ...

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_its_step_and_goes_on_from_it(job: Any, listener: Any, number: int) -> None:
    with pytest.raises(CnnkitError, match="--resume goes on where it was"):
        train(job, Stopper(25, number))
    train(dataclasses.replace(job, resume=True), listener)
    assert f"start 3 × 1800, {25 * 100} done" in listener.said
    again = dataclasses.replace(job, root=job.root / "fresh")
    train(again, listener)
    assert weights(again.root) == weights(job.root)


@pytest.mark.gpu
@pytest.mark.parametrize("arithmetic", ["bf16", "fp16"])
def test_a_run_that_was_stopped_on_a_gpu_ends_with_the_same_bytes(
    job: Any, listener: Any, arithmetic: str
) -> None:
    job = dataclasses.replace(job, device="cuda", arithmetic=arithmetic, layout="channels-last")
    with pytest.raises(CnnkitError, match="--resume goes on where it was"):
        train(job, Stopper(25))
    train(dataclasses.replace(job, resume=True), listener)
    again = dataclasses.replace(job, root=job.root / "fresh")
    train(again, listener)
    assert weights(again.root) == weights(job.root)


def test_a_run_in_the_background_of_a_script_ignores_ctrl_c(job: Any, listener: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as such a shell starts it; the fixture hears again
    train(job, Stopper(5))
    assert weights(job.root)


def test_a_run_stopped_while_it_scores_an_epoch_goes_on_from_there(
    job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dataclasses.replace(job, save_every_s=1e6)
    seen = []

    def score(*args: Any, scored: Any = session.score, **more: Any) -> Any:
        seen.append(args)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return scored(*args, **more)

    monkeypatch.setattr(session, "score", score)
    with pytest.raises(CnnkitError, match="--resume goes on where it was"):
        train(job, listener)
    resumed = train(dataclasses.replace(job, resume=True), listener)
    assert f"start 3 × 1800, {2 * 1800} done" in listener.said
    again = dataclasses.replace(job, root=job.root / "fresh")
    whole = train(again, listener)
    assert weights(again.root) == weights(job.root)
    assert [record.rate for record in resumed.records] == [record.rate for record in whole.records]


def test_a_run_stopped_before_it_began_does_not_promise_to_go_on(
    job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: Any, watcher: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "prepare", interrupted)
    with pytest.raises(CnnkitError, match="stopped before the training began; the same command starts"):
        train(job, listener)


def test_equal_pictures_by_another_path_are_the_same_run(job: Any) -> None:
    begun = identity(job, "equal")
    moved = dataclasses.replace(job, dataset="folder:/elsewhere")
    assert differences(identity(moved, "equal"), begun) == []
    assert "dataset 'fashion-mnist-sample', now 'folder:/elsewhere'" in differences(
        identity(moved, "other"), begun
    )


def test_pixels_that_were_asked_for_make_another_run_where_weights_know_others(job: Any) -> None:
    asking = dataclasses.replace(job, recipe=override(job.recipe, {"pixels": job.recipe.pixels}))
    assert differences(identity(asking, "equal"), identity(job, "equal")) == []
    now, then = (identity(dataclasses.replace(one, pretrained="x"), "equal") for one in (asking, job))
    assert differences(now, then) == ["own_pixels False, now True"]


def test_only_runs_whose_weights_a_release_changes_are_of_another_scheme(job: Any) -> None:
    old, *new = (
        scheme_of(dataclasses.replace(job, recipe=override(job.recipe, changes), freeze=True))
        for changes in ({}, {"augmix": 0.1}, {"patience_epochs": 1, "unfreeze_at": 1})
    )
    assert {*new, scheme_of(dataclasses.replace(job, pretrained="x"))} == {old + 1}
    turning = dataclasses.replace(job, recipe=override(job.recipe, {"rotate_degrees": 5}))
    average = {"ema_decay": None, "average_from": 0.5}
    cycles = {**average, "schedule": "cosine", "cycles": 2, "epochs": 4}
    newest = {
        scheme_of(dataclasses.replace(job, recipe=override(job.recipe, changes)))
        for changes in (
            {"crop_area": 0.5},
            {**average, "batch": 1},
            {**cycles, "patience_epochs": 1},
        )
    }
    assert {*newest, scheme_of(dataclasses.replace(turning, size=(20, 30)))} == {old + 2}
    assert scheme_of(dataclasses.replace(turning, size=(30, 30))) == old


def test_going_on_with_another_torch_draws_or_kernels_is_said(job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError):
        train(job, Stopper(5))
    (path,) = job.root.glob("*/runs/*/run.json")
    told = json.loads(path.read_text())
    del told["scheme"]  # which the first releases did not write
    older = {"torch": "1.0", "compute": {**told["compute"], "few_channels": True}}
    path.write_text(json.dumps({**told, **older}))
    train(dataclasses.replace(job, resume=True), listener)
    notes = [line for line in listener.said if line.startswith("note: the run was begun with ")]
    for note, what in zip(notes, ("torch 1.0 and", "draws, schedules,", "kernels that this"), strict=True):
        assert note.startswith(f"note: the run was begun with {what} ")


def test_an_exact_resume_holds_after_a_divergence_too(make_job: Any, listener: Any) -> None:
    fields = {"lr": 0.9, "epochs": 3, "batch": 32, "guard": True}
    job = make_job("lenet-relu", "textbook", fields, threads=1)
    whole = train(job, listener)
    assert whole.events
    other = dataclasses.replace(job, root=job.root / "stopped", save_every_s=0.0)
    with pytest.raises(CnnkitError, match="--resume"):
        train(other, Stopper(100))  # some steps after the first attempt was given up
    resumed = train(dataclasses.replace(other, resume=True), listener)
    assert resumed.checkpoint.passport.sha256 == whole.checkpoint.passport.sha256
    assert resumed.events == whole.events


def test_a_run_is_resumed_only_as_it_was_begun(job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError):
        train(job, Stopper(2))
    changed = dataclasses.replace(job.recipe, lr=0.5)
    with pytest.raises(
        CnnkitError, match=r"begun otherwise: seed 0, now 3; lr 0.004, now 0.5; give the same"
    ):
        train(dataclasses.replace(job, recipe=changed, seed=3, resume=True), listener)


def test_a_run_is_resumed_only_on_the_same_pixels_and_from_the_same_weights(
    make_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, seed in (("train", 0), ("test", 50)):
        for number in range(24):
            path = tmp_path / "own" / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (28, 28), (seed + number, 9 * number, 7)).save(path)
    start = train(make_job("lenet-relu", images=100, changes={"epochs": 1})).checkpoint.path
    weights = tmp_path / "start.safetensors"
    weights.write_bytes(start.read_bytes())
    job = make_job(
        "lenet-relu",
        changes={"epochs": 3, "batch": 4},
        dataset=f"folder:{tmp_path / 'own'}",
        pretrained=str(weights),
        grey=True,
        save_every_s=0.0,
    )
    with pytest.raises(CnnkitError, match="--resume goes on"):
        train(job, Stopper(2))
    again = dataclasses.replace(job, resume=True)
    with pytest.raises(CnnkitError, match="begun otherwise: grey True, now False"):
        train(dataclasses.replace(again, grey=False))
    with pytest.raises(CnnkitError, match=r"begun otherwise: levels None, now \[?\(?0.0, 100.0"):
        train(dataclasses.replace(again, levels="0,100"))
    other = weights.with_name("other.safetensors")
    other.write_bytes(weights.read_bytes())
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CnnkitError, match=r"begun otherwise: pretrained_hash '\w+', now '\w+'"):
        train(again)
    weights.write_bytes(other.read_bytes())
    passport = sidecar(weights)
    passport.write_bytes(sidecar(start).read_bytes())
    with pytest.raises(CnnkitError, match="begun otherwise: pretrained_hash"):
        train(again)
    passport.unlink()
    # what the first releases hashed of a passport, and a release before them did not
    known = KnownInput(size=(28, 28), mean=(0.5,), std=(0.25,), classes=("a", "b"))
    text = repr(known).replace(", turned=False", "")
    monkeypatch.setattr(facts, "known_input", lambda source: known)
    first = hashlib.sha256(f"{hash_file(other)} {text}".encode()).hexdigest()
    assert identity(again, "equal").pretrained_hash == first
    monkeypatch.setattr(facts, "known_input", lambda source: dataclasses.replace(known, turned=True))
    assert identity(again, "equal").pretrained_hash != first
    monkeypatch.undo()
    begun = identity(again, "equal")
    assert differences(begun, dataclasses.replace(begun, pretrained_hash=None)) == []
    # the same weights by another path
    train(dataclasses.replace(again, pretrained=str(other)))


def test_runs_begun_otherwise_do_not_stand_in_the_way(job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError):
        train(job, Stopper(25))
    with pytest.raises(CnnkitError):
        train(dataclasses.replace(job, seed=3), Stopper(2))
    train(dataclasses.replace(job, resume=True), listener)
    assert f"start 3 × 1800, {25 * 100} done" in listener.said


def test_a_failed_start_leaves_no_run_to_resume(job: Any, listener: Any, tmp_path: Path) -> None:
    with pytest.raises(CnnkitError):
        train(job, Stopper(25))
    before = set(job.root.rglob("run.json"))
    with pytest.raises(CnnkitError):
        train(dataclasses.replace(job, pretrained=str(tmp_path / "none.pth")), listener)
    assert set(job.root.rglob("run.json")) == before


def test_threads_and_format_asked_for_otherwise_are_said_not_to_be_used(job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError):
        train(dataclasses.replace(job, arithmetic="fp32"), Stopper(25))
    train(dataclasses.replace(job, threads=2, arithmetic="bf16", resume=True), listener)
    said = "\n".join(listener.said)
    assert "--threads 2 is not used: a run goes on as it was begun, with 1" in said
    assert "--precision bf16 is not used: a run goes on as it was begun, with fp32" in said


SMALL: dict[str, Any] = {"images": 200, "save_every_s": 0.0, "changes": {"epochs": 1, "batch": 30}}


@pytest.mark.parametrize(
    ("begun", "typed"),
    [
        ({"arithmetic": "bf16", "layout": "contiguous", "threads": 1}, {}),
        ({}, {"arithmetic": "bf16", "layout": "contiguous", "threads": 2}),
    ],
)
def test_a_passport_tells_the_options_that_a_run_was_begun_with(
    make_job: Any, listener: Any, begun: dict[str, Any], typed: dict[str, Any]
) -> None:
    with pytest.raises(CnnkitError):
        train(make_job(**SMALL, **begun), Stopper(3))
    passport = train(make_job(**SMALL, **typed, resume=True), listener).checkpoint.passport
    told = passport.options
    usual = {"arithmetic": "auto", "layout": "auto", "threads": None, **begun}
    assert told is not None
    assert {"arithmetic": told.precision, "layout": told.layout, "threads": told.threads} == usual


def test_a_run_whose_options_were_not_noted_tells_what_it_computed_in(make_job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError):
        train(make_job(**SMALL, arithmetic="bf16", layout="contiguous", threads=1), Stopper(3))
    (path,) = make_job().root.glob("*/runs/*/run.json")
    told = json.loads(path.read_text())
    del told["options"]
    path.write_text(json.dumps(told))
    found = train(make_job(**SMALL, resume=True), listener).checkpoint.passport.options
    assert found is not None
    assert (found.precision, found.layout, found.threads) == ("bf16", "contiguous", 1)


def test_a_run_that_goes_on_with_other_ranks_tells_the_threads_that_it_has_now(
    make_job: Any, listener: Any
) -> None:
    with pytest.raises(CnnkitError):
        train(make_job(**SMALL, threads=1), Stopper(3))
    (path,) = make_job().root.glob("*/runs/*/run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "ranks": 2}))
    outcome = train(make_job(**SMALL, threads=2, resume=True), listener)
    passport, said = outcome.checkpoint.passport, "\n".join(listener.said)
    assert passport.options is not None
    assert passport.compute is not None
    assert (outcome.threads, passport.options.threads, passport.compute.threads) == (2, 2, 2)
    assert "computing on cpu with 2 threads" in said
    assert "is not used" not in said


def test_there_must_be_something_to_resume(job: Any, listener: Any) -> None:
    with pytest.raises(NotFoundError, match="no unfinished run"):
        train(dataclasses.replace(job, resume=True), listener)
    train(job, listener)
    with pytest.raises(NotFoundError, match="no unfinished run"):
        train(dataclasses.replace(job, resume=True), listener)


def test_a_run_that_another_process_works_on_is_left_to_it(job: Any, listener: Any) -> None:
    folder = RunFolder.new(job.root / "lenet-dropout" / "runs")
    fingerprint = prepare(job).dataset.fingerprint
    folder.begin(dataclasses.replace(identity(job, fingerprint), threads=1))
    with pytest.raises(CnnkitError, match="another process is training in"):
        train(dataclasses.replace(job, resume=True), listener)
    folder.close()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_state_is_named(job: Any, listener: Any, damage: str) -> None:
    with pytest.raises(CnnkitError):
        train(dataclasses.replace(job, save_every_s=0.0), Stopper(5))
    (state,) = job.root.glob("*/runs/*/latest.state")
    data = state.read_bytes()
    state.write_bytes(
        {"cut": data[: len(data) // 2], "flipped": b"\xff" * 64 + data[64:], "empty": b""}[damage]
    )
    with pytest.raises(CorruptError, match=r"latest\.state is damaged"):
        train(dataclasses.replace(job, resume=True), listener)


def test_a_run_json_that_cannot_be_read_is_named(job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError):
        train(job, Stopper(5))
    (facts,) = job.root.glob("*/runs/*/run.json")
    facts.write_text("{")
    with pytest.raises(CorruptError, match=r"run\.json cannot be read"):
        train(dataclasses.replace(job, resume=True), listener)


def test_two_runs_in_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    folders = [RunFolder.new(tmp_path) for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3
    for folder in folders:
        folder.close()


def test_a_run_keeps_the_thread_count_and_format_that_it_was_begun_with(make_job: Any, listener: Any) -> None:
    job = make_job("lenet-dropout", changes={**FIELDS, "epochs": 1}, images=400, threads=2)
    with pytest.raises(CnnkitError):
        train(job, Stopper(2))
    torch.set_num_threads(1)
    outcome = train(dataclasses.replace(job, threads=None, resume=True), listener)
    assert outcome.threads == 2
    facts = json.loads((outcome.folder / "run.json").read_text())
    assert facts["threads"] == facts["compute"]["threads"] == 2
    assert outcome.folder.parent.samefile(job.root / "lenet-dropout" / "runs")
