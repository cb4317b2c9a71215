"""A sweep's cells: each in a process of its own, failing alone, kept, tabled and drawn."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.hearing import CNNKIT
from tests.toolkit.training.record.test_run_files import REPORT
from tests.toolkit.training.test_own_code import CODE
from toolkit import schema, zoo
from toolkit.clusters import Cluster, Demand, Ended, LostWorkError, Sent, Work
from toolkit.clusters.local import LocalWorkplace
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.locking import lock
from toolkit.models import Recipe
from toolkit.opening import Selection, open_model
from toolkit.training import sweep as sweeping
from toolkit.training.axes import axis_values
from toolkit.training.cells import cell_name, cell_names
from toolkit.training.jobs import make_job
from toolkit.training.recipes import override
from toolkit.training.sweep import run_sweep, sweep
from toolkit.training.sweep_plan import SweepPlan, begin_folder, find_begun
from toolkit.training.table import Table, varied

pytest.importorskip("torch")

FIXED = ("--dataset", "fashion-mnist-sample", "--epochs", "1", "--images", "200", "--threads", "1")


def test_cells_are_all_combinations_the_last_axis_changing_fastest() -> None:
    plan = SweepPlan(model="lenet", axes={"batch": ("8", "16"), "lr": ("0.1",), "seed": ("0", "1")}, fixed=())
    values = [tuple(cell.values()) for cell in plan.cells()]
    assert values == [("8", "0.1", "0"), ("8", "0.1", "1"), ("16", "0.1", "0"), ("16", "0.1", "1")]
    assert list(varied(plan.axes)) == ["batch", "seed"]
    assert axis_values("threads", ["4.0", "4"]) == ("4",)
    assert axis_values("images", ["1e3", 20]) == ("1000", "20")
    assert axis_values("lr", ["1e-3"]) == ("1e-3",)
    # one value is one cell, called as it was typed first
    assert axis_values("lr", ["0.1", "0.10", 1e-1, "0.2"]) == ("0.1", "0.2")
    assert axis_values("optimizer", ["SGD", "sgd"]) == ("SGD",)
    assert axis_values("seed", [str(2**53 + 1)]) == (str(2**53 + 1),)
    two = [{"recipe": "a/b.toml", "lr": "1e-3"}, {"recipe": "a-b.toml", "lr": "1e-3"}]
    # two recipes, and the name of one is no folder's
    assert cell_names(two) == ["recipe-a-b.toml_lr-1e-3_db6f83cf9eba6e2b", "recipe-a-b.toml_lr-1e-3"]
    # as older releases named them, whose sweeps go on
    assert cell_names(two[:1]) == ["recipe-a-b.toml_lr-1e-3"]
    assert cell_names([{"fold": "1/5"}, {"fold": "2/5"}]) == ["fold-1-5", "fold-2-5"]
    assert cell_name({}) == "only"


def test_names_that_no_file_system_takes_are_cut_and_still_differ(tmp_path: Path) -> None:
    longest = {"recipe": "r" * 243}
    assert cell_name(longest) == f"recipe-{'r' * 243}"
    cut = [cell_name({"recipe": f"{'ü' * 300}{end}.toml", "lr": "0.1"}) for end in ("a", "b")]
    assert cut[0] != cut[1]
    for name in (cell_name(longest), *cut):
        (tmp_path / f"9999_{name}").mkdir()


def test_every_cell_reads_pictures_as_the_sweep_was_told(tmp_path: Path) -> None:
    said = {
        "group": "clip.",
        "skip_damaged": True,
        "grey": False,
        "levels": "0,4095",
        "max_pixels": 25_000_000,
    }
    for kind in ("a", "b"):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for name in ("clip1.png", "clip2.png"):  # one to learn from, one for the test
            Image.new("L", (8, 8)).save(tmp_path / "own" / kind / name)
    with contextlib.suppress(CnnkitError):  # no cell ends in so short a time
        sweep(
            "lenet",
            dataset=f"folder:{tmp_path / 'own'}",
            lr=[0.1],
            cell_timeout_s=0.01,
            root=tmp_path,
            **said,  # type: ignore[arg-type]
        )
    (plan,) = tmp_path.glob("lenet/sweeps/*/sweep.json")
    assert json.loads(plan.read_text())["fixed"][2:] == [
        *("--group", "clip.", "--skip-damaged", "--max-pixels", "25000000", "--levels", "0,4095")
    ]


def test_a_failing_cell_costs_one_cell_and_is_tried_again_on_resume(tmp_path: Path) -> None:
    # momentum is refused by AdamW, which the default recipe has
    plan = SweepPlan(model="lenet-relu", axes={"momentum": ("0", "0.9"), "batch": ("32", "64")}, fixed=FIXED)
    folder = begin_folder(tmp_path, plan)
    results = [result for result, known in run_sweep(plan, folder) if not known]
    assert [result.status for result in results] == ["done", "done", "failed", "failed"]
    assert "momentum belongs to sgd" in str(results[2].error)
    assert (folder / "cells" / "momentum-0_batch-32" / "lenet-relu" / "lenet-relu.safetensors").is_file()

    sweep = Table(model=plan.model, folder=folder, axes=plan.axes, results=tuple(results))
    files = sweep.write()
    assert set(files) == {"csv", "curves", "heat_map"}
    table = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [row["status"] for row in table] == ["done", "done", "failed", "failed"]
    assert float(table[0]["test_accuracy"]) == sweep.rows()[0]["test_accuracy"]
    assert table[2]["test_accuracy"] == ""  # what was not measured is not a number
    assert sweep.rows()[0]["peak_memory_bytes"] > 1e8
    json.dumps(sweep.rows())

    again, _ = find_begun(tmp_path, plan)
    assert again == folder
    taken = [known for _, known in run_sweep(plan, again)]
    assert taken == [True, True, False, False]


class LosesFirst(LocalWorkplace):
    """A cluster that gives its first command up."""

    asked = 0

    def run(self, work: Work) -> Ended:
        self.asked += 1
        if self.asked == 1:
            raise LostWorkError(f"{work.label} was lost 5 times")
        return Ended(status=1, output=b"", where="here", wall_s=0.0)


def test_a_cell_whose_machines_are_lost_again_and_again_costs_one_cell(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet", axes={"lr": ("0.1", "0.2")}, fixed=FIXED)
    folder = begin_folder(tmp_path, plan)
    for cell in plan.cells():
        log = folder / "cells" / cell_name(cell) / "log.txt"
        log.parent.mkdir(parents=True)
        log.write_text("error: something else")
    results = [result for result, _ in run_sweep(plan, folder, plan.on(LosesFirst()))]
    assert [result.error for result in results] == ["lr 0.1 was lost 5 times", "something else"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teacher_share": [0.5, 0.9]}, "--teacher-share needs --teacher MODEL"),
        ({"unfreeze_at": [1, 2]}, "--unfreeze-at needs --freeze"),
        ({"freeze": True, "teacher": "x"}, "--teacher and --freeze do not go together"),
    ],
)
def test_what_no_cell_would_heed_is_refused_before_the_first(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CnnkitError, match=words):
        sweep("lenet", dataset="fashion-mnist-sample", root=tmp_path, **options)
    one = {name: value[0] if isinstance(value, list) else value for name, value in options.items()}
    with pytest.raises(CnnkitError, match=words):
        make_job("lenet", dataset="fashion-mnist-sample", root=tmp_path, **one)
    assert not list(tmp_path.rglob("sweep.json"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "folder:/nowhere"}, "/nowhere"),
        ({"exclude": "none.txt"}, r"no file none\.txt"),
        ({"pretrained": "none.pth"}, r"no file none\.pth; weights are"),
        ({"pretrained": "imagenet"}, "there are no ImageNet weights for lenet"),
        ({"momentum": [0.5, 0.9]}, "momentum belongs to sgd"),
        (
            {"recipe": "textbook", "patience_epochs": 1, "lr": [0.5, 0.9]},
            "early stopping needs held-out images and none are held out",
        ),
        (
            {"validation_fraction": 0, "select": "best", "seed": [0, 1]},
            "the best epoch is chosen on held-out",
        ),
        ({"class_weights": ["none.json", "no.json"]}, r"--class-weights none\.json cannot be read"),
        ({"class_weights": "none.json", "search": 2}, r"--class-weights none\.json cannot be read"),
        (
            {"freeze": True, "epochs": 3, "unfreeze_at": 5, "seed": [0, 1]},
            "^--unfreeze-at 5 lets the body learn after 5 epochs, and there are 3",
        ),
        ({"freeze": True, "epochs": [2, 3], "unfreeze_at": [3, 4]}, "^--unfreeze-at 3 .* there are 2"),
        ({"freeze": True, "epochs": 3, "unfreeze_at": 5, "search": 2}, "^--unfreeze-at 5 .* there are 3"),
        (
            {"freeze": True, "epochs": 3, "unfreeze_at": [1, 3], "search": 2},
            "^this search would draw --unfreeze-at 3, --lr .*, which no trial takes: --unfreeze-at 3 lets",
        ),
        ({"grey": True}, "--grey goes with pictures of your own"),
    ],
)
def test_what_would_fail_in_every_cell_is_told_before_the_first_and_leaves_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CnnkitError, match=words):
        sweep("lenet", root=tmp_path, **{"dataset": "fashion-mnist-sample", **options})
    assert not list(tmp_path.rglob("*"))


def test_a_combination_that_can_be_trained_is_enough_to_begin(tmp_path: Path) -> None:
    given: dict[str, Any] = {"dataset": "fashion-mnist-sample", "root": tmp_path, "cell_timeout_s": 0.01}
    assert len(sweep("lenet", momentum=[0.9, 0], **given).results) == 2
    thawing: dict[str, Any] = {"freeze": True, "unfreeze_at": ["none", 1], "layer_decay": 0.7}
    assert len(sweep("lenet", **thawing, **given).results) == 2
    late: dict[str, Any] = {"freeze": True, "epochs": [2, 3], "unfreeze_at": 2}
    assert len(sweep("lenet", **late, **given).results) == 2


def test_what_only_an_axis_makes_sense_of_is_no_fault_of_the_recipe(tmp_path: Path) -> None:
    given: dict[str, Any] = {"dataset": "fashion-mnist-sample", "root": tmp_path, "cell_timeout_s": 0.01}
    for text, axes in (
        ("layer_decay = 0.7", {"freeze": True, "unfreeze_at": [1, 2]}),
        ("randaugment_level = 5", {"randaugment": [1, 2]}),
        ("step_gamma = 0.2", {"schedule": ["constant", "step"]}),
        ("nesterov = true", {"optimizer": "sgd", "momentum": [0, 0.9]}),
    ):
        (tmp_path / "mine.toml").write_text(text)
        given["recipe"] = str(tmp_path / "mine.toml")
        assert len(sweep("lenet", **given, **axes).results) == 2  # type: ignore[arg-type]
    with pytest.raises(CnnkitError, match=r"mine\.toml: nesterov needs sgd and a momentum"):
        sweep("lenet", **given, epochs=[1, 2])


def test_every_cell_starts_from_weights_or_learns_from_a_teacher_by_its_file(tmp_path: Path) -> None:
    shipped = open_model("lenet-maxpool", Selection(root=tmp_path, formats=("safetensors",))).path

    def fixed(**options: Any) -> list[str]:
        with contextlib.suppress(CnnkitError):  # no cell ends in so short a time
            sweep("lenet-relu", dataset="fashion-mnist-sample", cell_timeout_s=0.01, root=tmp_path, **options)
        plan = json.loads(max(tmp_path.rglob("sweep.json")).read_text())
        assert list(plan["hashes"]) == [str(shipped)]
        return list(plan["fixed"][2:])

    assert fixed(teacher="lenet-maxpool", teacher_share=[0.5, 0.9]) == ["--teacher", str(shipped)]
    tuned = fixed(pretrained=str(shipped), freeze=True, unfreeze_at=[1, 2])
    assert tuned == ["--pretrained", str(shipped), "--freeze"]


def test_a_sweep_that_goes_on_asks_for_room_by_the_threads_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Full(Cluster):
        name, summary, address = "full", "Remembers what is asked for, and has no room.", "HOST"

        def open(self, address: str | None, sent: Sent, need: Demand, **_more: Any) -> Any:
            asked.append(need.cpus)
            raise CnnkitError("no room")

    monkeypatch.setattr(sweeping, "cluster_of", lambda _word: (Full(), "x"))
    options: dict[str, Any] = {"dataset": "fashion-mnist-sample", "lr": [0.1], "root": tmp_path}
    plan = SweepPlan(
        model="lenet",
        axes={"lr": ("0.1",)},
        fixed=("--dataset", "fashion-mnist-sample"),
        recipes={"default": zoo.model("lenet").recipe("default")},
        threads=2,
    )
    begin_folder(tmp_path / "lenet" / "sweeps", plan)
    monkeypatch.setattr(sweeping, "usual_threads", lambda: 5)
    for resume in (True, False):
        with pytest.raises(CnnkitError, match="no room"):
            sweep("lenet", resume=resume, **options)
    assert asked == [2, 5]
    assert len(list(tmp_path.rglob("sweep.json"))) == 1  # what found no room left no folder


def test_a_cell_that_hangs_is_stopped_after_its_time(tmp_path: Path) -> None:
    plan = SweepPlan(
        model="lenet-relu", axes={}, fixed=("--dataset", "fashion-mnist-sample", "--epochs", "9999")
    )
    folder = begin_folder(tmp_path, plan)
    ((result, known),) = run_sweep(plan, folder, plan.on(LocalWorkplace(), 0.5))
    assert (result.status, known) == ("timeout", False)
    assert "--cell-timeout" in str(result.error)
    table = Table(model=plan.model, folder=folder, axes={}, results=(result,))
    assert table.write().keys() == {"csv"}


def test_without_matplotlib_no_picture_is_named_and_that_is_said(tmp_path: Path) -> None:
    script = (
        "import importlib.util as u, sys; real = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'matplotlib' else real(n, *a)\n"
        "from toolkit.training.sweep import sweep\n"
        f"table = sweep('lenet-relu', dataset='fashion-mnist-sample', root={str(tmp_path)!r}, seed=[0, 1],\n"
        "    lr=[0.1, 0.2], cell_timeout_s=0.01, tell=print)\n"
        "print(sorted(table.files))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.count("no pictures of curves and confusions, which need matplotlib: pip install") == 1
    assert said.endswith("['csv']\n")


def test_only_a_sweep_of_the_same_command_is_resumed(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet", axes={"lr": ("0.1", "0.2")}, fixed=())
    begin_folder(tmp_path, plan)
    other = SweepPlan(model="lenet", axes={"lr": ("0.1", "0.3")}, fixed=())
    with pytest.raises(NotFoundError, match="without --resume one starts"):
        find_begun(tmp_path, other)


def test_a_sweep_whose_recipe_was_edited_since_is_another_one(tmp_path: Path) -> None:
    plan = SweepPlan(
        model="lenet",
        axes={},
        fixed=(),
        recipes={"mine.toml": Recipe(name="mine", lr=0.1, assumed=("lr", "batch"))},
    )
    folder = begin_folder(tmp_path, plan)
    assert find_begun(tmp_path, plan)[0] == folder
    edited = SweepPlan(
        model="lenet",
        axes={},
        fixed=(),
        recipes={"mine.toml": Recipe(name="mine", lr=0.2, assumed=("lr", "batch"))},
    )
    with pytest.raises(NotFoundError, match="with its recipes and files as they are now"):
        find_begun(tmp_path, edited)


def test_a_sweep_whose_files_were_edited_since_is_another_one(tmp_path: Path) -> None:
    net, out, weights = (tmp_path / name for name in ("own.py", "out.txt", "w.json"))
    net.write_text(CODE)
    for path in (out, weights):
        path.write_text("")

    def run(*, resume: bool) -> Table:
        return sweep(
            "own",
            dataset="fashion-mnist-sample",
            root=tmp_path,
            model_file=net,
            exclude=out,
            class_weights=str(weights),
            cell_timeout_s=0.01,  # no cell ends in so short a time
            resume=resume,
        )

    folder = run(resume=False).folder
    assert run(resume=True).folder == folder
    for path in (net, out, weights):
        before = path.read_text()
        path.write_text(before + "\n")
        with pytest.raises(NotFoundError, match="with its recipes and files as they are now"):
            run(resume=True)
        path.write_text(before)


def test_class_weights_that_a_recipe_file_names_make_the_sweep_too(tmp_path: Path) -> None:
    weights, recipe = tmp_path / "w.json", tmp_path / "mine.toml"
    weights.write_text("{}")
    recipe.write_text(f"class-weights = '{weights}'\n")

    def run(*, resume: bool) -> Table:
        return sweep(
            "lenet",
            dataset="fashion-mnist-sample",
            root=tmp_path,
            recipe=[str(recipe)],
            cell_timeout_s=0.01,  # no cell ends in so short a time
            resume=resume,
        )

    folder = run(resume=False).folder
    assert run(resume=True).folder == folder
    weights.write_text("{ }")
    with pytest.raises(NotFoundError, match="with its recipes and files as they are now"):
        run(resume=True)


class Reports(LocalWorkplace):
    """Trains nothing, and reports a recipe, with what others print on stdout."""

    def __init__(self, settings: Recipe) -> None:
        report = json.dumps(schema.plain(replace(REPORT, settings=settings)))
        self.report = f"a package's greeting\n[1]\n{report}\nits farewell\n".encode()

    def run(self, work: Work) -> Ended:
        return Ended(status=0, output=self.report, where="here", wall_s=0.0)


def test_a_cell_that_was_trained_by_another_recipe_than_was_planned_has_failed(tmp_path: Path) -> None:
    recipe = Recipe(name="mine", lr=0.1, source="mine.toml")
    axes = {"recipe": ("mine.toml",), "batch": ("32",)}
    plan = SweepPlan(model="lenet", axes=axes, recipes={"mine.toml": recipe})
    planned = override(recipe, {"batch": 32})
    for settings, status in ((planned, "done"), (replace(planned, lr=0.2), "failed")):
        ((result, _),) = run_sweep(plan, begin_folder(tmp_path, plan), plan.on(Reports(settings)))
        assert result.status == status
    assert "recipe was edited while the sweep ran" in str(result.error)
    assert "(lr 0.2, planned 0.1)" in str(result.error)


def test_a_sweep_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet-relu", axes={}, fixed=FIXED)
    folder = begin_folder(tmp_path, plan)
    held = lock(folder / "sweep.lock")
    assert held is not None
    with held, pytest.raises(CnnkitError, match="another process works on the sweep in"):
        next(run_sweep(plan, folder))
    (folder / "sweep.lock").unlink()
    (folder / "sweep.lock").mkdir()  # as little to be locked as on a file system without locks
    with pytest.raises(
        CnnkitError, match=r"sweep\.lock cannot be locked: Is a directory; name another --art"
    ):
        next(run_sweep(plan, folder))


# once a state of it is saved, a training of this network goes on when a signal has come
WAITING = """
import os
import signal
import socket
from pathlib import Path

