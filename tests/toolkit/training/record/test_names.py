"""A training takes no name that an import or another network has."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra train)")

from toolkit import zoo
from toolkit.artifacts import artifact_path, open_artifact
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.clusters import Cluster, Demand, Sent, Workplace
from toolkit.errors import CnnkitError
from toolkit.preprocessing import Preprocessing
from toolkit.telling import Tell
from toolkit.training import Watcher
from toolkit.training.elsewhere import train_elsewhere
from toolkit.training.jobs import make_job
from toolkit.training.run import train


class NoCluster(Cluster):
    """Machines that are not there."""

    name, summary, address = "none", "nothing", "HOST"

    def open(
        self, address: str | None, sent: Sent, need: Demand, *, tell: Tell, verbose: bool
    ) -> AbstractContextManager[Workplace]:
        raise NotImplementedError


def save(root: Path, model: str, **facts: Any) -> Path:
    """Save an untrained checkpoint of a model by the name `mine`."""
    spec = zoo.model(model)
    passport = new_passport(
        spec,
        preprocessing=Preprocessing(size=(28, 28), channels=1),
        classes=tuple("0123456789"),
        trained=True,
    )
    path = artifact_path(root, "mine")
    save_checkpoint(path, spec.build(1, 10).state_dict(), dataclasses.replace(passport, **facts))
    return path


def test_what_no_training_makes_again_keeps_its_name(tmp_path: Path) -> None:
    job = make_job(
        "lenet-relu", dataset="fashion-mnist-sample", root=tmp_path, name="mine", images=60, epochs=1
    )
    imported = {"imported_from": "best.pth", "imported_sha256": "0" * 64}
    for model, facts, words in (
        ("lenet-relu", imported, "was imported from best.pth"),
        ("lenet-maxpool", {}, "is of lenet-maxpool"),
    ):
        path = save(tmp_path, model, **facts)
        kept = path.read_bytes()
        told = rf"mine\.safetensors {words}, and training would take its name: --name OTHER keeps both"
        with pytest.raises(CnnkitError, match=told):
            train(job)
        with pytest.raises(CnnkitError, match=told):  # before a machine is asked for anything
            train_elsewhere(NoCluster(), None, job, [], watcher=Watcher(), verbose=False)
        assert path.read_bytes() == kept
        assert not (path.parent / "runs").exists()
    save(tmp_path, "lenet-relu")
    train(job)  # of the same network, as any training is that is done again
    assert open_artifact(artifact_path(tmp_path, "mine")).passport.metrics.test_images == 500
