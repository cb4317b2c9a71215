"""Whatever a recipe asks for: a run that was killed ends, resumed, with the bytes of one that was not."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.artifacts import hash_file  # noqa: E402
from toolkit.datasets import dataset_of  # noqa: E402
from toolkit.models import ModelSpec  # noqa: E402
from toolkit.training import Job, Watcher, recipes  # noqa: E402
from toolkit.training.run import train  # noqa: E402

DATA = "fashion-mnist-sample"
EPOCHS, IMAGES, BATCH = 3, 120, 36
STEPS = 3  # of 108 pictures that are not held out


class Killer(Watcher):
    """Kills its own process after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(job: Job, after: int) -> None:
    train(job, Killer(after))


def kill(job: Job, after: int) -> None:
    """Train in a process of its own that is killed after so many steps.

    It is forked off a process that has computed nothing: torch's gradients do not work in a child of one
    that has.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=train_until_killed, args=(job, after))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


class Small(torch.nn.Module):
    """Convolution, batch norm and dropout at the least cost."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 4, 5, stride=4)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.2)
        self.head = torch.nn.Linear(4 * 6 * 6, classes)

    def forward(self, x: Any) -> Any:
        return self.head(self.drop(self.norm(self.conv(x)).relu().flatten(1)))


SMALL = ModelSpec(
    name="small", family="small", input_shape=(1, 28, 28), build=Small, recipes=zoo.model("lenet").recipes
)


def share(most: float = 1.0) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, most / 2, most])


# a file of weights by class, whose path a job gets
OF_FILE = "file"
AVERAGES = st.sampled_from([{}, {"ema_decay": 0.9}, {"average_from": 0.0}, {"average_from": 0.5}])
SCHEDULES = st.sampled_from(
    [
        {"schedule": "constant"},
        {"schedule": "one-cycle"},
        {"schedule": "cosine", "cycles": 2},
        {"schedule": "cosine", "unfreeze_at": 1},
        {"schedule": "one-cycle", "unfreeze_at": 2},
    ]
)
FIELDS = st.fixed_dictionaries(
    {
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "mixup": share(),
        "cutmix": share(),
        "randaugment": st.sampled_from([0, 2]),
        "erasing": share(),
        "crop_area": st.sampled_from([None, 0.5]),
        "flip": st.booleans(),
        "augmix": share(),
        "class_weights": st.sampled_from([None, "balanced", "effective", OF_FILE]),
        "sampling": st.just("natural"),
        "metric": st.sampled_from(["accuracy", "balanced-accuracy", "macro-f1", "loss"]),
        "layer_decay": st.sampled_from([1.0, 0.7]),
        "clip_norm": st.sampled_from([None, 0.5]),
        "label_smoothing": share(0.2),
    }
) | st.fixed_dictionaries({"sampling": st.just("balanced"), "mixup": share(), "flip": st.just(False)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained LeNet, to begin with or to be taught by."""
    model = zoo.model("lenet-dropout")
    recipe = recipes.override(recipes.find(model, "default"), {"epochs": 1, "batch": BATCH})
    root = tmp_path_factory.mktemp("trained")
    data = {"dataset": DATA, "images": IMAGES, "threads": 1}
    return train(Job(model=model, recipe=recipe, root=root, **data)).checkpoint.path  # type: ignore[arg-type]


def job(root: Path, fields: dict[str, Any], model: ModelSpec, **options: Any) -> Job:
    changes = {"epochs": EPOCHS, "batch": BATCH, "lr": 1e-3, "shift_pixels": 0, **fields}
    if changes.get("class_weights") == OF_FILE:
        path = root.parent / "weights.json"
        classes = (
            dataset_of("fashion-mnist-sample").load("fashion-mnist-sample", None, True, (1, 28, 28)).classes
        )
        path.write_text(json.dumps({name: 1 + at for at, name in enumerate(classes)}))
        changes["class_weights"] = str(path)
    freeze = "unfreeze_at" in fields
    return Job(
        model=model,
        recipe=recipes.override(recipes.find(model, "default"), changes),
        root=root,
        dataset=DATA,
        images=IMAGES,
        threads=1,
        freeze=freeze,
        **{**options, "teacher": None if freeze else options["teacher"]},
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=FIELDS,
    average=AVERAGES,
    schedule=SCHEDULES,
    model=st.sampled_from([SMALL, zoo.model("lenet-dropout")]),
    begins=st.booleans(),
    is_taught=st.booleans(),
    fold=st.sampled_from([None, "2/10"]),
    loader=st.sampled_from(["memory", "memory", "torch"]),
    save_every_s=st.sampled_from([0.0, 0.0, 1e6]),  # after each step, or at the ends of epochs alone
    killed_at=st.integers(1, EPOCHS * STEPS - 1),
)
def test_a_killed_run_ends_with_the_same_bytes_under_any_recipe(
    monkeypatch: pytest.MonkeyPatch,
    trained: Path,
    fields: dict[str, Any],
    average: dict[str, Any],
    schedule: dict[str, Any],
    model: ModelSpec,
    begins: bool,
    is_taught: bool,
    fold: str | None,
    loader: str,
    save_every_s: float,
    killed_at: int,
) -> None:
    options = {
        "loader": loader,
        "save_every_s": save_every_s,
        "fold": fold,
        "teacher": str(trained) if is_taught else None,
        "pretrained": str(trained) if begins and model is not SMALL else None,
    }
    fields = {**fields, **average, **schedule}
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("toolkit.training.record.charts.lacks", lambda package: True)
        monkeypatch.setattr("toolkit.training.record.logs.lacks", lambda package: True)
        whole = train(job(Path(folder) / "whole", fields, model, **options))
        broken = job(Path(folder) / "killed", fields, model, **options)
        kill(broken, killed_at)
        resumed = train(dataclasses.replace(broken, resume=True))
        assert hash_file(resumed.checkpoint.path) == hash_file(whole.checkpoint.path)
        plain = [dataclasses.replace(record, seconds=0.0) for record in whole.records]
        assert [dataclasses.replace(record, seconds=0.0) for record in resumed.records] == plain
