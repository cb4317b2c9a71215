"""What was imported is exported, verified, profiled and served as a network of the zoo is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cnnkit
from serve.classifier import Classifier
from tests.toolkit.importing.conftest import NAMES, ODD, Run, node, replaced, value
from toolkit.artifacts import open_artifact
from toolkit.exporting import ExportOptions

onnx = pytest.importorskip("onnx")


def odd(name: str) -> object:
    return pytest.param(name, id=name, marks=() if name in ("nhwc-uint8", "row") else (pytest.mark.slow,))


@pytest.mark.parametrize(
    "name", map(odd, ("nhwc-uint8", "row", "nhwc", "half", "bgr-0-to-255", "labels-first"))
)
def test_every_precision_of_an_odd_network_is_as_right_as_its_source(
    name: str, colours: Path, tmp_path: Path
) -> None:
    said = {"order": "bgr", "scale": 1.0} if name.startswith("bgr") else {}
    made = cnnkit.import_(
        ODD[name].save(tmp_path / "a.onnx"), dataset=f"folder:{colours}", root=tmp_path, **said
    )
    assert made.accuracy == 1.0
    options = ExportOptions(root=tmp_path, calibration_images=32, max_accuracy_drop=20.0)
    precisions = ("fp32",) if name == "half" else ("fp32", "fp16", "int8")
    report = cnnkit.export("a", formats=("onnx", "triton"), precisions=precisions, options=options).require()
    for one in report.artifacts:
        known = one.artifact.passport
        assert (known.input, known.classes) == (made.passport.input, made.passport.classes)
        assert known.imported_sha256 == made.passport.imported_sha256
        assert known.parity is None or known.parity.accuracy == 1.0
    for precision in precisions:
        with cnnkit.load("a", precision=precision, root=tmp_path) as network:
            assert network.evaluate().accuracy == 1.0
    assert cnnkit.verify(tmp_path / "a" / "a.onnx").ok
    served = Classifier(open_artifact(tmp_path / "a" / "a.onnx"), "ort")
    green = next((colours / "test" / "green").glob("*.png")).read_bytes()
    assert served.classify(green).top[0][0] == "green"
    served.close()


def test_raw_pixels_of_a_network_of_another_layout_are_scaled_by_channel(
    colours: Path, tmp_path: Path
) -> None:
    said = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    cnnkit.import_(ODD["nhwc"].save(tmp_path / "a.onnx"), dataset=f"folder:{colours}", root=tmp_path, **said)
    options = ExportOptions(root=tmp_path, pixels=True)
    cnnkit.export("a", formats=("onnx",), options=options).require()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    with cnnkit.load("a", root=tmp_path) as plain, cnnkit.load("a-uint8", root=tmp_path) as raw:
        assert raw.passport.input.layout == "NHWC"
        floats = (pixels / 255 - np.array(said["mean"])) / np.array(said["std"])
        np.testing.assert_allclose(raw.run(pixels)[0], plain.run(floats.astype(np.float32))[0], atol=1e-4)


def test_export_with_pictures_and_classes_imports_first(run: Run, colours: Path, tmp_path: Path) -> None:
    path = replaced(ODD["plain"], order=(2, 0, 3, 1)).save(tmp_path / "somebodys.v2.onnx")
    own = ",".join(NAMES[at] for at in (2, 0, 3, 1))
    words = ("export", path, "--dataset", f"folder:{colours}", "--classes", own, "--format", "onnx")
    result = run(*words, "--artifacts", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    (made,) = json.loads(result.stdout)["artifacts"]
    assert made["parity"]["accuracy"] == 1.0
    assert Path(made["path"]).name == "somebodys-v2.onnx"
    refused = run("export", "somebodys-v2", "--classes", own, "--artifacts", tmp_path / "out")
    assert refused.exit_code == 1
    assert "--dataset and --classes are for an .onnx file from elsewhere" in refused.stderr


@pytest.mark.parametrize("stem", ["net (1)", "net+head@v2"])
def test_a_file_of_any_name_is_exported_as_it_was_imported(stem: str, colours: Path, tmp_path: Path) -> None:
    path = ODD["plain"].save(tmp_path / f"{stem}.onnx")
    made = cnnkit.import_(path, dataset=f"folder:{colours}", scale=1 / 255, root=tmp_path / "out")
    told: list[str] = []
    options = ExportOptions(root=tmp_path / "out")
    report = cnnkit.export(path, formats=("onnx",), options=options, tell=told.append).require()
    (one,) = report.artifacts
    assert one.artifact.path == made.path
    assert one.artifact.passport.parity is not None
    assert one.artifact.passport.parity.accuracy == 1.0
    assert any(f"was imported as {made.name}" in line for line in told)


def test_pictures_without_named_parts_are_judged_as_the_import_judged_them(
    colours: Path, tmp_path: Path
) -> None:
    """The part of a picture comes from its content: what it was trained on need not be known."""
    for name in NAMES:
        (tmp_path / "flat" / name).mkdir(parents=True)
        for picture in sorted((colours / "train" / name).iterdir()):
            shutil.copy(picture, tmp_path / "flat" / name / picture.name)
    word = f"folder:{tmp_path / 'flat'}"
    made = cnnkit.import_(ODD["plain"].save(tmp_path / "a.onnx"), dataset=word, root=tmp_path, scale=1 / 255)
    with cnnkit.load("a", root=tmp_path) as network:
        assert network.evaluate().images == made.images
    shutil.copy(next((colours / "test" / NAMES[0]).iterdir()), tmp_path / "flat" / NAMES[0] / "new.png")
    with cnnkit.load("a", root=tmp_path) as network:
        assert network.evaluate().accuracy == 1.0
    options = ExportOptions(root=tmp_path)
    (one,) = cnnkit.export("a", formats=("onnx",), options=options).require().artifacts
    assert one.artifact.passport.parity is not None
    assert one.artifact.passport.parity.accuracy == 1.0
    assert "which changed since it was named for the network" in one.artifact.passport.parity.source


def test_other_content_never_takes_a_name_in_silence(colours: Path, tmp_path: Path) -> None:
    options = ExportOptions(root=tmp_path, calibration_images=16, max_accuracy_drop=20.0)
    one, other = ODD["plain"].save(tmp_path / "one.onnx"), ODD["squeezed"].save(tmp_path / "other.onnx")
    words = {"name": "net", "dataset": f"folder:{colours}", "scale": 1 / 255, "root": tmp_path}
    first = cnnkit.import_(one, **words)
    cnnkit.export("net", formats=("onnx",), precisions=("int8",), options=options).require()
    again = cnnkit.import_(one, **words)
    assert again.passport.imported_sha256 == first.passport.imported_sha256
    assert (tmp_path / "net" / "net.int8.onnx").exists()
    with pytest.raises(cnnkit.errors.CnnkitError, match=r"--name OTHER keeps both, --fresh replaces"):
        cnnkit.import_(other, **words)
    told: list[str] = []
    cnnkit.import_(other, fresh=True, tell=told.append, **words)
    assert not (tmp_path / "net" / "net.int8.onnx").exists()
    assert any("removed" in line and "net.int8.onnx" in line for line in told)


@pytest.mark.parametrize("passport", [None, "{", '{"schema": 2}'])
def test_a_file_of_which_no_passport_can_be_read_is_never_replaced_unasked(
    passport: str | None, tmp_path: Path
) -> None:
    (tmp_path / "out" / "net").mkdir(parents=True)
    path = tmp_path / "out" / "net" / "net.onnx"
    path.write_bytes(b"somebody's own")
    if passport is not None:
        path.with_name("net.onnx.json").write_text(passport)
    other = ODD["plain"].save(tmp_path / "net.onnx")
    options = ExportOptions(root=tmp_path / "out")
    words = r"net\.onnx is there already, and .* passport .*: `--name OTHER` keeps both, `--fresh` replaces"
    with pytest.raises(cnnkit.errors.CnnkitError, match=words):
        cnnkit.import_(other, root=tmp_path / "out")
    with pytest.raises(cnnkit.errors.CnnkitError, match=words):
        cnnkit.export(other, formats=("onnx",), options=options).require()
    assert path.read_bytes() == b"somebody's own"
    assert cnnkit.import_(other, fresh=True, root=tmp_path / "out").path == path


def test_a_checkpoint_is_never_given_up_for_a_file(tmp_path: Path) -> None:
    from toolkit.artifacts import shipped_root

    shutil.copytree(shipped_root() / "lenet-maxpool", tmp_path / "lenet-maxpool")
    path = ODD["plain"].save(tmp_path / "lenet-maxpool.onnx")
    with pytest.raises(cnnkit.errors.CnnkitError, match="is a checkpoint, which no file can make again"):
        cnnkit.import_(path, fresh=True, root=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["fashion-mnist-sample", "folder"])
def test_int8_of_a_bare_file_answers_as_that_of_its_checkpoint(
    data: str, colours: Path, tmp_path: Path
) -> None:
    """Both calibrate on the same pictures, whoever named the data set: equal to the image."""
    word = f"folder:{colours}" if data == "folder" else data
    cnnkit.train("lenet-maxpool", dataset=word, epochs=2, root=tmp_path)
    options = ExportOptions(root=tmp_path, max_accuracy_drop=50.0)
    asked = {"formats": ("onnx",), "precisions": ("fp32", "int8"), "options": options}
    cnnkit.export("lenet-maxpool", **asked).require()
    known = open_artifact(tmp_path / "lenet-maxpool" / "lenet-maxpool.onnx")
    bare = onnx.load(known.path)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    prepared = known.passport.preprocessing
    assert prepared is not None
    said = {name: getattr(prepared, name) for name in ("scale", "mean", "std", "resize", "interpolation")}
    cnnkit.import_(tmp_path / "bare.onnx", dataset=word, root=tmp_path, **said)
    cnnkit.export("bare", **asked).require()
    for precision in ("fp32", "int8"):
        with (
            cnnkit.load("lenet-maxpool", backend="ort", precision=precision, root=tmp_path) as first,
            cnnkit.load("bare", precision=precision, root=tmp_path) as second,
        ):
            assert first.evaluate().confusion.tolist() == second.evaluate().confusion.tolist()


def test_exports_of_another_reading_of_a_file_are_removed(tmp_path: Path) -> None:
    second = [node("Neg", ["scores"], ["other"])]
    outputs = [value("scores", ["n", 4]), value("other", ["n", 4])]
    replaced(ODD["plain"], after=second, outputs=outputs).save(tmp_path / "logits.onnx")
    ODD["scaled-by-another"].save(tmp_path / "fixed.onnx")
    ODD["row"].save(tmp_path / "layout.onnx")
    for word, one, other in (
        ("logits", "scores", "other"),
        ("fixed", {"times": 1}, {"times": 2}),
        ("layout", "NCHW", "NHWC"),
    ):
        told: list[str] = []
        words = {"root": tmp_path, "tell": told.append}
        cnnkit.import_(tmp_path / f"{word}.onnx", **{word: one}, **words)
        options = ExportOptions(root=tmp_path)
        cnnkit.export(word, formats=("onnx",), precisions=("fp32", "fp16"), options=options).require()
        made = tmp_path / word / f"{word}.fp16.onnx"
        cnnkit.import_(tmp_path / f"{word}.onnx", **{word: one}, **words)
        assert made.exists(), word
        cnnkit.import_(tmp_path / f"{word}.onnx", **{word: other}, **words)
        assert not made.exists(), word
        assert any("removed" in line and made.name in line for line in told)
