"""A network of one's own that takes other channels than pictures have: what is refused, and what works."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402  (after the skip)

from toolkit import zoo  # noqa: E402
from toolkit.backends import BACKENDS, EngineOptions  # noqa: E402
from toolkit.checkpoints import write_untrained  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.importing.importer import import_  # noqa: E402
from toolkit.training.data.prepare import insist_on_data, prepare  # noqa: E402
from toolkit.training.jobs import make_job  # noqa: E402

FILE = """
from torch import nn

from toolkit.models import ModelSpec, Recipe

MODELS = [
    ModelSpec(
        name=f"of-{channels}",
        family="own",
        input_shape=(channels, 8, 8),
        build=lambda c, k: nn.Sequential(nn.Flatten(), nn.Linear(c * 64, k)),
        recipes={"default": Recipe(name="default", epochs=1)},
    )
    for channels in (2, 4)
]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_of_ones_own_are_not_read_for_it(own: Path, tmp_path: Path, channels: int) -> None:
    for at, where in enumerate(f"{part}/{kind}" for part in ("train", "test") for kind in "ab"):
        folder = tmp_path / "data" / where
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(at).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        for number, one in enumerate(pixels):
            Image.fromarray(one).save(folder / f"{number}.png")
    typed = {"dataset": f"folder:{tmp_path / 'data'}", "root": tmp_path, "model_file": own}
    job = make_job(f"of-{channels}", **typed)
    for read in (insist_on_data, prepare):
        with pytest.raises(
            CnnkitError, match=rf"of-{channels} takes {channels} channels .* have 1 or 3: give"
        ):
            read(job)
    assert prepare(make_job(f"of-{channels}", **typed, grey=True)).preprocessing.channels == 1


@pytest.mark.parametrize("channels", [2, 4])
def test_untrained_it_runs_and_is_no_import(own: Path, tmp_path: Path, channels: int) -> None:
    artifact = write_untrained(zoo.model(f"of-{channels}", model_file=own), tmp_path, model_file=own)
    assert artifact.passport.preprocessing is None
    with BACKENDS.load("pytorch").open(artifact, EngineOptions(model_file=own)) as engine:
        assert engine.logits(np.zeros((2, channels, 8, 8), np.float32)).shape == (2, 10)
    weights = shutil.copy(artifact.path, tmp_path / "weights.safetensors")
    with pytest.raises(CnnkitError, match=rf"of-{channels} takes {channels} channels .* have 1 or 3: import"):
        import_(weights, model=f"of-{channels}", model_file=own, root=tmp_path, name="mine")
