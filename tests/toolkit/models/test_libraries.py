"""Networks of other packages by their own names: found, prepared as published, never fetched."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cnnkit import front_door
from tests.stamping import stamp
from toolkit import zoo
from toolkit.artifacts import artifact_name, artifact_path, open_artifact, write_bytes
from toolkit.checkpoints import load_module, load_state, write_untrained
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, ShapeError
from toolkit.inspection.layers import show
from toolkit.opening import Selection, is_path, open_model
from toolkit.preprocessing import fit_pixels, normalise
from toolkit.published import import_published
from toolkit.transfer import load_pretrained

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm", reason="timm is not installed (extra timm)")
safetensors_torch = pytest.importorskip("safetensors.torch")

TINY = "timm:test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let caches be empty folders of this test; return Hugging Face's."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cnnkit(*words: object) -> Result:
    return CliRunner().invoke(front_door.main, [str(word) for word in words])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file of weights as the package's own network has them."""
    torch.manual_seed(3)
    path = tmp_path / "tiny.safetensors"
    safetensors_torch.save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def test_names_are_found_by_pattern_and_told_apart_from_files() -> None:
    assert "timm:mobilenetv3_small_100" in zoo.matching("timm:mobilenetv3*")
    assert "torchvision:resnet18" in zoo.matching("torchvision:*")
    assert "timm:resnet18.a1_in1k" in zoo.matching("timm:resnet18.*")
    assert zoo.matching("lenet*")
    with pytest.raises(NotFoundError, match=r"no model is called 'timm:nothing_\*'; .*'timm:\*'"):
        zoo.matching("timm:nothing_*")
    assert not is_path("timm:resnet18.a1_in1k")
    assert is_path("net.onnx")
    assert artifact_name("timm:resnet18.a1_in1k") == "timm-resnet18-a1_in1k"
    assert zoo.known("timm:none") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:mobilenetv3_smal_100", "Did you mean 'timm:mobilenetv3_small_100'"),
        ("timm:resnet18.none", "no weights 'none' of resnet18; known: a1_in1k, "),
        ("torchvision:resnet81", "Did you mean 'torchvision:resnet18'"),
        ("torchvision:resnet50.V9", "known: IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_a_slip_of_the_finger_is_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(NotFoundError, match=said):
        zoo.model(name)


def test_the_list_counts_a_few_and_says_when_it_does_not() -> None:
    few = cnnkit("models", "timm:test_resnet*", "--json")
    (found,) = json.loads(few.stdout)["models"]
    own = sum(value.numel() for value in timm.create_model("test_resnet").parameters())
    assert found["parameters"] == own
    assert found["input_shape"] == [3, 160, 160]
    many = cnnkit("models", "timm:resnet*")
    assert "counted for up to 10" in many.stderr
    assert "timm:resnet18" in many.stdout


def pictures(count: int) -> list[Image.Image]:
    """Return seeded pictures of odd sizes, a third of them small; noise shows every pixel that is off."""
    random = np.random.default_rng(5)
    found = []
    for index in range(count):
        height, width = random.integers(17, 90 if index % 3 else 420, 2)
        coarse = random.integers(0, 256, (max(2, height // 3), max(2, width // 3), 3), dtype=np.uint8)
        found.append(Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC))
    return found


PREPARED = {
    "timm:test_resnet.r160_in1k": "crop",  # bicubic, 0.95
    "timm:mobilenetv3_small_100.lamb_in1k": "crop",  # bicubic, 0.875
    "timm:tf_efficientnet_lite0.in1k": "crop",  # mean and deviation 0.5
    "timm:efficientnet_b1.ft_in1k": "crop",  # 256 pixels, 1.0
    "timm:resnet18.tv_in1k": "crop",  # bilinear
    "timm:beit_base_patch16_224.in22k_ft_in22k_in1k": "crop",  # 0.9
    "timm:convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384": "squash",
    "timm:efficientvit_m0.r224_in1k": "crop",
}


@pytest.mark.parametrize("name", PREPARED)
def test_pixels_and_tensors_are_timms_own(name: str) -> None:
    preprocessing = zoo.model(name).published.preprocessing  # type: ignore[union-attr]
    assert preprocessing.resize == PREPARED[name]
    config = timm.get_pretrained_cfg(name.partition(":")[2])
    data = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    whole = timm.data.create_transform(**data)
    resized = torchvision.transforms.Compose(whole.transforms[:-2])  # without ToTensor and Normalize
    for picture in pictures(100):
        pixels = fit_pixels(picture, preprocessing)
        wanted = np.moveaxis(np.asarray(resized(picture)), -1, 0)
        assert np.array_equal(pixels, wanted), (name, picture.size)
        assert np.array_equal(normalise(pixels, preprocessing), whole(picture).numpy()), (name, picture.size)


@pytest.mark.slow
def test_every_preparation_of_timm_is_told_as_timm_does_it() -> None:
    seen: dict[Any, list[bool]] = {}
    for name in timm.list_models(pretrained=True):
        published = zoo.model(f"timm:{name}").published
        if published is None or published.preprocessing in seen or "padded" in published.note:
            continue
        config = timm.get_pretrained_cfg(name)
        whole = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config.to_dict()))
        seen[published.preprocessing] = [
            np.array_equal(
                normalise(fit_pixels(one, published.preprocessing), published.preprocessing),
                whole(one).numpy(),
            )
            for one in pictures(3)
        ]
    assert len(seen) > 50
    assert all(all(same) for same in seen.values())


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b1.IMAGENET1K_V1", "convnext_tiny"]
)
def test_pixels_and_tensors_are_torchvisions_own(name: str) -> None:
    preprocessing = zoo.model(f"torchvision:{name}").published.preprocessing  # type: ignore[union-attr]
    architecture, _, tag = name.partition(".")
    weights = torchvision.models.get_model_weights(architecture)
    transform = (weights[tag] if tag else weights.DEFAULT).transforms()
    for picture in pictures(100):
        ours = normalise(fit_pixels(picture, preprocessing), preprocessing)
        assert np.array_equal(ours, transform(picture).numpy()), (name, picture.size)


