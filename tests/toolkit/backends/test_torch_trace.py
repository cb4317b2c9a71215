"""A trace of a torch module: LeNet's known numbers, calls outside leaves, calls again, the allocator."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.backends import _torch_trace  # noqa: E402
from toolkit.traces import Trace, TraceMemory  # noqa: E402

nn = torch.nn
NAP_S = 0.01
# name → trainable figures, multiply-adds, bytes of the output for one picture: (N, C, H, W) fp32
LENET = {
    "conv1": (6 * (25 + 1), 28 * 28 * 6 * 25, 6 * 28 * 28 * 4),
    "act1": (0, 0, 6 * 28 * 28 * 4),
    "pool1": (0, 0, 6 * 14 * 14 * 4),
    "conv2": (16 * (6 * 25 + 1), 10 * 10 * 16 * 6 * 25, 16 * 10 * 10 * 4),
    "act2": (0, 0, 16 * 10 * 10 * 4),
    "pool2": (0, 0, 16 * 5 * 5 * 4),
    "flatten": (0, 0, 0),  # a view
    "fc1": (120 * (400 + 1), 120 * 400, 120 * 4),
    "act3": (0, 0, 120 * 4),
    "fc2": (84 * (120 + 1), 84 * 120, 84 * 4),
    "act4": (0, 0, 84 * 4),
    "fc3": (10 * (84 + 1), 10 * 84, 10 * 4),
}


def traced(module: object, *shape: int, windows: int = 2, runs: int = 3) -> Trace:
    batch = np.ones(shape, dtype=np.float32)
    return _torch_trace.trace_module(
        module.eval(),
        batch,
        torch.device("cpu"),
        windows=windows,
        runs=runs,  # type: ignore[attr-defined]
    )


def test_every_layer_of_lenet_has_its_known_numbers() -> None:
    trace = traced(zoo.model("lenet-maxpool").build(1, 10), 1, 1, 28, 28)
    found = {node.name: (node.parameters, node.macs, node.output_bytes) for node in trace.nodes}
    assert found == LENET
    assert sum(parameters or 0 for parameters, _, _ in found.values()) == 61_706
    assert sum(macs or 0 for _, macs, _ in found.values()) == 416_520
    assert [node.modules for node in trace.nodes] == [(name,) for name in LENET]
    assert [node.weights_bytes for node in trace.nodes] == [4 * figures for figures, _, _ in LENET.values()]


def test_a_batch_of_four_computes_four_times_as_much() -> None:
    trace = traced(zoo.model("lenet-maxpool").build(1, 10), 4, 1, 28, 28)
    assert {node.name: node.macs for node in trace.nodes} == {
        k: 4 * macs for k, (_, macs, _) in LENET.items()
    }
    assert {n.name: n.output_bytes for n in trace.nodes} == {k: 4 * size for k, (_, _, size) in LENET.items()}


def test_the_allocators_peak_is_what_is_held_at_once() -> None:
    """A ReLU's input and output live together, the output before them does not."""
    trace = traced(nn.Sequential(*(nn.ReLU() for _ in range(5))), 1, 1, 64, 64)
    one = 64 * 64 * 4
    assert trace.memory == TraceMemory(peak_activation_bytes=2 * one, weights_bytes=0)
    assert trace.alive_bytes == (one, *[2 * one] * 4)
    assert trace.note is None


class Wide(nn.Module):  # type: ignore[misc, name-defined]
    """Keeps its first output until the end; what is widest in between is not what holds most."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.narrow = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 16, 1), nn.Conv2d(16, 4, 1)
        self.last = nn.Conv2d(4, 18, 1)

    def forward(self, x: object) -> object:
        kept = self.first(x)
        return torch.cat([kept, self.last(self.narrow(self.wide(kept)))], 1)


def test_what_is_alive_beside_a_call_counts_as_long_as_someone_holds_it() -> None:
    plane, threads = 64 * 64 * 4, torch.get_num_threads()
    torch.set_num_threads(1)  # a kernel of several threads may copy what it reads
    try:
        trace = traced(Wide(), 1, 1, 64, 64)
    finally:
        torch.set_num_threads(threads)
    alive = dict(zip((node.name for node in trace.nodes), trace.alive_bytes, strict=True))
    # 1x1 convolutions need no workspace to speak of; a kernel may take a little
    floor = {"first": 4, "wide": 20, "narrow": 24, "last": 26, "/cat": 44}
    assert list(alive) == list(floor)
    assert all(planes * plane <= alive[name] < (planes + 4) * plane for name, planes in floor.items())


class Quiet(nn.Module):  # type: ignore[misc, name-defined]
    """A leaf that answers no tensor."""

    def forward(self, x: object) -> object:
        return {"shape": tuple(x.shape)}  # type: ignore[attr-defined]


class Odd(nn.Module):  # type: ignore[misc, name-defined]
    """Calls a leaf by `.forward`, and leaves one and a buffer unused."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.quiet, self.relu = nn.Conv2d(3, 4, 3), Quiet(), nn.ReLU()
        self.unused = nn.Linear(10, 10)
        self.register_buffer("buffer", torch.zeros(7))

    def forward(self, x: object) -> object:
        x = self.conv.forward(x)
        self.quiet(x)
        return self.relu(x)


