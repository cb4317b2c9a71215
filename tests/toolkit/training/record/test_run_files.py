"""What training reads back from its own files: every value typed, a wrong one told in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

pytest.importorskip("torch")

from toolkit import schema, zoo
from toolkit.errors import CnnkitError, CorruptError
from toolkit.training import EpochRecord, TrainingReport
from toolkit.training.cell_results import CellResult, known_result, otherwise_computed
from toolkit.training.compute.candidates import ComputeChoice
from toolkit.training.compute.format import Compute
from toolkit.training.guard import ClassAnswers, GuardState
from toolkit.training.progress import Progress
from toolkit.training.record.facts import ComputeOptions, RunFacts
from toolkit.training.record.folder import RunFolder
from toolkit.training.record.snapshots import read_progress
from toolkit.training.sweep_plan import SweepPlan, begin_folder, find_begun

RECIPE = zoo.model("lenet").recipe("textbook")
COMPUTE = Compute(device="cpu", threads=2, arithmetic="bf16", channels_last=True, plain_first=True)
RECORD = EpochRecord(
    epoch=1,
    attempt=0,
    rate=0.1,
    train_loss=2.25,
    train_accuracy=0.125,
    val_loss=2.5,
    val_accuracy=0.25,
    seconds=3.5,
)
FACTS = RunFacts(
    model="lenet",
    recipe=RECIPE,
    dataset="mnist",
    fingerprint="ab12",
    size=(28, 28),
    images=600,
    pretrained="lenet.pth",
    threads=2,
    torch="2.14.1",
    compute=COMPUTE,
    teacher_compute=COMPUTE,
    options=ComputeOptions(precision="auto", layout="contiguous", threads=2),
)
REPORT = TrainingReport(
    model="lenet",
    recipe="textbook",
    dataset="mnist",
    epochs=1,
    seed=0,
    checkpoint="/a/lenet.safetensors",
    sha256="cd34",
    run="/a/runs/1",
    settings=RECIPE,
    history=(RECORD,),
    selected_epoch=1,
    test_accuracy=0.25,
    test_accuracy_ci95=(0.125, 0.5),
    test_images=100,
    val_accuracy=0.25,
    class_accuracy=(0.25, 0.5),
    confusion=((1, 3), (2, 2)),
    flip_test_accuracy=0.5,
    seconds=4.5,
    images_per_second=900.5,
    arithmetic="bf16",
    layout="channels-last",
    threads=2,
    peak_memory_bytes=1 << 28,
    device_peak_memory_bytes=1 << 30,
    device_utilisation=0.75,
    events=("stopped early",),
)
WATCH = GuardState(
    losses=[2.25],
    steps=40,
    silent={"3": 2},
    answers=ClassAnswers(seen={"3": 2.0}, right={"3": 1.0}),
    lowest=2.2,
    lowest_step=20,
    died_at=1.5,
    idled_at=0.5,
)
FILES: dict[str, Any] = {
    "run.json": FACTS,
    "sweep.json": SweepPlan(model="lenet", axes={"lr": ("0.1", "0.9")}, fixed=("--dataset", "mnist"),
                            recipes={"default": RECIPE}),
    "result.json": CellResult(values={"lr": "0.1"}, status="done", wall_s=9.5, error="none", report=REPORT,
                              exit_status=0),
    "latest.state": Progress(epoch=1, step=3, best_epoch=1, unjudged=[2.125],
                             unjudged_seen={"3": 2}, unjudged_right={"3": 1},
                             watch=WATCH, records=[RECORD], events=["lowered"]),
    "choice.json": ComputeChoice(compute=COMPUTE, gain=1.25, why="measured now", note="BF16"),
}  # fmt: skip
OTHERS = (None, True, 7, -7, 0.375, "text", [], ["text"], {}, {"key": "text"})


def written(name: str) -> Any:
    data = json.loads(json.dumps(schema.plain(FILES[name])))
    data.pop("kept", None)
    return data


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document but of the document itself."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(data)
    at(data, path[:-1])[path[-1]] = value
    return data


def says(found: Any, given: Any) -> bool:
    """Tell whether what was read says what was written; a reader may fill in fields that are not there."""
    if isinstance(given, Mapping):
        return isinstance(found, Mapping) and all(k in found and says(found[k], v) for k, v in given.items())
    if isinstance(given, list):
        return isinstance(found, list) and len(found) == len(given) and all(map(says, found, given))
    return found == given and isinstance(found, bool) == isinstance(given, bool)


def read(name: str, data: Any) -> Any:
    return schema.convert(type(FILES[name]), data, what=name, finite=name != "latest.state")


def refused(name: str, path: tuple[Any, ...], value: Any) -> bool:
    """Replace a value; tell whether the file is refused, with the path, or else read as it stands."""
    data = with_value(written(name), path, value)
    try:
        found = read(name, data)
    except CnnkitError as error:
        said = str(error)
        assert said.startswith(f"{name} is damaged: ")
        assert ".".join(map(str, path)) in said
        assert len(said.splitlines()) == 1
        return True
    assert says(schema.plain(found), data)
    return False


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_is_read_as_it_was(name: str) -> None:
    assert read(name, written(name)) == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_most_values_of_another_type_are_refused_with_their_path(name: str) -> None:
    data = written(name)
    tried = {
        (path, repr(other)): refused(name, path, other)
        for path in places(data)
        for other in OTHERS
        if type(other) is not type(at(data, path))
    }
    assert len(tried) > 40
    assert sum(tried.values()) > 0.85 * len(tried)
    # and no field takes whatever it is given
    assert {path for path, _ in tried} == {path for (path, _), no in tried.items() if no}


@settings(deadline=None)
@given(data=st.data())
def test_any_value_of_another_type_is_refused_or_valid_where_it_stands(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    path = data.draw(st.sampled_from(list(places(written(name)))))
    there = type(at(written(name), path))
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
    refused(name, path, data.draw(values.filter(lambda value: type(value) is not there)))


def test_a_wrong_value_of_a_run_is_told_with_its_file_and_what_belongs_there(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path)
    folder.begin(FACTS)
    file = folder.path / "run.json"
    file.write_text(json.dumps(with_value(json.loads(file.read_text()), ("compute", "threads"), "two")))
    with pytest.raises(CorruptError) as caught:
        folder.facts()
    assert str(caught.value) == (
        f'{file} is damaged: `compute.threads` is "two"; a whole number belongs there; start without --resume'
    )
    folder.close()


def test_keys_of_a_run_that_nobody_here_knows_are_written_again(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path)
    folder.begin(FACTS)
    file = folder.path / "run.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "newer": [1], "compute": {**data["compute"], "ranks": 2}}))
    folder.begin(folder.facts())
    again = json.loads(file.read_text())
    assert (again["newer"], again["compute"]["ranks"]) == ([1], 2)
    folder.close()


def test_a_run_of_an_older_release_still_opens(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path)
    compute = {"device": "cpu", "threads": 1, "arithmetic": "fp32", "channels_last": False,
               "paired_pools": True, "plain_first": False, "few_channels": True}  # fmt: skip
    data = {**written("run.json"), "compute": compute}
    del data["freeze"], data["pretrained"], data["teacher_compute"]
    (folder.path / "run.json").write_text(json.dumps(data))
    facts = folder.facts()
    assert facts.compute == Compute(device="cpu", threads=1, arithmetic="fp32", channels_last=False)
    assert (facts.freeze, facts.pretrained, facts.teacher_compute) == (False, None, None)
    folder.close()


def test_a_sweep_that_cannot_be_read_is_named_and_what_helps(tmp_path: Path) -> None:
    folder = begin_folder(tmp_path, FILES["sweep.json"])
    file = folder / "sweep.json"
    file.write_text(json.dumps(with_value(written("sweep.json"), ("axes", "lr"), 0.1)))
    with pytest.raises(CorruptError, match=r"`axes\.lr` is 0\.1; a list belongs there; remove"):
        find_begun(tmp_path, FILES["sweep.json"])
    mine = replace(FILES["sweep.json"], model="nin")
    told: list[str] = []
    with pytest.raises(CorruptError, match=r"`axes\.lr` is 0\.1"):  # which may have been this one
        find_begun(tmp_path, mine, told.append)
    older = folder.with_name("0-older")
    older.mkdir()
    (older / "sweep.json").write_text(json.dumps(asdict(mine)))
    assert find_begun(tmp_path, mine, told.append) == (older, mine)
    assert "passed over" in told[0]
    assert str(file) in told[0]


def test_a_sweep_that_goes_on_says_which_releases_are_others(tmp_path: Path) -> None:
    begun = replace(FILES["sweep.json"], tools={"cnnkit": "0.1.0", "torch": "2.8.0"})
    folder = begin_folder(tmp_path, begun)
    now = replace(begun, tools={"cnnkit": "0.1.0", "torch": "2.9.0", "optuna": "4.0"})
    told: list[str] = []
    assert find_begun(tmp_path, now, told.append) == (folder, begun)  # another release is no other sweep
    assert told == ["note: the sweep was begun with torch 2.8.0, now 2.9.0: one table holds cells of both"]
    assert find_begun(tmp_path, replace(now, tools={}), told.append)[0] == folder
    assert len(told) == 1  # nobody knows


def test_cells_in_another_format_that_no_axis_gave_them_are_told() -> None:
    def cell(arithmetic: str, **values: str) -> CellResult:
        found = FILES["result.json"]
        return replace(found, values=values, report=replace(found.report, arithmetic=arithmetic))

    first, like, other = cell("bf16", lr="0.1"), cell("bf16", lr="0.2"), cell("fp32", lr="0.3")
    failed = replace(other, report=None)
    assert otherwise_computed([first, like, failed, other]) == [(first, other)]
    assert otherwise_computed([cell("bf16", batch="64"), cell("fp32", batch="8")]) == []
    assert otherwise_computed([cell("bf16", precision="bf16"), cell("fp32", precision="fp32")]) == []


def test_a_result_of_another_shape_is_trained_again(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps(written("result.json")))
    assert known_result(tmp_path) == FILES["result.json"]
    result.write_text(json.dumps(with_value(written("result.json"), ("report", "seconds"), "long")))
    assert known_result(tmp_path) is None


def test_losses_that_are_no_finite_numbers_are_null_in_a_report_and_read_again() -> None:
    endless = {"report": {"history": [{**schema.plain(RECORD), "train_loss": None, "val_loss": None}]}}
    data = written("result.json")
    data["report"] |= endless["report"]
    assert read("result.json", data).report.history[0].train_loss is None


def test_a_state_of_an_older_release_is_read_without_what_nothing_reads_any_more(tmp_path: Path) -> None:
    state = tmp_path / "latest.state"

    def written_with(**more: Any) -> Path:
        save_file({}, state, metadata={"progress": json.dumps({**written("latest.state"), **more})})
        return state

    older = written_with(best_accuracy=0.25, best_loss=2.5)
    assert read_progress(older) == FILES["latest.state"]
    with pytest.raises(CorruptError, match="holds newer, which this release does not know"):
        read_progress(written_with(newer=1))
