"""Which module became slower: false alarms are rare, real slowdowns are named, rows join across fusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.toolkit.profiling.conftest import windows
from toolkit.errors import CnnkitError, GateError
from toolkit.profiling.comparing.differences import (
    Comparison,
    Difference,
    compare,
    compare_columns,
    refuse_unpaired,
)
from toolkit.profiling.comparing.mismatch import mismatch_of, refuse_incomplete
from toolkit.profiling.comparing.pairs import matched
from toolkit.profiling.machine import MachineFacts, Peaks
from toolkit.profiling.reports.comparison import (
    gate,
    markdown_report,
    passed_in_noise,
    print_comparison,
    summary,
    verdict_text,
)
from toolkit.profiling.reports.html import html_report
from toolkit.profiling.result import Cell, Column, Latency, Profile, Row, Run

ROWS = {"conv1": 0.2, "pool1": 0.1, "conv2": 0.5, "pool2": 0.1, "fc1": 0.8, "fc2": 0.15}


def profile_of(
    rows: Mapping[str, float], seed: int, *, noise: float = 0.02, batch: int = 1, count: int = 10
) -> Profile:
    """Return a profile whose rows have these medians, with the noise of a real machine on each window."""
    random = np.random.default_rng(seed)
    cells = {name: tuple(windows(random, ms, noise=noise, count=count)) for name, ms in rows.items()}
    whole = tuple(windows(random, sum(rows.values()), noise=noise, count=count))
    latency = Latency(
        median=float(np.median(whole)), mean=float(np.mean(whole)), p90=max(whole), p95=max(whole),
        p99=max(whole), spread=0.03, runs=100, windows=whole,
    )  # fmt: skip
    made = tuple(
        Row(
            modules=tuple(name.split("+")),
            type="x",
            cells={"ort": Cell(latency_ms=float(np.median(w)), windows=w, nodes=(name,))},
        )
        for name, w in cells.items()
    )
    column = Column(
        backend="ort", artifact=None, precision="fp32", measured=True, latency_ms=latency, layer_sum_ms=1.0
    )
    return Profile(
        model="net", device="cpu", threads=2, runs=(Run(batch=batch, backends={"ort": column}, rows=made),)
    )


def test_equal_artifacts_compare_as_no_change_in_nineteen_of_twenty_pairs() -> None:
    quiet = 0
    for seed in range(20):
        found = compare(profile_of(ROWS, 2 * seed), profile_of(ROWS, 2 * seed + 1))
        quiet += all(d.verdict == "no change" for d in found.differences)
    assert quiet >= 19


@pytest.mark.parametrize("slow", ["conv1", "conv2", "fc1"])
def test_a_fifth_slower_module_is_named_in_nineteen_of_twenty_pairs(slow: str) -> None:
    named = 0
    for seed in range(20):
        after = profile_of({**ROWS, slow: 1.2 * ROWS[slow]}, 2 * seed + 1)
        found = compare(profile_of(ROWS, 2 * seed), after)
        rows = [d.row for d in found.differences if d.verdict == "slower" and not d.end_to_end]
        named += rows == [slow]
    assert named >= 19


def test_differences_too_small_to_matter_are_no_change() -> None:
    before = profile_of({"tiny": 0.004, "large": 1.0}, 0, noise=0.001)
    after = profile_of({"tiny": 0.005, "large": 1.05}, 1, noise=0.001)
    rows = {d.row: d.verdict for d in compare(before, after).differences}
    assert rows["tiny"] == "no change"  # 1 µs
    assert rows["large"] == "no change"  # 5 %


def test_another_fusion_is_no_missing_row() -> None:
    before = {("conv",): (1.0,), ("bn",): (0.5,), ("relu",): (0.25,)}
    after = {("conv", "bn", "relu"): (1.1,)}
    assert matched(before, after) == {"conv + bn + relu": ((1.75,), (1.1,))}


def test_renamed_kernels_do_not_matter() -> None:
    before, after = profile_of(ROWS, 0), profile_of(ROWS, 1)
    run = after.runs[0]
    rows = tuple(
        dataclasses.replace(row, cells={"ort": dataclasses.replace(row.cells["ort"], nodes=(f"k{i}_v2",))})
        for i, row in enumerate(run.rows)
    )
    after = dataclasses.replace(after, runs=(dataclasses.replace(run, rows=rows),))
    assert {d.verdict for d in compare(before, after).differences} == {"no change"}


def test_a_row_of_one_side_only_is_said() -> None:
    found = compare(profile_of(ROWS, 0), profile_of({**ROWS, "extra": 0.3}, 1))
    assert {d.row: d.verdict for d in found.differences}["extra"] == "only after"


def test_profiles_that_share_nothing_are_refused_in_words() -> None:
    with pytest.raises(CnnkitError, match="share no batch size"):
        compare(profile_of(ROWS, 0, batch=1), profile_of(ROWS, 1, batch=8))


def test_the_gate_names_the_module_and_lets_smaller_ones_pass() -> None:
    found = compare(profile_of(ROWS, 0), profile_of({**ROWS, "fc1": 1.2 * ROWS["fc1"]}, 1))
    with pytest.raises(GateError, match=r"slower by more than 5%: fc1 on ort \+"):
        gate(found, 0.05)
    gate(found, 0.5)


def test_different_networks_are_said_and_no_gate_judges_them() -> None:
    other = {name.replace("c", "k"): ms / 2 for name, ms in ROWS.items()}  # the pools have the same names
    before, after = profile_of(ROWS, 0), dataclasses.replace(profile_of(other, 1), model="other")
    found = compare(before, after)
    assert "of different networks on ort, batch 1: rows in common 2, only before 4, only after 4" in summary(
        found
    )
    assert mismatch_of(before, after).lines == ("not alike: model net before, other after",)
    with pytest.raises(CnnkitError, match=r"of different networks on ort.*nothing was judged"):
        gate(found, 5.0)


def test_a_gate_that_judged_no_row_does_not_pass() -> None:
    found = compare(profile_of(ROWS, 0), profile_of(ROWS, 1))
    only = [dataclasses.replace(entry, verdict="only before") for entry in found.differences]
    with pytest.raises(CnnkitError, match="no row has a time both before and after"):
        gate(dataclasses.replace(found, differences=tuple(only)), 0.05)


def test_another_file_is_said_by_its_name_and_of_an_import_without_a_model_nothing() -> None:
    def of(artifact: str, precision: str = "fp32") -> Profile:
        found = with_column(profile_of(ROWS, 0), "ort", artifact=artifact, precision=precision)
        return dataclasses.replace(found, model=artifact)

    said = (
        "not alike: model /a/net.onnx before, /b/other.onnx after; "
        "file of ort net.onnx before, other.onnx after",
    )
    assert mismatch_of(of("/a/net.onnx"), of("/b/other.onnx")).lines == said
    assert mismatch_of(of("/a/net.log", "unknown"), of("/b/other.log", "unknown")).lines == ()


def test_a_verdict_that_does_not_rest_on_the_measured_change_says_what_it_rests_on() -> None:
    found = Difference(
        batch=1, backend="ort", row="fc1", verdict="slower", before_ms=1.0, after_ms=0.97,
        change=-0.03, interval=(-0.1, 0.05), beyond=0.21,
    )  # fmt: skip
    assert verdict_text(found) == "slower, +21.0% beyond the machine's own change"
    assert verdict_text(dataclasses.replace(found, change=0.211)) == "slower"
    with pytest.raises(GateError, match=r"slower by more than 5%: fc1 on ort \+21.0%"):
        gate(Comparison(before=profile_of(ROWS, 0), after=profile_of(ROWS, 1), differences=(found,)), 0.05)


def test_a_row_of_no_time_is_slower_or_faster_without_a_ratio() -> None:
    none, some = profile_of({"a": 0.0, "b": 1.0}, 0), profile_of({"a": 2.0, "b": 1.0}, 1)
    verdicts = [
        {d.row: d for d in compare(x, y).differences}["a"]
        for x, y in ((none, some), (some, none), (none, none))
    ]
    assert [d.verdict for d in verdicts] == ["slower", "faster", "no change"]
    assert all(d.change is None and d.interval is None for d in verdicts)
    with pytest.raises(GateError, match=r"a on ort from 0 to \d\.\d+ ms"):
        gate(compare(none, some), 0.05)
    assert "most: a on ort from 0 to" in markdown_report(compare(none, some))


def test_too_few_windows_are_a_verdict_of_their_own_that_no_gate_passes() -> None:
    # calls that outlast the duration: three clean windows, and one profiled
    slow = {name: 400 * ms for name, ms in ROWS.items()}
    before = profile_of(slow, 0, count=3)
    found = compare(before, profile_of({name: 10 * ms for name, ms in slow.items()}, 1, count=3))
    assert {d.verdict for d in found.differences} == {"too few windows"}
    assert all(d.interval is None and d.change is not None and d.change > 5 for d in found.differences)
    assert summary(found) == "no change in 0 rows, 7 with too few windows to judge"
    with pytest.raises(CnnkitError, match=r"7 of 7 rows have fewer than 5 windows.*`--duration 12`"):
        found.refuse_unjudged()
    compare(profile_of(ROWS, 0), profile_of(ROWS, 1)).refuse_unjudged()


def joined(*parts: Profile, **more: Any) -> Profile:
    return dataclasses.replace(parts[0], runs=tuple(run for part in parts for run in part.runs), **more)


def with_column(profile: Profile, key: str, **more: Any) -> Profile:
    """Return the profile with a second column, of the first one's times."""
    (run,) = profile.runs
    column = dataclasses.replace(run.backends["ort"], **more)
    rows = tuple(dataclasses.replace(row, cells={**row.cells, key: row.cells["ort"]}) for row in run.rows)
    run = dataclasses.replace(run, backends={**run.backends, key: column}, rows=rows)
    return dataclasses.replace(profile, runs=(run,))


