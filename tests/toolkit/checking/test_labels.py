"""Labels are judged by what never saw them: the wrong ones come first, and folds keep likenesses together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.stamping import stamp
from tests.toolkit.checking.conftest import fill
from tests.toolkit.importing.conftest import ODD, Odd
from toolkit import zoo
from toolkit.checking.check import check
from toolkit.checking.confident import judge, thresholds
from toolkit.checking.features import features_of
from toolkit.checking.folds import deal
from toolkit.checking.learning import epochs_for
from toolkit.checking.pictures import gallery
from toolkit.checking.survey import survey
from toolkit.checkpoints import write_untrained
from toolkit.commands.check import COMMAND
from toolkit.errors import NotFoundError
from toolkit.listings import PLAIN
from toolkit.listings.excluding import read_exclusions
from toolkit.passports import Layout, Passport, TensorSpec
from toolkit.preprocessing import Preprocessing
from toolkit.telling import unwatched


def test_a_label_is_doubted_where_another_class_is_likely_by_its_own_standard() -> None:
    likely = np.array([[0.9, 0.1], [0.7, 0.3], [0.05, 0.95], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert thresholds(likely, labels) == pytest.approx([0.55, 0.5333], abs=1e-3)
    found = judge(likely, labels)
    assert found.doubted.tolist() == [False, False, True, False, False, True]
    assert found.suggested.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.score[[2, 5]] == pytest.approx([0.05, 0.1])


def test_folds_keep_families_together_and_classes_even() -> None:
    labels = np.repeat([0, 1, 2], [31, 60, 9])
    families = np.arange(100)
    families[:10] = 0
    folds = deal(labels, families, 3, seed=0)
    assert len(set(folds[:10])) == 1
    for label in (1, 2):
        counts = np.bincount(folds[labels == label], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert (folds == deal(labels, families, 3, seed=0)).all()


def test_small_sets_are_learnt_more_often() -> None:
    assert epochs_for(100) == 40
    assert epochs_for(40_000) == 4
    assert epochs_for(10**7) == 4


@pytest.mark.slow
def test_moved_pictures_are_found_by_a_network_trained_here_and_left_out_by_the_list(tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data, 60)
    for at in (3, 17, 42):
        (data / "lying" / f"{at:03d}.png").rename(data / "standing" / f"wrong{at}.png")
    kept, page = tmp_path / "out.txt", tmp_path / "page.html"
    arguments = [f"folder:{data}", "--json", "--strict", "--write-list", str(kept), "--html", str(page)]
    done = CliRunner().invoke(COMMAND, arguments)
    said = json.loads(done.stdout)
    wrong = {"standing/wrong3.png", "standing/wrong17.png", "standing/wrong42.png"}
    # of 120 pictures, some with stripes hardly lighter than the ground
    assert wrong <= {one["file"] for one in said["suspects"][:5]}
    assert {one["suggested"] for one in said["suspects"] if one["file"] in wrong} == {"lying"}
    assert said["ok"] is False
    assert done.exit_code != 0
    assert wrong <= set(read_exclusions(kept))
    text = page.read_text()
    assert all(f"data-name='{name}'" in text for name in wrong)
    assert "http://" not in text
    assert "https://" not in text


def test_labels_are_judged_by_a_network_of_ones_own_file(tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text(
        "from torch import nn\nfrom toolkit.models import ModelSpec\n"
        "MODELS = ModelSpec(name='own-net', family='own', input_shape=(3, 32, 32), classes=2, "
        "build=lambda channels, classes: nn.Sequential(nn.Flatten(), nn.Linear(3072, classes)))\n"
    )
    fill(tmp_path / "data", 12)
    spec = zoo.model("own-net", model_file=code)
    made = write_untrained(spec, tmp_path / "artifacts", seed=0, model_file=code)
    words = [f"folder:{tmp_path / 'data'}", "--json", "--model-file", str(code)]
    assert CliRunner().invoke(COMMAND, words).exit_code == 2
    done = CliRunner().invoke(COMMAND, [*words, "--model", str(made.path)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["labels_by"] == f"the features of {made.path.name}"


def test_a_picture_that_the_network_does_not_take_is_noted_and_the_others_are_judged(tmp_path: Path) -> None:
    fill(tmp_path / "data", 12)
    given = np.linspace(0, 1000, 32 * 32, dtype=np.float32).reshape(32, 32)  # of no range that is known
    Image.fromarray(given).save(tmp_path / "data" / "lying" / "wide.tiff")
    made = write_untrained(zoo.model("lenet"), tmp_path / "artifacts", seed=0)
    found = check(f"folder:{tmp_path / 'data'}", model=str(made.path))
    assert found.images == 25
    assert found.classes[0].images == 13
    assert not found.faulty
    said = next(note for note in found.notes if "1 of 25 labels were not judged" in note)
    assert "lying/wide.tiff has values from 0 to 1000" in said
    for path in (tmp_path / "data").rglob("*.png"):
        path.unlink()
    random = np.random.default_rng(0)
    for name in ("lying/a", "standing/a", "standing/b"):
        noise = random.uniform(0, 1000, (32, 32)).astype(np.float32)
        Image.fromarray(noise).save(tmp_path / "data" / f"{name}.tiff")
    found = check(f"folder:{tmp_path / 'data'}", model=str(made.path))
    assert found.labels_by is None
    assert any("4 of 4 labels were not judged" in note for note in found.notes)


def test_a_class_of_one_picture_leaves_labels_unjudged_in_words(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    for path in sorted((tmp_path / "lying").iterdir())[1:]:
        path.unlink()
    found = check(f"folder:{tmp_path}")
    assert found.labels_by is None
    assert any("labels were not judged" in note for note in found.notes)


OWN_NETS = """
import torch
from torch import nn
from toolkit.models import ModelSpec
class Net(nn.Module):
    def __init__(self, kind, channels, classes):
        super().__init__()
        self.kind = kind
        self.table = nn.Parameter(torch.randn(channels * 64, classes))
        if kind != "none":
            self.head = nn.Linear(4, classes)
            self.body = nn.Conv2d(channels, 4, 3)
            self.aux = nn.Linear(4, classes)
    def forward(self, x):
        if self.kind == "none":
            return torch.relu(nn.functional.adaptive_avg_pool2d(x, 8).flatten(1)) @ self.table
        x = torch.relu(self.body(x)).mean(dim=(2, 3))
        return self.head(x) + self.aux(x) if self.training else self.head(input=x)
