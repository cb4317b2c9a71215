"""Whatever a recipe asks for: a run that was killed ends, resumed, with the bytes of one that was not."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.artifacts import hash_file  # noqa: E402
from toolkit.training import Job, Watcher, recipes  # noqa: E402
from toolkit.training.run import train  # noqa: E402

EPOCHS, IMAGES, BATCH = 3, 120, 36
STEPS = 3  # of 108 pictures that are not held out


class Killed(BaseException):
    """No error that a training expects: what it has in memory is lost, and only its files are left."""


class Killer(Watcher):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def images(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def share(most: float = 1.0) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, most / 2, most])


FIELDS = st.fixed_dictionaries(
    {
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "schedule": st.sampled_from(["constant", "cosine", "one-cycle"]),
        "ema_decay": st.sampled_from([None, 0.9]),
        "mixup": share(),
        "cutmix": share(),
        "randaugment": st.sampled_from([0, 2]),
        "erasing": share(),
        "crop_area": st.sampled_from([None, 0.5]),
        "flip": st.booleans(),
        "augmix": share(),
        "class_weights": st.sampled_from([None, "balanced", "effective"]),
        "sampling": st.just("natural"),
        "metric": st.sampled_from(["accuracy", "balanced-accuracy", "macro-f1", "loss"]),
        "layer_decay": st.sampled_from([1.0, 0.7]),
        "unfreeze_at": st.sampled_from([None, 1, 2]),
        "label_smoothing": share(0.2),
    }
) | st.fixed_dictionaries({"sampling": st.just("balanced"), "mixup": share(), "unfreeze_at": st.just(1)})


def job(root: Path, fields: dict[str, Any], model: str, loader: str) -> Job:
    spec = zoo.model(model)
    changes = {"epochs": EPOCHS, "batch": BATCH, "lr": 1e-3, "shift_pixels": 0, **fields}
    return Job(
        model=spec,
        recipe=recipes.override(recipes.find(spec, "default"), changes),
        root=root,
        dataset="fashion-mnist-sample",
        images=IMAGES,
        threads=1,
        save_every_s=0.0,
        freeze=fields.get("unfreeze_at") is not None,
        loader=loader,  # type: ignore[arg-type]
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=FIELDS,
    model=st.sampled_from(["lenet-dropout", "lenet-relu"]),
    loader=st.sampled_from(["memory", "memory", "torch"]),
    killed_at=st.integers(1, EPOCHS * STEPS - 1),
)
def test_a_killed_run_ends_with_the_same_bytes_under_any_recipe(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], model: str, loader: str, killed_at: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("toolkit.training.record.charts.lacks", lambda package: True)
        monkeypatch.setattr("toolkit.training.record.logs.lacks", lambda package: True)
        whole = train(job(Path(folder) / "whole", fields, model, loader))
        broken = job(Path(folder) / "killed", fields, model, loader)
        with pytest.raises(Killed):
            train(broken, Killer(killed_at))
        resumed = train(dataclasses.replace(broken, resume=True))
        assert hash_file(resumed.checkpoint.path) == hash_file(whole.checkpoint.path)
        plain = [dataclasses.replace(record, seconds=0.0) for record in whole.records]
        assert [dataclasses.replace(record, seconds=0.0) for record in resumed.records] == plain