def test_what_only_one_side_measured_is_said_and_fails_a_gate() -> None:
    one, eight = profile_of(ROWS, 0), profile_of(ROWS, 0, batch=8)
    before = joined(with_column(one, "trt", backend="trt"), eight)
    # interrupted before batch 8, and on a machine on which TensorRT only shows what is static
    static = with_column(profile_of(ROWS, 1), "trt", backend="trt", measured=False, layer_sum_ms=None)
    after = dataclasses.replace(static, partial=True)
    found, context = compare(before, after), mismatch_of(before, after)
    assert context.lost == ("trt at batch 1", "batch 8")
    assert mismatch_of(after, before).added == context.lost
    assert {d.backend for d in found.differences} == {"ort"}
    said = "only before, so not compared: trt at batch 1; batch 8"
    console = Console(width=200, record=True, file=StringIO())
    print_comparison(found, console)
    for text in (
        markdown_report(found),
        console.export_text(),
        html_report(after, found),
    ):
        assert said in text
        assert "partial, as the run was interrupted: after" in text
    with pytest.raises(CnnkitError, match="the profile after was interrupted"):
        refuse_incomplete(context)
    with pytest.raises(CnnkitError, match="not in the profile after: trt at batch 1; batch 8"):
        refuse_incomplete(dataclasses.replace(context, partial=()))
    refuse_incomplete(mismatch_of(one, before))  # what was added is said, and passes
    assert mismatch_of(one, one).lines == ()


