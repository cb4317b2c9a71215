"""A training and a sweep from plain arguments, as Python calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from toolkit.errors import CnnkitError, NotFoundError, UnavailableError
from toolkit.training import Watcher
from toolkit.training.axes import axes
from toolkit.training.jobs import find_rate, find_recipe, make_job, options, train
from toolkit.training.recipes import settings
from toolkit.training.sweep import sweep
from toolkit.training.sweep_arguments import axes_of, source_of_all, words_over
from toolkit.training.sweep_plan import SweepPlan
from toolkit.zoo import model

SMALL: dict[str, Any] = {"dataset": "fashion-mnist-sample", "images": 200, "epochs": 1, "threads": 1}


def test_a_training_takes_recipe_fields_and_options_and_needs_no_watcher(tmp_path: Path) -> None:
    outcome = train("lenet-relu", root=str(tmp_path), lr=0.002, seed=2**70, **SMALL)
    assert (outcome.job.recipe.lr, outcome.job.seed, len(outcome.records)) == (0.002, 2**70, 1)
    assert outcome.checkpoint.path == tmp_path / "lenet-relu" / "lenet-relu.safetensors"
    assert outcome.report().settings == outcome.job.recipe


def test_a_watcher_overrides_what_it_wants_to_know(tmp_path: Path) -> None:
    class Counts(Watcher):
        seen = 0

        def images(self, count: int) -> None:
            self.seen += count

    watcher = Counts()
    train("lenet-relu", root=tmp_path, watcher=watcher, **SMALL)
    assert watcher.seen == 180  # 20 are held out


def test_an_option_has_its_own_name_and_the_command_lines_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("lenet", root=tmp_path, precision="bf16", save_every=3, stall_limit_s="60", size=32,
                   clip_norm=None, images=None, freeze=True, data_dir=str(tmp_path))  # fmt: skip
    assert (job.arithmetic, job.save_every_s, job.stall_limit_s) == ("bf16", 3.0, 60.0)
    assert (job.size, job.images, job.freeze, job.data_dir) == ((32, 32), None, True, tmp_path)
    assert make_job("lenet", workers=2).loader == "torch"
    (tmp_path / "mine.toml").write_text("lr = 0.3")
    assert make_job("lenet", recipe=tmp_path / "mine.toml").recipe.lr == 0.3
    assert make_job("lenet", seed=str(2**53 + 1)).seed == 2**53 + 1  # a float has no such number
    monkeypatch.setenv("CNNKIT_ARTIFACTS", "elsewhere")
    assert make_job("lenet").root == Path("elsewhere")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"epoch": 3}, NotFoundError, "no training option 'epoch'; known: .* Did you mean 'epochs'"),
        ({"sed": 3}, NotFoundError, "Did you mean 'seed'"),
        ({"lr": "fast"}, CnnkitError, "^recipe field lr cannot be 'fast'; it takes a number from 0$"),
        ({"threads": 0}, CnnkitError, "^training option threads: 0 is no whole number from 1 to 1024$"),
        ({"seed": True}, CnnkitError, "^training option seed: True is no whole number from 0$"),
        ({"seed": None, "size": [3]}, CnnkitError, r"option size: \[3\] is no whole number from 1$"),
        ({"precision": "fp8"}, CnnkitError, "'fp8' is none of auto, measured, fp32, bf16, fp16$"),
        ({"freeze": "perhaps"}, CnnkitError, "'perhaps' is none of true, false$"),
        ({"data_dir": 3}, CnnkitError, "option data-dir: 3 is no path$"),
        ({"loader": "memory", "workers": 2}, CnnkitError, "--workers belong to --loader torch"),
        ({"recipe": "defualt"}, NotFoundError, "Did you mean 'default'"),
        ({"step_gamma": 0.1}, CnnkitError, "^step-gamma does nothing while schedule is .*: --schedule step$"),
        (
            {"step_gamma": 0.1, "schedule": "cosine"},
            CnnkitError,
            "nothing while schedule is cosine: --schedule",
        ),
        ({"randaugment": 0, "randaugment_level": 5}, CnnkitError, "does nothing while randaugment is 0"),
        ({"randaugment_level": 5}, CnnkitError, "does nothing while randaugment is 0: --randaugment 2$"),
        ({"freeze": True, "layer_decay": 0.7}, CnnkitError, "while unfreeze-at is none: --unfreeze-at N"),
        (
            {"freeze": True, "unfreeze_at": "none", "layer_decay": 0.7},
            CnnkitError,
            "^layer-decay does nothing while unfreeze-at is none: --unfreeze-at N, without which --freeze",
        ),
        ({"pretrained": ""}, CnnkitError, "^--pretrained is empty, as a shell variable .* or leave it out$"),
        ({"dataset": ""}, CnnkitError, "^--dataset is empty"),
        ({"model_file": ""}, CnnkitError, "^--model-file is empty"),
        ({"data_dir": ""}, CnnkitError, "^--data-dir is empty"),
        ({"group": ""}, CnnkitError, "^--group is empty"),
        ({"stall_limit_s": 0}, CnnkitError, "^training option stall-limit: 0 is no number above 0$"),
        ({"pretrained": "nothere.pth"}, NotFoundError, r"^no file nothere\.pth; weights are"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    fields: dict[str, Any], error: type[CnnkitError], words: str
) -> None:
    with pytest.raises(error, match=words):
        make_job("lenet", **fields)


@pytest.mark.parametrize(
    "fields", [{"resume": True}, {"flip_test": True}, {"stall_limit": 60}, {"save_every": 3}]
)
def test_what_finding_a_rate_does_not_heed_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    (word,) = (name.replace("_", "-") for name in fields)
    with pytest.raises(CnnkitError, match=f"^--find-lr trains nothing that --{word} would change; leave out"):
        find_rate("lenet", root=tmp_path, **fields)


def test_finding_a_rate_refuses_a_body_that_would_never_learn(tmp_path: Path) -> None:
    with pytest.raises(CnnkitError, match="after 50 epochs, and there are 2: --epochs 51 or more"):
        find_rate("lenet", root=tmp_path, freeze=True, unfreeze_at=50, epochs=2)


@pytest.mark.parametrize(
    ("freeze", "axes", "expected"),
    [
        (
            False,
            {"schedule": ("cosine", "step"), "step-gamma": ("0.1",)},
            [{"schedule": "cosine"}, {"schedule": "step", "step-gamma": "0.1"}],
        ),
        (
            True,
            {"unfreeze-at": ("none", "1"), "layer-decay": ("0.7",)},
            [{"unfreeze-at": "none"}, {"unfreeze-at": "1", "layer-decay": "0.7"}],
        ),
        (False, {"layer-decay": ("0.7",)}, [{"layer-decay": "0.7"}]),
    ],
)
def test_a_cell_is_told_those_of_the_values_varied_together_that_it_heeds(
    freeze: bool, axes: dict[str, tuple[str, ...]], expected: list[dict[str, str]], tmp_path: Path
) -> None:
    plan = SweepPlan(
        model="lenet",
        axes=axes,
        fixed=("--freeze",) if freeze else (),
        recipes={"default": find_recipe(model("lenet"), "default", None)},
    )
    told = [plan.heeded(values) for values in plan.cells()]
    assert told == expected
    for values, heeded in zip(plan.cells(), told, strict=True):
        fields = {word.replace("-", "_"): text for word, text in heeded.items()}
        planned = plan.recipe_of(values)
        assert planned == make_job("lenet", root=tmp_path, freeze=freeze, **fields).recipe


def test_layers_that_thaw_take_a_decay_and_a_file_is_overruled_by_what_is_typed(tmp_path: Path) -> None:
    thawing = make_job("lenet", root=tmp_path, freeze=True, unfreeze_at=1, layer_decay=0.7)
    assert thawing.recipe.layer_decay == 0.7
    file = tmp_path / "mine.toml"
    file.write_text("layer_decay = 0.7\nunfreeze_at = 2\n")
    for fields in ({"freeze": True, "unfreeze_at": "none"}, {"unfreeze_at": "none"}, {"freeze": True}):
        assert make_job("lenet", recipe=str(file), root=tmp_path, **fields).recipe.layer_decay == 0.7
    file.write_text("layer_decay = 0.7\n")
    with pytest.raises(CnnkitError, match=r"mine\.toml: layer-decay does nothing while unfreeze-at is none"):
        make_job("lenet", recipe=str(file), root=tmp_path, freeze=True)


def test_a_recipe_file_that_is_for_a_teacher_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "taught.toml"
    file.write_text("teacher-share = 0.5\n")
    with pytest.raises(CnnkitError, match="--teacher-share needs --teacher MODEL"):
        make_job("lenet", recipe=str(file), root=tmp_path)
    with pytest.raises(CnnkitError, match="--teacher-share needs --teacher MODEL"):
        sweep("lenet", recipe=[str(file)], root=tmp_path)


@pytest.mark.parametrize(
    ("text", "typed", "wants"),
    [
        ("randaugment_level = 5", {"randaugment": 2}, "--randaugment 2"),
        ("step_gamma = 0.2", {"schedule": "step"}, "--schedule step"),
        ('schedule = "one-cycle"\nwarmup_epochs = 2', {"warmup_epochs": 0}, "--warmup-epochs 0"),
    ],
)
def test_a_recipe_file_is_judged_with_what_is_typed_beside_it(
    text: str, typed: dict[str, Any], wants: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    for others in ({}, {"epochs": 3}):
        with pytest.raises(CnnkitError, match=rf"mine\.toml: .*{wants}"):
            make_job("lenet", recipe=str(file), **others)
    made = make_job("lenet", recipe=str(file), **typed).recipe
    assert {name: getattr(made, name) for name in typed} == typed


def test_a_data_set_that_is_a_path_is_told_how_its_pictures_are_named(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "two" / label).mkdir(parents=True)
    for run in (train, sweep):
        with pytest.raises(NotFoundError, match=r"pictures of your own there are `folder:.*two`"):
            run("lenet", dataset=tmp_path / "two", root=tmp_path / "artifacts", epochs=1)


def test_no_option_is_called_as_a_recipe_field() -> None:
    assert not options().keys() & settings().keys()


def test_an_outcome_shows_itself_in_a_notebook_with_its_text_escaped(tmp_path: Path) -> None:
    root = tmp_path / "<b>"
    shown = train("lenet-relu", root=root, **SMALL)._repr_html_()
    assert "<caption>lenet-relu on fashion-mnist-sample, recipe default</caption>" in shown
    assert "<td>test accuracy</td><td>0." in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert shown.count("<polyline") == 2


def test_a_sweep_varies_what_lists_are_given_for(tmp_path: Path) -> None:
    said: list[str] = []
    table = sweep("lenet-relu", root=tmp_path, tell=said.append, momentum=[0, 0.9], flip=False, **SMALL)
    assert [(row["momentum"], row["flip"], row["status"]) for row in table.rows()] == [
        ("0", "false", "done"),
        ("0.9", "false", "failed"),
    ]
    assert said[0] == f"2 cells, results in {table.folder}"
    assert said[1].startswith("1 of 2: momentum 0: test accuracy 0.")
    assert "momentum belongs to sgd" in said[2]
    shown = table._repr_html_()
    assert "<th scope='col'>momentum</th><th scope='col'>time</th>" in shown
    assert "<td>0.9</td><td>failed</td><td></td>" in shown
    with pytest.raises(CnnkitError, match="1 of 2 cells not trained"):
        table.require()
    again = sweep("lenet-relu", root=tmp_path, resume=True, momentum=[0, 0.9], flip=[False], **SMALL)
    assert again.folder == table.folder
    assert again.results[0] == table.results[0]


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"on": "moon"}, NotFoundError, "'moon'; known: local"),
        (
            {"search": "random"},
            CnnkitError,
            "it is how many trials.*; without one, a sweep",
        ),
        ({"epoch": [3]}, NotFoundError, "no axis of a sweep 'epoch'.* Did you mean 'epochs'"),
        ({"freeze": [True, False]}, CnnkitError, "freeze is one for all cells of a sweep"),
        ({"lr": []}, CnnkitError, "axis lr has no values"),
        ({"lr": [0.1, "fast"]}, CnnkitError, "lr cannot be 'fast'"),
        ({"recipe": ["default", "textbok"]}, NotFoundError, "Did you mean 'textbook'"),
        ({"dataset": "fashion-mnst"}, NotFoundError, "Did you mean 'fashion-mnist'"),
        ({"device": "mps"}, UnavailableError, "device 'mps' needs a Mac's GPU"),
        ({"fold": "1/5", "folds": 5}, CnnkitError, "--folds 5 varies the fold, and --fold names one: leave"),
        ({"folds": 2.5}, CnnkitError, r"folds cannot be 2\.5; it takes a whole number from 2 to 100"),
        (
            {"teacher": True},
            CnnkitError,
            "teacher is one for all cells of a sweep, a name or a file, and",
        ),
        ({"pretrained": ["a", "b"]}, CnnkitError, "pretrained is one for all cells of a sweep"),
        ({"freeze": "no"}, CnnkitError, "freeze is one for all cells of a sweep, True or False"),
        ({"search": 3, "search_seed": -1}, CnnkitError, "search_seed cannot be -1; it takes a whole number"),
        ({"search": 3, "search_ahead": 0.5}, CnnkitError, r"search_ahead cannot be 0\.5; it takes a whole"),
        ({"search": True}, CnnkitError, "no search True"),
        ({"pretrained": Path("none.pth"), "lr": [1, 2]}, NotFoundError, r"no file none\.pth; weights are"),
        ({"lr": None}, CnnkitError, "recipe field lr cannot be 'None'"),
        ({"search_seed": 3}, CnnkitError, "--search-seed goes with --search N; without it, nothing is drawn"),
        ({"search_ahead": 2}, CnnkitError, "--search-ahead goes with --search N"),
        ({"cell_memory_bytes": 1 << 30}, CnnkitError, "--cell-memory goes with --on CLUSTER"),
        ({"randaugment_level": [5, 9]}, CnnkitError, "does nothing while randaugment is 0: --randaugment 2"),
        ({"step_gamma": [0.1, 0.5], "schedule": "cosine"}, CnnkitError, "nothing while schedule is cosine"),
        ({"search": 3, "over": ["randaugment-level"]}, CnnkitError, "nothing while randaugment is 0"),
        (
            {"folds": 2, "validation_fraction": [0.1, 0.5]},
            CnnkitError,
            r"^validation-fraction 0\.1,0\.5 does nothing while a fold is held out: leave it out",
        ),
        ({"fold": "1/2", "validation_fraction": 0.5}, CnnkitError, "0.5 does nothing while fold 1/2 is held"),
        ({"freeze": True, "layer_decay": [0.7, 0.9]}, CnnkitError, "layer-decay does nothing while unfr"),
        (
            {"freeze": True, "unfreeze_at": "none", "layer_decay": [0.7, 1]},
            CnnkitError,
            "layer-decay does nothing while unfreeze-at is none",
        ),
        ({"pretrained": ""}, CnnkitError, "^--pretrained is empty"),
        ({"dataset": ""}, CnnkitError, "^--dataset is empty"),
        ({"levels": ""}, CnnkitError, "^--levels is empty"),
        ({"cell_timeout_s": 0}, CnnkitError, "^--cell-timeout cannot be 0: name a number above 0, or leave"),
        ({"cell_memory_bytes": float("nan")}, CnnkitError, "^--cell-memory cannot be nan"),
        ({"cell_memory_bytes": "5"}, CnnkitError, "^--cell-memory cannot be '5': name a number above 0"),
        ({"cell_timeout_s": "5"}, CnnkitError, "^--cell-timeout cannot be '5': name a number above 0"),
        ({"on": None}, NotFoundError, "^no cluster 'None'; known: local"),
        (
            {"search": 3, "over": 3},
            CnnkitError,
            r"^over cannot be 3; it takes recipe fields, as \['lr', 'batc",
        ),
        ({"teacher": Path("nothere.onnx")}, NotFoundError, "nothere.onnx"),
    ],
)
def test_what_would_fail_in_every_cell_is_refused_before_the_first(
    fields: dict[str, Any], error: type[CnnkitError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        sweep("lenet", root=tmp_path, **fields)
    assert not list(tmp_path.iterdir())


def test_a_sweep_takes_what_a_training_takes_and_leaves_none_out(tmp_path: Path) -> None:
    assert axes_of({"threads": None, "recipe": None, "clip_norm": None, "lr": 0.1}, None) == {
        "clip-norm": ("none",),
        "lr": ("0.1",),
    }
    assert words_over(None) == ()
    assert words_over("lr, batch") == words_over(["lr", "batch"]) == ("lr", "batch")
    assert source_of_all("teacher", tmp_path) == str(tmp_path)


def test_every_axis_is_an_option_of_a_training() -> None:
    known = {setting.word for setting in (*options().values(), *settings().values())}
    assert set(axes()) <= known | {"recipe"}
    assert {setting.word for setting in settings().values()} < set(axes())
