"""Seeded weights that are asked for are those of names: a file's own never answer in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import cnnkit
from cnnkit import front_door
from toolkit import zoo
from toolkit.artifacts import shipped_root
from toolkit.checkpoints import write_untrained
from toolkit.errors import CnnkitError
from toolkit.seeding import refuse_seeding

FILE = shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx"
SHORT = cnnkit.ProfileSettings(duration_s=0.05)

ASKED: dict[str, Callable[[Path], object]] = {
    "load": lambda root: cnnkit.load(FILE, untrained=True, seed=7, root=root),
    "profile": lambda root: cnnkit.profile(FILE, FILE, untrained=True, settings=SHORT, root=root),
    "choose": lambda root: cnnkit.choose(FILE, untrained=True, root=root),
    "export": lambda root: cnnkit.export(FILE, untrained=True, root=root),
    "show": lambda root: cnnkit.show(FILE, untrained=True, root=root),
    "features": lambda root: cnnkit.features(
        FILE.with_suffix(".safetensors"), root / "p.png", untrained=True, root=root
    ),
    "serve": lambda root: cnnkit.serve(
        FILE, settings=cnnkit.ServeSettings(opening=cnnkit.OpeningSettings(untrained=True))
    ),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_seeded_weights_of_a_file_are_refused(ask: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(CnnkitError, match="holds weights of its own: leave --untrained away, or name"):
        ask(tmp_path)


def test_predict_says_so_in_a_line(tmp_path: Path) -> None:
    picture = tmp_path / "dark.png"
    Image.new("L", (28, 28)).save(picture)
    words = ["predict", str(FILE), str(picture), "--untrained", "--artifacts", str(tmp_path)]
    done = CliRunner().invoke(front_door.main, words)
    assert done.exit_code == 1
    assert "lenet-maxpool.onnx holds weights of its own" in " ".join(done.stderr.split())


def test_files_of_that_seed_and_files_beside_names_are_taken(tmp_path: Path) -> None:
    made = write_untrained(zoo.model("lenet"), tmp_path, seed=3).path
    for models, seed in (([made], 3), ([made], None), ([made, "lenet"], 0), (["lenet"], 0), ([], 0)):
        refuse_seeding(models, seed)
    refuse_seeding([tmp_path / "gone.onnx"], 0)  # opening it says that it is not there
    with pytest.raises(CnnkitError, match=r"lenet-untrained\.safetensors holds weights of seed 3, not 7"):
        refuse_seeding([made], 7)
