"""A network in a file of one's own: its checkpoint knows the file, and another version of it is noticed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.artifacts import hash_file  # noqa: E402
from toolkit.checkpoints import load_module  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.inspection.network import load  # noqa: E402
from toolkit.passports import TrainingOptions  # noqa: E402
from toolkit.training import Job, Watcher  # noqa: E402
from toolkit.training.run import train  # noqa: E402

CODE = """
from toolkit.models import ModelSpec, Recipe

def build(channels, classes):
    from torch import nn
    body = (nn.Conv2d(channels, 4, 5, stride=4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(144, classes))

MODELS = (ModelSpec(name="own", family="own", input_shape=(1, 28, 28), build=build,
                    recipes={"default": Recipe(name="default", epochs=2)}),)
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    code = tmp_path / "own.py"
    code.write_text(CODE)
    spec = zoo.model("own", model_file=code)
    return Job(
        model=spec,
        recipe=spec.recipe("default"),
        root=tmp_path / "artifacts",
        dataset="fashion-mnist-sample",
        model_file=code,
        images=400,
        threads=1,
    )


class Stopper(Watcher):
    def images(self, count: int) -> None:
        raise KeyboardInterrupt


def edit(job: Job) -> None:
    assert job.model_file is not None
    job.model_file.write_text(CODE.replace("nn.ReLU()", "nn.Tanh()"))


def test_an_edited_model_file_is_noticed_where_its_checkpoint_is_opened(job: Job) -> None:
    outcome = train(job)
    passport = outcome.checkpoint.passport
    assert job.model_file is not None
    assert passport.model_file_sha256 == hash_file(job.model_file)
    assert passport.options == TrainingOptions(dataset="fashion-mnist-sample", images=400, threads=1)
    load_module(outcome.checkpoint, model_file=job.model_file)
    edit(job)
    with pytest.raises(CnnkitError, match=r"made with another version of .*own\.py .*`cnnkit import"):
        load("own", root=job.root, backend="pytorch", model_file=job.model_file)


def test_a_run_does_not_go_on_with_an_edited_model_file(job: Job) -> None:
    with pytest.raises(CnnkitError, match="--resume goes on"):
        train(job, Stopper())
    resumed = dataclasses.replace(job, resume=True)
    edit(job)
    with pytest.raises(CnnkitError, match="was begun otherwise: model_file_sha256"):
        train(resumed)


def test_every_option_that_makes_a_checkpoint_stands_in_its_passport(make_job: Any) -> None:
    options = {"images": 200, "threads": 1, "loader": "torch", "arithmetic": "fp32", "freeze": True}
    outcome = train(make_job(**options, changes={"epochs": 1, "class_weights": "balanced"}))
    found = outcome.checkpoint.passport.options
    assert found is not None
    assert found.loss_weights == pytest.approx((1.0,) * 10)
    assert dataclasses.replace(found, loss_weights=None) == TrainingOptions(
        dataset="fashion-mnist-sample", images=200, threads=1, loader="torch", precision="fp32", freeze=True
    )