def test_every_crop_of_torchvision_is_its_own_size() -> None:
    for architecture in torchvision.models.list_models(module=torchvision.models):
        for entry in torchvision.models.get_model_weights(architecture):
            transform = entry.transforms()
            spec = zoo.model(f"torchvision:{architecture}.{entry.name}")
            share = spec.published.preprocessing.crop_share  # type: ignore[union-attr]
            assert math.floor(transform.crop_size[0] / share) == transform.resize_size[0], entry


def test_classes_are_those_that_were_published_and_each_has_its_own_name() -> None:
    for name in (TINY, "torchvision:resnet18"):
        classes = zoo.model(name).published.classes  # type: ignore[union-attr]
        assert classes is not None
        assert len(set(classes)) == len(classes) == 1000
        assert classes[1] == "goldfish"


def test_without_weights_nothing_is_guessed(tmp_path: Path) -> None:
    for command in ("export", "profile", "eval", "predict"):
        words = [command, TINY, "--artifacts", tmp_path / "a"]
        refused = cnnkit(*words, *(["x.png"] if command == "predict" else []))
        assert refused.exit_code == 1, refused.output
        for said in ("not in this machine's cache", "--pretrained FILE", "nothing is fetched", "--untrained"):
            assert said in refused.stderr, command
    assert not (tmp_path / "a").exists()
    assert cnnkit("show", TINY, "--json").exit_code == 0


def test_a_file_of_weights_becomes_a_checkpoint_with_everything_that_was_published(
    weights: Path, tmp_path: Path
) -> None:
    made = import_published(TINY, weights, root=tmp_path)
    assert made.path == tmp_path / "timm-test_resnet-r160_in1k" / "timm-test_resnet-r160_in1k.safetensors"
    passport = open_artifact(made.path).passport
    spec = zoo.model(TINY)
    assert spec.published is not None
    assert passport.preprocessing == spec.published.preprocessing
    assert passport.input.shape == (None, 3, 160, 160)
    assert passport.classes == spec.published.classes
    assert (passport.trained, passport.pretrained) == (True, str(weights))
    torch.manual_seed(3)
    own, given = timm.create_model("test_resnet").eval(), torch.rand(2, 3, 160, 160)
    assert torch.equal(load_module(made)(given), own(given))
    again = import_published(TINY, weights, root=tmp_path)
    assert again.passport.created == passport.created
    other = tmp_path / "other.safetensors"
    safetensors_torch.save_file({k: v + 1 for k, v in load_state(made).items()}, other)
    with pytest.raises(CnnkitError, match=r"is there already, of other weights; .*--name OTHER"):
        import_published(TINY, other, root=tmp_path)
    safetensors_torch.save_file({"a.weight": torch.zeros(2)}, other)
    with pytest.raises(ShapeError, match="does not hold the weights of timm:test_resnet"):
        import_published(TINY, other, root=tmp_path, name="b")


