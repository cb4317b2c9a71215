"""PyTorch and ONNX Runtime on an NVIDIA GPU: answers, times and memory; and, anywhere, what leads there."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.artifacts import Artifact, open_artifact, shipped_root
from toolkit.backends import BACKENDS, Engine, EngineOptions
from toolkit.backends import ort as ort_backend
from toolkit.backends._ort_profile import LAUNCHES, Event, EventFacts, OptimizedGraph, read_profile
from toolkit.backends._ort_providers import load_cuda_libraries, providers
from toolkit.errors import UnavailableError

torch = pytest.importorskip("torch")

from toolkit.backends._torch_trace import LAUNCHED, launches_of  # noqa: E402  (after the skip)

CUDA = "CUDAExecutionProvider"


def shipped(suffix: str) -> Artifact:
    return open_artifact(shipped_root() / "lenet-maxpool" / f"lenet-maxpool{suffix}")


def pictures(count: int = 8) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, 1, 28, 28), dtype=np.float32)


def test_a_run_whose_ends_lie_on_the_device_answers_like_one_from_host_memory() -> None:
    batch = pictures()
    with BACKENDS.load("ort").open(shipped(".onnx"), EngineOptions()) as engine:
        assert isinstance(engine, ort_backend.OrtEngine)
        call = ort_backend.bound_run(engine.session, engine.feed(batch), "cpu", 0)
        binding: Any = call()
        np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], engine.run(batch)[0])


def test_nodes_that_were_only_launched_have_no_times() -> None:
    args = EventFacts(op_name="Conv", output_type_shape=({"float": (1, 2)},))
    events = [Event(cat="Node", name="c_kernel_time", ts=ts, dur=5, args=args) for ts in range(1 + 4)]
    known = read_profile(events, OptimizedGraph(), windows=2, runs=2, totals=(1.0, 1.0))
    assert known.node_ms is not None
    assert known.node_ms.tolist() == [[0.005], [0.005]]
    launched = read_profile(events, OptimizedGraph(), windows=2, runs=2, totals=(1.0, 1.0), timed=False)
    assert launched.node_ms is None
    assert launched.nodes == known.nodes
    assert launched.note == LAUNCHES


def test_nodes_that_a_gpu_has_no_kernel_for_are_named() -> None:
    """ONNX Runtime runs them on the CPU, which nothing but its profile tells."""
    kinds = {"conv": ("QLinearConv", "CPUExecutionProvider"), "act": ("Relu", CUDA)}
    events = [
        Event(
            cat="Node",
            name=f"{name}_kernel_time",
            ts=ts,
            dur=1,
            args=EventFacts(op_name=kind, provider=provider),
        )
        for ts, (name, (kind, provider)) in enumerate([*kinds.items()] * 2)
    ]
    said = "1 of its 2 nodes ran on the CPU, as the GPU's provider has no kernel for them: conv (QLinearConv)"
    found = read_profile(events, OptimizedGraph(), windows=1, runs=1, totals=(1.0,), timed=False)
    assert found.note == f"{LAUNCHES}; {said}"
    on_cpu = read_profile(events, OptimizedGraph(), windows=1, runs=1, totals=(1.0,))
    assert on_cpu.note is None


def test_rows_on_a_gpu_say_that_small_ones_tell_of_launches() -> None:
    assert launches_of(torch.device("cuda:1")) == LAUNCHED
    assert launches_of(torch.device("cpu")) is None


def test_loading_cudas_libraries_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    load_cuda_libraries()
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="no package brings CUDA's libraries")
def test_a_provider_that_does_not_load_is_not_blamed_on_libraries_that_packages_hold() -> None:
    why = providers().get(CUDA)
    assert why is None or "cublas" not in why


@pytest.mark.parametrize("name", ["pytorch", "ort"])
def test_a_gpu_that_is_not_here_is_one_line(name: str) -> None:
    artifact = shipped(".safetensors" if name == "pytorch" else ".onnx")
    with pytest.raises(UnavailableError, match=r"(?i)cuda") as caught:
        BACKENDS.load(name).open(artifact, EngineOptions(device="cuda:99"))
    assert "\n" not in str(caught.value)


@pytest.fixture(params=["pytorch", "ort"])
def on_gpu(request: pytest.FixtureRequest) -> Any:
    name = request.param
    if name == "ort" and (why := providers().get(CUDA, "it is not compiled in")) is not None:
        pytest.skip(f"ONNX Runtime's CUDA provider: {why}")
    artifact = shipped(".safetensors" if name == "pytorch" else ".onnx")
    with BACKENDS.load(name).open(artifact, EngineOptions(device="cuda:0")) as engine:
        yield engine


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 8])
def test_a_gpu_answers_like_the_cpu(on_gpu: Engine, count: int) -> None:
    batch = pictures(count)
    with BACKENDS.load(on_gpu.backend).open(on_gpu.artifact, EngineOptions()) as reference:
        wanted = reference.logits(batch)
    # an fp32 file's proof allows as much on another machine
    np.testing.assert_allclose(on_gpu.logits(batch), wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))


@pytest.mark.gpu
def test_a_bound_call_on_a_gpu_blocks_until_it_is_done(on_gpu: Engine) -> None:
    call = on_gpu.bind(pictures(256))
    for _ in range(20):
        call()
        if on_gpu.backend == "pytorch":  # whose stream can be asked
            assert torch.cuda.current_stream().query()


@pytest.mark.gpu
def test_a_trace_on_a_gpu_has_every_layer_and_finite_times_or_none(on_gpu: Engine) -> None:
    found = on_gpu.trace(pictures(), windows=3, runs=4)
    assert found.runs == 12
    assert len(found.total_ms) == 3
    assert all(any(name in node.name for node in found.nodes) for name in ("conv1", "conv2", "fc1", "fc3"))
    if on_gpu.backend == "ort":
        assert found.node_ms is None
    else:
        assert found.node_ms is not None
        assert found.node_ms.shape == (3, len(found.nodes))
        assert (found.node_ms >= 0).all()
        # the layers' times are parts of the call's
        assert (found.node_ms.sum(axis=1) <= np.array(found.total_ms) * 1.2).all()
        assert (found.memory.peak_activation_bytes or 0) > 0
