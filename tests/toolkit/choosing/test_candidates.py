"""What is tried of which network: its own files of its own weights, at batches that it takes."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import shutil
from pathlib import Path

import pytest

from tests.stamping import stamp
from toolkit import caching
from toolkit.artifacts import Artifact, find_artifacts, open_artifact, shipped_root
from toolkit.backends import BACKENDS
from toolkit.choices import (
    Budget,
    ChoiceFile,
    chosen_path,
    not_opened,
    origin_of,
    this_machine,
    weights_of,
)
from toolkit.choosing import Candidate, ChooseSettings, unmade
from toolkit.choosing.candidates import (
    FileFinder,
    LaterFile,
    backends_asked,
    find_files,
    made_for,
    rejected_file,
    variants,
)
from toolkit.choosing.choose import find_source, fitting
from toolkit.choosing.contest import baseline_of
from toolkit.choosing.pictures import on_pictures, pictures_for
from toolkit.choosing.tuning import costly, without_costly
from toolkit.errors import CnnkitError, ShapeError
from toolkit.exporting import ExportOptions
from toolkit.passports import SYMMETRIC, UNSIGNED, AccuracyDrop, DatasetRef
from toolkit.telling import silent

MODEL = "lenet-maxpool"


@pytest.fixture
def source() -> Artifact:
    return open_artifact(shipped_root() / MODEL / f"{MODEL}.safetensors")


def of_batch(source: Artifact, batch: int | None) -> Artifact:
    known = source.passport
    taken = dataclasses.replace(known.input, shape=(batch, *known.input.shape[1:]))
    return dataclasses.replace(source, passport=dataclasses.replace(known, input=taken))


def test_a_fixed_batch_is_the_one_that_is_measured(source: Artifact) -> None:
    fixed = of_batch(source, 4)
    assert fitting(fixed, Budget(), ChooseSettings()).batches == (4,)
    assert fitting(fixed, Budget(throughput=True), ChooseSettings(batches=(4,))).batches == (4,)
    with pytest.raises(CnnkitError, match="takes batches of 4 only: `--batch 4`"):
        fitting(fixed, Budget(), ChooseSettings(batches=(1,)))
    assert fitting(source, Budget(), ChooseSettings()).batches is None


def test_a_file_in_a_lower_precision_is_no_source(source: Artifact, tmp_path: Path) -> None:
    path = tmp_path / f"{MODEL}.onnx"
    for ending in ("", ".json"):
        shutil.copy(source.path.with_name(f"{MODEL}.onnx{ending}"), tmp_path)
    assert find_source(path, tmp_path, ChooseSettings()).passport.precision == "fp32"
    known = json.loads((tmp_path / f"{MODEL}.onnx.json").read_text())
    (tmp_path / f"{MODEL}.onnx.json").write_text(json.dumps({**known, "precision": "int8"}))
    with pytest.raises(
        CnnkitError, match=r"onnx is int8 already, .* held against fp32: `cnnkit choose lenet-maxpool`"
    ):
        find_source(path, tmp_path, ChooseSettings())


def test_every_backend_may_be_named_by_one_word() -> None:
    assert backends_asked(ChooseSettings(backends=("all",))) == backends_asked(ChooseSettings())


def test_files_of_other_weights_are_none_of_its_own(source: Artifact, tmp_path: Path) -> None:
    graph = open_artifact(shipped_root() / MODEL / f"{MODEL}.onnx")
    folder = tmp_path / MODEL
    folder.mkdir()
    for name, weights in (("fp16", "0" * 64), ("int8", graph.passport.sha256)):
        path = folder / f"{MODEL}.{name}.onnx"
        path.write_bytes(graph.path.read_bytes())
        stamp(path, dataclasses.replace(graph.passport, precision=name, source_sha256=weights, created=None))
    settings = ChooseSettings(backends=("ort",))
    lacking = {("bf16", None): "never asked for", ("fp16", None): "its graph cannot be halved"}
    found = find_files(source, tmp_path, settings, Budget(), silent, judged=False, lacking=lacking)
    assert [(one.backend, one.artifact.passport.precision) for one in found.candidates] == [
        ("ort", "fp32"),
        ("ort", "int8"),
    ]
    assert ("ort", "fp16", "its graph cannot be halved") in {
        (one.contender.backend, one.contender.precision, one.why) for one in found.rejected
    }


def graph_in(root: Path) -> Artifact:
    """Lay the shipped graph in a folder, as its own export or a pack does."""
    shipped = open_artifact(shipped_root() / MODEL / f"{MODEL}.onnx")
    path = root / MODEL / shipped.path.name
    path.parent.mkdir(parents=True)
    path.write_bytes(shipped.path.read_bytes())
    return stamp(path, shipped.passport)


@pytest.mark.usefixtures("sealing")
def test_what_was_made_under_one_budget_changes_nothing_under_another(tmp_path: Path) -> None:
    told: list[str] = []

    def found(root: Path, points: float) -> Artifact:
        source, budget = open_artifact(root / MODEL / f"{MODEL}.onnx"), Budget(max_accuracy_drop=points)
        finder = FileFinder(source, root, ChooseSettings(), budget, told.append, judged=True)
        made = finder.file("sealed", "int8", None)
        assert isinstance(made, Artifact)
        return made

    texts = {}
    for order in ((2.0, 0.5, 2.0, 0.5), (0.5, 2.0, 0.5, 2.0)):
        root = tmp_path / f"first {order[0]}"
        graph_in(root)
        files = [found(root, points) for points in order]
        texts[order[0]] = {one.path.read_text() for one in files}
        assert [one.path.read_text() for one in files] == [f"int8 {points}" for points in order]
        assert [one.path for one in files[2:]] == [one.path for one in files[:2]]
        first, beside = files[:2]
        assert found(root, 1.9 if order[0] == 2 else 0.46) == first  # it keeps to that, and no fewer would
        assert first.path == root / MODEL / f"{MODEL}.int8.sealed"
        assert beside.path not in dict(find_artifacts(root, MODEL))  # no name opens it
        assert origin_of(root, beside) == weights_of(root, MODEL)
        choice = chosen_file(beside)
        assert (not_opened(choice, root), chosen_path(choice, root)) == (None, beside.path)
    assert texts[2.0] == texts[0.5]
    making = [text for text in told if text.startswith("making")]
    plain, other = f"making {MODEL} int8 (sealed)", "that was made for 2 points on held out ones"
    assert making[:2] == [f"{plain} …", f"{plain} beside {MODEL}.int8.sealed, {other} …"]
    assert len(making) == 4


def chosen_file(artifact: Artifact) -> ChoiceFile:
    one = Candidate(backend="ort", artifact=artifact).contender(1)
    return ChoiceFile(
        model=artifact.name,
        file=artifact.path.name,
        sha256=artifact.passport.sha256,
        weights=weights_of(artifact.path.parents[2], artifact.name),
        chosen=one,
        baseline=one,
        machine=this_machine({}),
    )


def test_an_int8_file_is_taken_where_a_search_under_the_budget_would_come_to_it(source: Artifact) -> None:
    def suits(allowed: float, high: float, kept: tuple[str, ...], points: float = 0.5) -> bool:
        drop = AccuracyDrop(points=0.0, ci95=(0.0, high), images=9, allowed=allowed, source=None)
        known = dataclasses.replace(source.passport, accuracy_drop=drop, kept_float=kept)
        assert not made_for(known, dataclasses.replace(source.passport, dataset=DatasetRef(name="b")), points)
        return made_for(known, source.passport, points)

    some, none = ("/conv",), ()
    assert suits(0.5, 0.4, some)
    assert suits(2, 0.4, some)  # as few layers in float as may be
    assert suits(0.3, 0.2, none)  # none at all
    assert suits(2, 0.4, none)
    assert not suits(2, 1.2, none)
    assert not suits(2, 1.2, some)
    assert not suits(0.3, 0.2, some)  # more of them than need be
    assert not made_for(source.passport, source.passport, 0.5)


@pytest.mark.usefixtures("sealing")
def test_what_a_runtime_takes_in_place_of_a_graph_is_made_of_a_packs_graphs(tmp_path: Path) -> None:
    told: list[str] = []
    source = graph_in(tmp_path)
    drop = AccuracyDrop(points=0.0, ci95=(0.0, 1.8), images=9, allowed=2.0, source="held out ones")
    path = source.path.with_name(f"{MODEL}.int8.onnx")
    path.write_bytes(source.path.read_bytes() + b" ")
    facts = {"int8_dialect": UNSIGNED, "accuracy_drop": drop, "source_sha256": source.passport.sha256}
    stamp(path, dataclasses.replace(source.passport, precision="int8", created=None, **facts))
    found = find_files(
        source,
        tmp_path,
        ChooseSettings(backends=("ort", "sealing")),
        Budget(),
        told.append,
        judged=True,
        lacking={("fp16", None): "its graph cannot be halved"},
    )
    assert [(one.backend, one.artifact.passport.precision) for one in found.candidates] == [
        ("ort", "fp32"),
        ("ort", "int8"),
        ("sealing", "fp32"),
        ("sealing", "int8"),
    ]
    why = {(one.contender.backend, one.contender.precision): one.why for one in found.rejected}
    assert why["sealing", "fp16"] == why["ort", "fp16"] == "its graph cannot be halved"
    said = [text for text in told if "pack" in text]
    assert said == [
        "its int8 graph (U8S8) is one that was made for 2 points on held out ones: `cnnkit export "
        f"{MODEL} --format pack --max-accuracy-drop 0.5` packs one for 0.5"
    ]


def test_a_second_dialect_beside_a_slow_file_is_not_made_and_that_is_said(source: Artifact) -> None:
    beside = Candidate(backend="ort", artifact=source)
    late = LaterFile(
        beside=beside, dialect=SYMMETRIC, make=lambda: rejected_file("ort", "int8", "never asked for")
    )
    found = late.not_made(3.04)
    assert found.why == "not made: ort fp32 is 3.0 times slower than one that may be chosen"
    assert found.contender.dialect == SYMMETRIC
    assert late.not_made(float("inf")).why == "not made: ort fp32 is not running"


def test_pictures_of_other_classes_judge_nobody(source: Artifact) -> None:
    few = dataclasses.replace(source.passport, classes=source.passport.classes[:4])
    with (
        pytest.raises(
            ShapeError, match=r"with 4 classes .*, and fashion-mnist-sample has 10 classes .*: name"
        ),
        pictures_for(dataclasses.replace(source, passport=few), ChooseSettings(), "fashion-mnist-sample"),
    ):
        pass
    other = dataclasses.replace(source.passport, classes=("Boat", *source.passport.classes[1:]))
    with (
        pytest.raises(ShapeError, match=r"10 classes \(Boat, .*, and fashion-mnist-sample has 10"),
        pictures_for(dataclasses.replace(source, passport=other), ChooseSettings(), "fashion-mnist-sample"),
    ):
        pass


def test_the_data_that_it_was_trained_on_is_its_own_by_any_spelling(
    source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = DatasetRef(name=f"csv:{tmp_path.resolve()}/list.csv", columns="image=a", group="b", trained_on="1")
    known = dataclasses.replace(source.passport, dataset=own)
    assert on_pictures(known, "csv:list.csv") is on_pictures(known, None) is known
    assert on_pictures(known, "csv:other.csv").dataset == DatasetRef(
        name=f"csv:{tmp_path.resolve()}/other.csv", named=True, halved=True
    )


def test_half_of_what_was_only_named_judges_and_is_not_called_held_out(source: Artifact) -> None:
    with pictures_for(source, ChooseSettings(), "fashion-mnist-sample") as found:
        said = "1,000 images of fashion-mnist-sample of the training set, which it may have been trained on"
        assert found.source == said
        assert found.named == "fashion-mnist-sample"


def test_the_baseline_is_the_usual_backend_in_fp32(source: Artifact) -> None:
    half = dataclasses.replace(source, passport=dataclasses.replace(source.passport, precision="fp16"))
    ones = [
        Candidate(backend="openvino", artifact=source),
        Candidate(backend="ort", artifact=half),
        Candidate(backend="ort", artifact=source),
    ]
    assert baseline_of(ones) is ones[2]
    assert baseline_of(ones[:1]) is ones[0]


def test_settings_are_tried_on_each_number_of_threads_and_never_the_defaults_again(source: Artifact) -> None:
    graph = open_artifact(shipped_root() / MODEL / f"{MODEL}.onnx")
    one = Candidate(backend="ort", artifact=graph, threads=2)
    found = list(variants(one, ChooseSettings(threads=(2, 1)), 1))
    assert one.key not in {other.key for other in found}
    tried = [(other.threads, dict(other.settings)) for other in found]
    declared = [dict(each) for each in BACKENDS.load("ort").variants(graph, threads=2, batch=1)]
    assert [settings for threads, settings in tried if threads == 2] == declared[1:]
    assert (1, {}) in tried
    assert all("spinning" not in settings for threads, settings in tried if threads == 1)


def test_a_file_that_could_not_be_made_is_not_looked_for_again(tmp_path: Path) -> None:
    graph = open_artifact(shipped_root() / MODEL / f"{MODEL}.onnx")
    path = tmp_path / MODEL / f"{MODEL}.onnx"
    path.parent.mkdir()
    path.write_bytes(graph.path.read_bytes())
    few = stamp(path, dataclasses.replace(graph.passport, dataset=DatasetRef(name="fashion-mnist-sample")))
    told: list[str] = []

    def why() -> str:
        finder = FileFinder(few, tmp_path, ChooseSettings(), Budget(), told.append, judged=True)
        found = str(finder.file("onnx", "int8", UNSIGNED))
        assert "not made: its other dialect" in str(finder.file("onnx", "int8", SYMMETRIC))
        return found

    first = why()
    assert "held-out images would tell" in first
    assert told == [f"making {MODEL} int8 (onnx, U8S8) …"]
    assert why().startswith(first)
    assert "`cnnkit clean --free unmade` has it tried again)" in why()
    assert len(told) == 1
    caching.free(["unmade"])
    assert why() == first
    assert len(told) == 2


def test_what_could_not_be_made_is_tried_again_once_its_pictures_are_others(
    source: Artifact, tmp_path: Path
) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_bytes(b"")
    named = dataclasses.replace(source.passport, dataset=DatasetRef(name=f"folder:{tmp_path / 'data'}"))
    few, options = Artifact(path=source.path, passport=named), ExportOptions(root=tmp_path, precision="int8")
    unmade.remember(few, "onnx", options, "lossy")
    assert unmade.recall(few, "onnx", options)
    (tmp_path / "data" / "a" / "1.png").write_bytes(b"mended")
    assert unmade.recall(few, "onnx", options) is None


def test_what_opens_slowly_is_known_and_stands_beside_the_same_settings_without_it(source: Artifact) -> None:
    eager = Candidate(backend="pytorch", artifact=source, settings={"channels_last": "yes"}, threads=1)
    compiled = dataclasses.replace(eager, settings={"channels_last": "yes", "compile": "yes"})
    assert (costly(compiled), costly(eager)) == (True, False)
    assert without_costly(compiled) == eager


def test_a_disk_that_is_full_in_the_middle_is_a_reason_that_nobody_remembers(
    source: Artifact, tmp_path: Path
) -> None:
    def made() -> Artifact | str:
        finder = FileFinder(source, tmp_path, ChooseSettings(), Budget(), silent, judged=True)
        return finder.file("onnx", "fp16", None)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        why = made()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.search(r"cannot write .*fp16\.onnx.*free some space", str(why))
    assert not list(tmp_path.rglob("*.fp16.onnx*"))
    assert isinstance(made(), Artifact)