def test_weights_in_the_cache_are_opened_by_name(weights: Path, tmp_path: Path, no_cache: Path) -> None:
    place = no_cache / "models--timm--test_resnet.r160_in1k"
    (place / "snapshots" / "1").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1")
    (place / "snapshots" / "1" / "model.safetensors").write_bytes(weights.read_bytes())
    root = tmp_path / "artifacts"
    opened = open_model(TINY, Selection(root=root, formats=("safetensors",)))
    assert opened.passport.imported_from == "model.safetensors"
    assert open_model("timm-test_resnet-r160_in1k", Selection(root=root, formats=("safetensors",))) == opened
    bare = open_model("timm:test_resnet", Selection(root=root, formats=("safetensors",)))
    assert bare.name == "timm-test_resnet"


def test_a_file_in_the_cache_that_is_not_what_was_published_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"another file")
    with pytest.raises(CorruptError, match="not the published file"):
        open_model("torchvision:resnet18", Selection(root=tmp_path, formats=("safetensors",)))


def test_untrained_weights_of_a_package_are_opened_by_any_of_their_names(tmp_path: Path) -> None:
    spec = zoo.model("timm:test_resnet")
    made = write_untrained(spec, tmp_path)
    assert made.name == "timm-test_resnet-untrained"
    assert made.passport.preprocessing == spec.published.preprocessing  # type: ignore[union-attr]
    chosen = Selection(root=tmp_path, formats=("safetensors",), untrained=True)
    for name in ("timm:test_resnet", "timm-test_resnet", "timm-test_resnet-untrained", None):
        assert open_model(name, chosen).path == made.path


def test_a_network_of_a_package_is_shown_the_same_once_it_is_exported(tmp_path: Path) -> None:
    name = "timm:test_resnet"
    before = show(name, root=tmp_path)
    path = artifact_path(tmp_path, artifact_name(name), ".onnx")
    write_bytes(path, b"a graph")
    weights = write_untrained(zoo.model(name), tmp_path).passport
    stamp(path, replace(weights, format="onnx", trained=True, created=None))
    assert [show(one, root=tmp_path) for one in (name, artifact_name(name))] == [before, before]


def test_training_starts_from_scratch_and_says_so_or_from_a_file_by_another_recipe(
    weights: Path, tmp_path: Path
) -> None:
    words = ["train", "timm:test_resnet", "--size", 32, "--epochs", 1, "--batch", 16, "--images", 32]
    words += ["--precision", "fp32", "--layout", "contiguous", "--json", "--artifacts", tmp_path]
    refused = cnnkit(*words)
    assert refused.exit_code == 1
    assert "timm:test_resnet has no data set of its own; add `--dataset " in refused.stderr
    words += ["--dataset", "fashion-mnist-sample"]
    assert "starts from scratch" in (scratch := cnnkit(*words)).stderr
    assert json.loads(scratch.stdout)["recipe"] == "default"
    tuned = cnnkit(*words, "--pretrained", weights)
    assert tuned.exit_code == 0, tuned.output
    assert "left at their start: fc.weight, fc.bias" in tuned.stderr
    report = json.loads(tuned.stdout)
    assert report["recipe"] == "finetune"
    passport = open_artifact(Path(report["checkpoint"])).passport
    assert passport.preprocessing is not None
    assert (passport.preprocessing.mean, passport.preprocessing.std) == ((0.5,), (0.5,))  # as published
    assert passport.model == "timm:test_resnet"
    missing = cnnkit(*words, "--pretrained")
    assert missing.exit_code == 1
    assert "without --pretrained training starts from scratch" in missing.stderr


