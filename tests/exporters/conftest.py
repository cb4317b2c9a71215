"""A small network that is really trained, and helpers that export with little said."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door
from exporters.browser.runtime import runtime
from toolkit import zoo
from toolkit.artifacts import Artifact, artifact_path, cache_root
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.datasets import dataset_of
from toolkit.errors import UnavailableError
from toolkit.exporting import EXPORTERS, ExportOptions, own_options
from toolkit.passports import DatasetRef
from toolkit.preprocessing import Preprocessing, normalise
from toolkit.recipes import Recipe

Export = Callable[..., Artifact]


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train lenet-maxpool for a few seconds on the sample that ships; return its artifacts folder."""
    import torch

    root = tmp_path_factory.mktemp("trained")
    data = dataset_of("fashion-mnist-sample").load("fashion-mnist-sample", None, False, None)
    preprocessing = Preprocessing(size=(28, 28), channels=1, mean=(0.286,), std=(0.353,))
    spec = zoo.model("lenet-maxpool")
    torch.manual_seed(0)
    module = spec.build(1, 10)
    images = torch.from_numpy(normalise(data.train.images, preprocessing))
    labels = torch.from_numpy(data.train.labels)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network only loses time on more, above all beside other work
    for epoch in range(8):
        for picked in torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch)).split(64):
            loss = torch.nn.functional.cross_entropy(module(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.set_num_threads(threads)
    passport = dataclasses.replace(
        new_passport(spec, preprocessing=preprocessing, classes=data.classes, trained=True),
        dataset=DatasetRef(name="fashion-mnist-sample", fingerprint=data.fingerprint),
        recipe=Recipe(name="test", validation_fraction=0.2),
    )
    save_checkpoint(artifact_path(root, "lenet-maxpool"), module.state_dict(), passport)
    # most tests begin from the fp32 graph on 64 images: it is captured once, and then a stored result
    cnnkit_json("export", "lenet-maxpool", "--format", "onnx", "--images", 64, "--artifacts", root)
    return root


@pytest.fixture(scope="session")
def web_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Lay what browsers run networks with into the tests' cache, from the user's own or npm; None without."""
    try:
        here = runtime()
    except UnavailableError:
        return None
    linked = tmp_path_factory.getbasetemp() / "home" / "cache" / "cnnkit" / here.relative_to(cache_root())
    linked.parent.mkdir(parents=True, exist_ok=True)
    if not linked.exists():
        linked.symlink_to(here)
    return linked


@pytest.fixture
def root(trained_root: Path, tmp_path: Path) -> Path:
    """Return a fresh artifacts folder with the trained checkpoint and its fp32 graph."""
    folder = tmp_path / "artifacts"
    (folder / "lenet-maxpool").mkdir(parents=True)
    for file in (trained_root / "lenet-maxpool").iterdir():
        (folder / "lenet-maxpool" / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def checkpoint(root: Path) -> Artifact:
    from toolkit.artifacts import open_artifact

    return open_artifact(artifact_path(root, "lenet-maxpool"))


def cnnkit_run(*args: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(front_door.main, [str(a) for a in args])


def cnnkit_json(*args: object, status: int = 0) -> dict[str, Any]:
    """Run a command with --json; return its one object after checking the exit status."""
    result = cnnkit_run(*args, "--json")
    assert result.exit_code == status, result.stderr
    payload: dict[str, Any] = json.loads(result.stdout)
    return payload


def export_one(source: Artifact, root: Path, exporter: str = "onnx", **options: Any) -> Artifact:
    """Export with one exporter, on a few images."""
    one = EXPORTERS.load(exporter)
    own = {field.name for field in dataclasses.fields(one.options)}
    typed = own_options(one, {name: value for name, value in options.items() if name in own})
    settings = {"images": 64, **{name: value for name, value in options.items() if name not in own}}
    return one.export(source, ExportOptions(root=root, own=(typed,), **settings)).artifact