MODELS = [ModelSpec(name=f"own-{kind}", family="own", input_shape=(3, 32, 32), classes=2,
                    build=lambda channels, classes, kind=kind: Net(kind, channels, classes))
          for kind in ("head-first", "none")]
"""


@pytest.mark.parametrize(("name", "width"), [("own-head-first", 4), ("own-none", 2)])
def test_labels_are_judged_by_what_goes_into_the_layer_that_runs_last(
    name: str, width: int, tmp_path: Path
) -> None:
    code = tmp_path / "own.py"
    code.write_text(OWN_NETS)
    fill(tmp_path / "data", 6)
    spec = zoo.model(name, model_file=code)
    made = write_untrained(spec, tmp_path / "artifacts", seed=0, model_file=code)
    pictures = gallery(f"folder:{tmp_path / 'data'}", None, PLAIN)
    found = features_of(made, pictures, survey(pictures, unwatched), model_file=code)
    assert found.values.shape == (12, width)


@pytest.mark.parametrize(
    ("odd", "takes", "dtype", "layout"),
    [
        (ODD["plain"], (None, 3, 8, 8), "float32", None),
        (Odd(shape=(2, 3, 8, 8)), (2, 3, 8, 8), "float32", None),
        (ODD["nhwc-uint8"], (None, 8, 8, 3), "uint8", "NHWC"),
        (ODD["row"], (None, 192), "float32", "NCHW"),
    ],
    ids=["plain", "fixed batch", "uint8 NHWC", "row"],
)
def test_labels_are_judged_by_every_graph_that_answers_elsewhere(
    odd: Odd, takes: tuple[int | None, ...], dtype: str, layout: Layout | None, tmp_path: Path
) -> None:
    fill(tmp_path / "data", 3)
    path = tmp_path / "artifacts" / "odd" / "odd.onnx"
    path.parent.mkdir(parents=True)
    made = stamp(
        odd.save(path),
        Passport(
            format="onnx",
            model="odd",
            precision="fp32",
            trained=True,
            input=TensorSpec(name="pixels" if odd.before else "x", shape=takes, dtype=dtype, layout=layout),
            output=TensorSpec(name="scores", shape=(None, 4)),
            classes=tuple("abcd"),
            preprocessing=Preprocessing(size=(8, 8), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3),
        ),
    )
    with pytest.raises(NotFoundError, match=rf"odd is here as onnx fp32, .*: `--model {path}` judges by"):
        check(f"folder:{tmp_path / 'data'}", model="odd", root=tmp_path / "artifacts")
    pictures = gallery(f"folder:{tmp_path / 'data'}", None, PLAIN)
    found = features_of(made, pictures, survey(pictures, unwatched))
    assert found.values.shape == (6, 4)
    assert np.ptp(found.values, axis=0).min() > 0