def test_rows_of_one_side_only_are_counted() -> None:
    found = compare(profile_of(ROWS, 0), profile_of({**ROWS, "extra": 0.02}, 1))
    assert summary(found) == "no change in 7 rows, 1 only after"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"threads": 4}, {"threads": 1}, "4 before and 1 after.*profile again with `--threads 4`"),
        ({"threads": None}, {"threads": 1}, "each runtime's default before.*both again with `--threads 1`"),
        ({"device": "cpu"}, {"device": "cuda"}, "other devices, cpu before and cuda after"),
    ],
)
def test_other_threads_or_devices_are_refused(
    before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    sides = [dataclasses.replace(profile_of(ROWS, 0), **changes) for changes in (before, after)]
    with pytest.raises(CnnkitError, match=said):
        compare(*sides)


def test_another_processor_or_precision_is_said() -> None:
    machine = MachineFacts(processor="EPYC", affinity=(0, 1), cores=4)
    first = dataclasses.replace(profile_of(ROWS, 0), machine=machine)
    machine = MachineFacts(processor="Xeon", affinity=(2, 3))
    second = dataclasses.replace(profile_of(ROWS, 1), machine=machine)
    (run,) = second.runs
    column = dataclasses.replace(run.backends["ort"], precision="int8")
    second = dataclasses.replace(second, runs=(dataclasses.replace(run, backends={"ort": column}),))
    assert mismatch_of(first, second).lines == (
        "not alike: processor EPYC before, Xeon after; precision of ort fp32 before, int8 after",
    )


def test_memory_that_was_kept_on_one_side_is_said_a_profile_that_does_not_tell_had_it_kept() -> None:
    first, second = profile_of(ROWS, 0), profile_of(ROWS, 1)
    (run,) = second.runs
    column = dataclasses.replace(run.backends["ort"], allocator="system")
    second = dataclasses.replace(second, runs=(dataclasses.replace(run, backends={"ort": column}),))
    assert mismatch_of(first, second).lines == ("not alike: allocator of ort keep before, system after",)


def test_a_change_that_cannot_be_told_from_the_machine_ends_a_gate_unless_noise_is_allowed() -> None:
    # a busy machine: windows wander by half of their time
    before = profile_of({**ROWS, "conv1": 0.13}, 0, noise=0.4)
    after = profile_of({**ROWS, "conv1": 0.18}, 1, noise=0.4)
    found = compare(before, after, fail_over=0.05)
    verdicts = {entry.row: entry.verdict for entry in found.differences}
    assert verdicts["conv1"] == "too noisy to judge"
    assert "too noisy to judge" in summary(found)
    with pytest.raises(
        CnnkitError, match=r"rows are too noisy to judge \(.* on ort, batch 1: .*--allow-noise"
    ):
        found.require()
    allowed = compare(before, after, fail_over=0.05, allow_noise=True)
    assert allowed.require() is allowed
    said = passed_in_noise(allowed)
    assert said is not None
    assert "conv1 on ort" in said
    assert passed_in_noise(found) is None


def test_on_a_quiet_machine_almost_every_pair_is_judged() -> None:
    pairs = [compare(profile_of(ROWS, 2 * n), profile_of(ROWS, 2 * n + 1)) for n in range(20)]
    assert sum(bool(found.noisy) for found in pairs) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_change_that_noise_hides_is_never_called_no_change(seed: int) -> None:
    found = compare(profile_of(ROWS, seed, noise=0.3), profile_of({**ROWS, "fc1": 1.0}, seed + 50, noise=0.3))
    (entry,) = [entry for entry in found.differences if entry.row == "fc1"]
    assert entry.verdict in ("slower", "too noisy to judge")


def waiting_on_memory(seed: int, *, fc_ms: float) -> Profile:
    """Return a profile of four convolutions and a dense layer that waits for its 4 MB of weights.

    Its windows stray by a tenth, as such a layer's do on a quiet machine (medians of two processes by more).
    """
    random = np.random.default_rng(seed)
    found = profile_of({f"conv{n}": 1.0 for n in range(4)} | {"fc": fc_ms}, seed)
    run = found.runs[0]
    dense = Cell(latency_ms=fc_ms, windows=tuple(windows(random, fc_ms, noise=0.1)), nodes=("fc",))
    rows = tuple(
        dataclasses.replace(row, macs=1_000_000, ideal_bytes=4_000_000, cells={"ort": dense})
        if row.modules == ("fc",)
        else dataclasses.replace(row, macs=100_000_000, ideal_bytes=10_000)
        for row in run.rows
    )
    peaks = Peaks(threads=1, gflops={"fp32": 200.0}, gbytes_s={"memory": 20.0})
    machine = dataclasses.replace(found.machine, peaks=peaks)
    return dataclasses.replace(found, machine=machine, runs=(dataclasses.replace(run, rows=rows),))


@pytest.mark.parametrize("change", [0.8, 1.0, 1.25])
def test_a_layer_that_waits_for_memory_strays_on_a_quiet_machine_and_is_judged(change: float) -> None:
    """Measured: AlexNet's dense layers change by a sixth between two processes with nothing beside them."""
    pairs = [
        compare(waiting_on_memory(seed, fc_ms=0.4), waiting_on_memory(seed + 99, fc_ms=0.4 * change))
        for seed in range(10)
    ]
    assert not [d for found in pairs for d in found.differences if d.verdict != "no change"]


def test_the_whole_call_tells_nothing_where_most_rows_cannot_be_judged() -> None:
    """A neighbour that came between two processes makes the call slower, and no row of it for certain."""
    before = profile_of(ROWS, 1, noise=0.25)
    after = profile_of({name: 2 * ms for name, ms in ROWS.items()}, 2, noise=0.25)
    calm = profile_of({name: 2 * ms for name, ms in ROWS.items()}, 3)
    after = dataclasses.replace(
        after,
        runs=(dataclasses.replace(after.runs[0], backends=calm.runs[0].backends),),
    )
    found = compare(before, after)
    assert len(found.noisy) > 1
    whole = next(d for d in found.differences if d.end_to_end)
    assert (whole.verdict, whole.beyond) == ("too noisy to judge", None)


def in_turn(rows: Mapping[str, float], after: Mapping[str, float], seed: int, noise: float) -> Comparison:
    """Return two columns timed in turn, each with the noise of its own windows."""
    first, second = profile_of(rows, 2 * seed, noise=noise), profile_of(after, 2 * seed + 1, noise=noise)
    (run,), (other,) = first.runs, second.runs
    cells = {row.modules: row.cells["ort"] for row in other.rows}
    joined = tuple(
        dataclasses.replace(row, cells={**row.cells, "ort:new": cells[row.modules]}) for row in run.rows
    )
    columns = {**run.backends, "ort:new": other.backends["ort"]}
    run = dataclasses.replace(run, backends=columns, rows=joined)
    return compare_columns(dataclasses.replace(first, runs=(run,)))


def test_noise_in_columns_timed_in_turn_is_said_and_on_a_quiet_machine_there_is_none() -> None:
    slower = {**ROWS, "fc1": 1.0}
    for seed in range(5):
        found = {entry.row: entry.verdict for entry in in_turn(ROWS, slower, seed, 0.3).differences}
        assert found["fc1"] in ("slower", "too noisy to judge")
    assert sum(bool(in_turn(ROWS, ROWS, seed, 0.02).noisy) for seed in range(20)) <= 1
    assert sum(bool(in_turn(ROWS, ROWS, seed, 0.4).noisy) for seed in range(20)) >= 19


def test_a_slower_row_on_a_slower_machine_is_not_judged() -> None:
    """Most rows became slower by a quarter: the machine did, or several modules. No gate passes that."""
    after = {name: ms * (1.0 if name == "pool1" else 1.25) for name, ms in ROWS.items()}
    found = compare(profile_of(ROWS, 1), profile_of(after, 2), fail_over=0.1)
    assert found.noisy
    with pytest.raises(CnnkitError, match="too noisy to judge"):
        found.require()


def on_gpu(profile: Profile) -> Profile:
    (run,) = profile.runs
    column = dataclasses.replace(run.backends["ort"], device="cuda")
    return dataclasses.replace(profile, runs=(dataclasses.replace(run, backends={"ort": column}),))


def test_another_gpu_is_said_where_something_ran_on_it() -> None:
    first, second = (
        dataclasses.replace(profile_of(ROWS, seed), machine=MachineFacts(gpus=(gpu,)))
        for seed, gpu in enumerate(("H100 (SM90)", "T4 (SM75)"))
    )
    assert mismatch_of(first, second).lines == ()
    said = mismatch_of(on_gpu(first), on_gpu(second)).lines
    assert said == ("not alike: GPUs H100 (SM90) before, T4 (SM75) after",)


def test_columns_timed_in_turn_pair_by_backend_and_precision() -> None:
    two = with_column(profile_of(ROWS, 0), "ort:new", precision="int8")
    assert {d.backend for d in compare_columns(two).differences} == {"ort:new"}
    four = with_column(with_column(two, "ort:net2"), "ort:int8:net2", precision="int8")
    assert {d.backend for d in compare_columns(four).differences} == {"ort:net2", "ort:int8:net2"}
    refuse_unpaired(four)
    alone = with_column(profile_of(ROWS, 0), "pytorch", backend="pytorch")
    assert compare_columns(alone).differences == ()
    with pytest.raises(CnnkitError, match="no two timed columns of one backend: batch 1 on ort/pytorch"):
        refuse_unpaired(alone)


def test_the_markdown_shows_what_changed_first() -> None:
    before, after = profile_of(ROWS, 0), profile_of({**ROWS, "fc1": 1.2 * ROWS["fc1"]}, 1)
    text = markdown_report(compare(before, after))
    head, _, rest = text.partition("<details>")
    assert "| fc1 |" in head
    assert "slower" in head
    assert "| conv1 |" not in head
    assert "| conv1 |" in rest


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_of_a_comparison_fits_the_screen(width: int) -> None:
    name = "features.13.block.0 + features.13.block.1"
    before, after = profile_of({name: 1.0}, 0), profile_of({name: 1.5}, 1)
    console = Console(width=width, record=True, file=StringIO())
    print_comparison(compare(before, after), console)
    printed = console.export_text()
    assert printed.count("slower") >= 2
    assert "features.13.bl" in printed
    assert all(len(line.rstrip()) <= width for line in printed.splitlines())