def test_a_leaf_that_answers_no_tensor_or_is_called_by_forward_is_no_row() -> None:
    trace = traced(Odd(), 1, 3, 8, 8)
    assert list(times(trace)) == ["/conv2d", "relu"]
    assert [node.macs for node in trace.nodes] == [4 * 36 * 27, 0]
    assert len(trace.alive_bytes) == 2


def test_all_weights_count_and_what_no_call_uses_is_said() -> None:
    trace = traced(Odd(), 1, 3, 8, 8)
    assert trace.memory.weights_bytes == 4 * (4 * 27 + 4 + 110 + 7)
    assert trace.note == f"{4 * (110 + 7)} bytes of its weights belong to no call"


def test_a_weight_of_two_layers_and_a_layer_that_is_called_twice_count_once() -> None:
    class Tied(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight, self.again = self.one.weight, self.one

        def forward(self, x: object) -> object:
            return self.again(self.two(self.one(x)))

    trace = traced(Tied(), 2, 4)
    assert [(node.name, node.weights_bytes) for node in trace.nodes] == [
        ("one", 80),
        ("two", 16),
        ("one#2", 0),
    ]
    assert trace.memory.weights_bytes == 96


def test_a_network_of_other_calls_in_each_run_has_rows_without_times() -> None:
    class Turns(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.tanh, self.count = nn.ReLU(), nn.Tanh(), 0

        def forward(self, x: object) -> object:
            self.count += 1
            return self.relu(x) if self.count % 2 else self.tanh(self.relu(x))

    trace = traced(Turns(), 1, 4)
    assert trace.node_ms is None
    assert "the network does not make the same calls in every run" in (trace.note or "")


class Nap(nn.Module):  # type: ignore[misc, name-defined]
    """Takes its time, and calls a function inside."""

    def forward(self, x: object) -> object:
        time.sleep(NAP_S)
        return torch.relu(x)


class Twice(nn.Module):  # type: ignore[misc, name-defined]
    """Naps twice in one leaf, and adds and flattens outside of any."""

    def __init__(self) -> None:
        super().__init__()
        self.nap = Nap()
        self.plain = nn.Identity()

    def forward(self, x: object) -> object:
        x = self.nap(self.plain(x)) + x
        return torch.flatten(self.nap(x), 1)


def times(trace: Trace) -> dict[str, NDArray[np.float64]]:
    assert trace.node_ms is not None
    return dict(zip((node.name for node in trace.nodes), trace.node_ms.T, strict=True))


def test_a_call_has_the_time_that_it_took_and_what_is_inside_a_leaf_has_none_of_its_own() -> None:
    trace = traced(Twice(), 1, 3, 4, 4, windows=3, runs=2)
    found = times(trace)
    assert list(found) == ["plain", "nap", "/add", "nap#2", "/flatten"]
    assert (found["nap"] >= NAP_S * 1e3).all()
    assert (found["nap#2"] >= NAP_S * 1e3).all()
    for name in ("plain", "/add", "/flatten"):
        assert found[name].min() < NAP_S * 1e3
    assert all(values.shape == (3,) for values in found.values())
    assert trace.runs == 6
    assert len(trace.total_ms) == 3
    # the whole call holds its layers
    sums = np.sum(list(found.values()), axis=0)
    assert (np.array(trace.total_ms) >= sums * 0.999).all()


class Breaks(nn.Module):  # type: ignore[misc, name-defined]
    """Answers a few calls, and then no more."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def forward(self, x: object) -> object:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of luck")
        return x * 2  # type: ignore[operator]


@pytest.mark.parametrize("calls", [100, 5])
def test_a_module_is_left_as_it_was_also_after_an_error(calls: int) -> None:
    module = nn.Sequential(nn.ReLU(), Breaks(calls))
    if calls == 5:
        with pytest.raises(RuntimeError, match="out of luck"):
            traced(module, 1, 2, windows=1, runs=5)
    else:
        traced(module, 1, 2, windows=1, runs=5)
    for part in module.modules():
        assert "_call_impl" not in vars(part)
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


def test_marks_become_milliseconds_in_pairs() -> None:
    spans = _torch_trace._spans([0, 2_000_000, 3_000_000, 3_500_000], cuda=False)
    np.testing.assert_array_equal(spans, [2.0, 0.5])


def test_the_slowest_and_the_fastest_tenth_of_the_runs_do_not_count() -> None:
    """Nineteen of twenty calls return at once, one is kept for long: the window's mean does not show it."""

    class Hiccup(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: object) -> object:
            self.calls += 1
            if self.calls == 10:
                time.sleep(20 * NAP_S)
            return x + 1  # type: ignore[operator]

    trace = traced(nn.Sequential(Hiccup()), 1, 2, windows=1, runs=20)
    (spent,) = times(trace)["0"]
    assert spent < 20 * NAP_S * 1e3 / 20


def test_the_profiler_tells_nothing_on_the_terminal(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import numpy as np, torch; from toolkit.backends._torch_trace import trace_module\n"
        "trace_module(torch.nn.ReLU().eval(), np.ones((1, 2), np.float32), torch.device('cpu'), "
        "windows=1, runs=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