def test_published_weights_of_the_cache_keep_their_head_where_the_classes_are_the_same(
    weights: Path, tmp_path: Path
) -> None:
    spec = zoo.model(TINY)
    assert spec.published is not None
    assert spec.published.classes is not None
    kept = spec.published.files()[0]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(weights.read_bytes())
    module = spec.build(3, spec.classes)
    sent = tmp_path / "root" / kept.parent.relative_to("/") / "snapshots" / "1" / kept.name
    sent.parent.mkdir(parents=True)
    sent.write_bytes(weights.read_bytes())
    for path, classes, same in (
        (kept, spec.published.classes, True),
        (sent, spec.published.classes, True),  # from another machine's cache
        (kept, spec.published.classes[::-1], False),
        (weights, spec.published.classes, False),  # a file from anywhere may tell other classes apart
    ):
        said = load_pretrained(TINY, module, str(path), classes)
        assert ("the head too, since the classes are the same" in said) == same


def test_published_weights_are_imported_by_name(weights: Path, tmp_path: Path) -> None:
    words = ("import", TINY, "--artifacts", tmp_path, "--json")
    refused = cnnkit(*words)
    assert refused.exit_code == 1
    assert "not in this machine's cache" in refused.stderr
    found = json.loads(cnnkit(*words, "--pretrained", weights, "--size", 96).stdout)
    passport = open_artifact(Path(found["artifact"])).passport
    spec = zoo.model(TINY)
    assert Path(found["artifact"]).name == "timm-test_resnet-r160_in1k.safetensors"
    assert spec.published is not None
    assert passport.preprocessing == replace(spec.published.preprocessing, size=(96, 96))
    assert passport.classes == spec.published.classes
    assert "names its network itself" in cnnkit(*words, "--model", "lenet").stderr
    assert "SOURCE names it" in cnnkit("import", weights, "--model", TINY, "--pretrained", weights).stderr
    bare = cnnkit("import", weights, "--model", "timm:test_resnet", "--artifacts", tmp_path)
    assert bare.exit_code == 0, bare.output
    assert (tmp_path / "timm-test_resnet" / "timm-test_resnet.safetensors").is_file()


@pytest.mark.parametrize("name", ["timm:test_convnext", "torchvision:mobilenet_v3_small"])
def test_weights_that_were_trained_on_other_classes_are_imported_as_such(tmp_path: Path, name: str) -> None:
    module = zoo.model(name).build(1, 5)
    torch.save({"state_dict": {f"model.{k}": v for k, v in module.state_dict().items()}}, tmp_path / "a.ckpt")
    done = cnnkit(
        *("import", tmp_path / "a.ckpt", "--model", name, "--name", "mine", "--size", 64),
        *("--mean", "0.5", "--std", "0.5", "--artifacts", tmp_path),
    )
    assert done.exit_code == 0, done.output
    passport = open_artifact(tmp_path / "mine" / "mine.safetensors").passport
    assert passport.classes == ("0", "1", "2", "3", "4")
    assert passport.input.shape == (None, 1, 64, 64)


def test_networks_that_answer_with_more_while_they_train_answer_with_logits_first() -> None:
    net = zoo.model("torchvision:googlenet").build(3, 7).train()
    assert tuple(net(torch.rand(2, 3, 64, 64)).shape) == (2, 7)


def test_heads_that_only_training_uses_are_left_out_of_an_import(tmp_path: Path) -> None:
    net = torchvision.models.googlenet(num_classes=5, aux_logits=True, init_weights=False)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    words = ("import", tmp_path / "a.pth", "--model", "torchvision:googlenet", "--name", "mine")
    done = cnnkit(*words, "--size", 64, "--artifacts", tmp_path)
    assert done.exit_code == 0, done.output
    assert "transform_input=True" in done.stderr
    assert "as only training uses it: aux1, aux2" in done.stderr
    kept = load_state(open_artifact(tmp_path / "mine" / "mine.safetensors"))
    assert kept.keys() == {key for key in net.state_dict() if not key.startswith("aux")}