from torch import nn
from toolkit.models import ModelSpec, Recipe

woken, wakes = socket.socketpair()
wakes.setblocking(False)
signal.set_wakeup_fd(wakes.fileno())


class Waiting(nn.Sequential):
    def forward(self, x):
        if "WAITING" in os.environ and list(Path(os.environ["WAITING"]).rglob("good.state")):
            woken.recv(1)
        return super().forward(x)


def build(channels, classes):
    return Waiting(nn.Flatten(), nn.Linear(784, classes))


MODELS = ModelSpec(name="waiting", family="t", input_shape=(1, 28, 28), build=build,
                   recipes={"default": Recipe(name="default")})
"""


@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C", "kill"])
def test_a_sweep_that_is_stopped_goes_on_within_its_cell(tmp_path: Path, to_all: bool) -> None:
    file = tmp_path / "waiting.py"
    file.write_text(WAITING)
    words = ["sweep", "waiting", *FIXED, "--epochs", "3", "--model-file", str(file)]
    command = [*CNNKIT, *words, "--artifacts", str(tmp_path)]
    env = {**os.environ, "WAITING": str(tmp_path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0, env=env)
    assert process.stderr is not None
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("good.state")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    if to_all:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped after 0 of 1 cells; --resume goes on" in said
    (log,) = tmp_path.rglob("log.txt")
    assert "--resume goes on where it was" in log.read_text("utf-8")
    ended = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=True)
    (cell,) = json.loads(ended.stdout)["cells"]
    assert cell["status"] == "done"
    assert "resuming" in log.read_text("utf-8")
    assert len(list(tmp_path.rglob("run.json"))) == 1


def test_a_damaged_result_is_trained_again(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet-relu", axes={"momentum": ("0.9",)}, fixed=FIXED)
    folder = begin_folder(tmp_path, plan)
    list(run_sweep(plan, folder))
    (result,) = folder.glob("cells/*/result.json")
    result.write_text("{")
    ((found, known),) = run_sweep(plan, folder)
    assert (found.status, known) == ("failed", False)
