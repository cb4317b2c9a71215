"""A choice holds for the machine, the weights and the file that it was made with, and for no others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.stamping import stamp
from toolkit import choices
from toolkit.artifacts import Artifact, open_artifact, read_passport, shipped_root
from toolkit.choices import (
    ChoiceFile,
    Contender,
    choice_path,
    find_choice,
    origin_of,
    read_choice,
    this_machine,
    weights_of,
    write_choice,
)
from toolkit.errors import CorruptError
from toolkit.machine.cuda import Gpu

MODEL = "lenet-maxpool"
HERE = {"ort": "9.9"}.get


@pytest.fixture
def kept(tmp_path: Path) -> ChoiceFile:
    file = shipped_root() / MODEL / f"{MODEL}.onnx"
    one = Contender(
        backend="ort", artifact=str(file), precision="fp32", settings={"spinning": "off"}, threads=1
    )
    made = ChoiceFile(
        model=MODEL,
        file=file.name,
        sha256=read_passport(file).sha256,
        weights=weights_of(tmp_path, MODEL),
        chosen=one,
        baseline=one,
        machine=this_machine({"ort": "9.9"}),
    )
    write_choice(choice_path(tmp_path, MODEL), made)
    return made


def test_a_choice_is_read_as_it_was_written(kept: ChoiceFile, tmp_path: Path) -> None:
    assert read_choice(choice_path(tmp_path, MODEL)) == kept
    assert kept.chosen.label == "ort fp32, 1 thread, spinning off"
    found = find_choice(tmp_path, MODEL, HERE)
    assert found is not None
    assert (found.file, found.why_not) == (kept, None)
    assert find_choice(tmp_path, "another", HERE) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"processor": "Elsewhere"}, r"another machine \(its processor was Elsewhere, here "),
        ({"cores": 999}, r"its cores were 999, here "),
        ({"system": "Plan9 mips"}, r"its system was Plan9 mips, here "),
        ({"instruction_sets": ("X",)}, r"its instruction sets were X, here "),
        ({"memory_bytes": 2**60}, r"it had more memory"),
        ({"versions": {"ort": "1.0"}}, r"its release of ort was 1\.0, here 9\.9"),
    ],
)
def test_on_another_machine_it_does_not_hold(
    kept: ChoiceFile, tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    machine = dataclasses.replace(kept.machine, **changes)  # type: ignore[arg-type]  # fields by name
    write_choice(choice_path(tmp_path, MODEL), dataclasses.replace(kept, machine=machine))
    found = find_choice(tmp_path, MODEL, HERE)
    assert found is not None
    assert found.file is None
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.why_not)


def test_a_runtime_that_tells_no_release_is_not_another_one(kept: ChoiceFile, tmp_path: Path) -> None:
    machine = dataclasses.replace(kept.machine, versions={})
    write_choice(choice_path(tmp_path, MODEL), dataclasses.replace(kept, machine=machine))
    for release, why in ((None, None), ("9.9", r"its release of ort was unknown, here 9.9")):
        found = find_choice(tmp_path, MODEL, lambda _, release=release: release)
        assert found is not None
        assert (found.why_not or "").count(why or "another machine") == (1 if why else 0)


def test_a_choice_of_a_gpu_does_not_hold_where_that_is_gone(
    kept: ChoiceFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = (Gpu(index=0, name="Stand-in", capability="SM89", memory_bytes=1),)
    monkeypatch.setattr(choices, "gpus", lambda: here)
    machine = this_machine({"ort": "9.9"}, on_gpu=True)
    assert machine.gpus == ("Stand-in (SM89)",)
    assert this_machine({"ort": "9.9"}).gpus == ()  # a choice of the CPU's holds on any GPU
    write_choice(choice_path(tmp_path, MODEL), dataclasses.replace(kept, machine=machine))
    found = find_choice(tmp_path, MODEL, HERE)
    assert found is not None
    assert found.why_not is None
    here = ()
    found = find_choice(tmp_path, MODEL, HERE)
    assert found is not None
    assert "its GPUs were Stand-in (SM89), here none" in (found.why_not or "")


def test_weights_are_told_by_whatever_descends_from_them(tmp_path: Path) -> None:
    source = open_artifact(shipped_root() / MODEL / f"{MODEL}.safetensors")
    graph = open_artifact(source.path.with_suffix(".onnx"))
    own = source.passport.sha256
    assert weights_of(tmp_path, MODEL) == origin_of(tmp_path, graph) == own

    def lay(ending: str, made_of: str, **facts: Any) -> Artifact:
        path = tmp_path / MODEL / f"{MODEL}{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"{ending}{made_of}".encode())
        known = dataclasses.replace(graph.passport, source_sha256=made_of, created="2099-01-01", **facts)
        return stamp(path, known)

    halved = lay(".fp16.onnx", graph.passport.sha256 or "", precision="fp16")
    assert weights_of(tmp_path, MODEL) == origin_of(tmp_path, halved) == own
    laid = lay(".onnx", "elsewhere")  # as from a pack: of newer weights than those that ship
    assert weights_of(tmp_path, MODEL) == origin_of(tmp_path, laid) == "elsewhere"
    lay(".openvino", laid.passport.sha256 or "", format="openvino")
    assert weights_of(tmp_path, MODEL) == "elsewhere"


def test_for_newer_weights_or_another_file_it_does_not_hold(kept: ChoiceFile, tmp_path: Path) -> None:
    for changes, why in (
        ({"weights": "0"}, "other weights than the newest"),
        ({"sha256": "0"}, "not here any"),
    ):
        write_choice(choice_path(tmp_path, MODEL), dataclasses.replace(kept, **changes))
        found = find_choice(tmp_path, MODEL, HERE)
        assert found is not None
        assert why in (found.why_not or "")


def test_a_damaged_choice_is_one_line_with_the_path_of_what_is_wrong(
    kept: ChoiceFile, tmp_path: Path
) -> None:
    path = choice_path(tmp_path, MODEL)
    data = json.loads(path.read_text())
    data["chosen"]["batch"] = "two"
    path.write_text(json.dumps(data))
    with pytest.raises(CorruptError, match=r"`chosen\.batch` is \"two\"; a whole number.*choose again"):
        read_choice(path)
    found = find_choice(tmp_path, MODEL, HERE)
    assert found is not None
    assert "damaged" in (found.why_not or "")
