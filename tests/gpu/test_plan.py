"""Which steps a tour has, by what the machine has."""

from __future__ import annotations

from pathlib import Path

from tests.gpu.plan import CUDA, NETWORKS, Equipment, Tour, marked_tests
from tests.gpu.running import Step

BASE = ("click", "numpy")
ALL = (*BASE, "torch", "torchvision", "onnxruntime", "onnx", "onnxscript", "pytest", "hypothesis")


def steps(*lacking: str, device: str = "cuda", **known: object) -> dict[str, Step]:
    versions = dict.fromkeys((name for name in ALL if name not in lacking), "1.0")
    providers = {CUDA: None, "CPUExecutionProvider": None}
    machine = Equipment(base=BASE, versions=versions, **{"providers": providers, **known})  # type: ignore[arg-type]
    tour = Tour(machine=machine, device=device, folder=Path("/work"))
    return {step.name: step for step in tour.steps()}


def test_everything_runs_where_everything_is_here() -> None:
    found = steps()
    assert [step.name for step in found.values() if step.why_not] == []
    for network in ("lenet-maxpool", "alexnet28", "resnet18-cifar"):
        kinds = ["train {}", "verify {} on PyTorch", "profile {} on PyTorch", "export {}", "verify {}.onnx"]
        kinds += ["profile {} on PyTorch and ONNX Runtime", "compare {}"]
        assert {kind.format(network) for kind in kinds} <= set(found)


def test_the_steps_of_the_exit_status_come_before_what_opens_exports() -> None:
    names = list(steps())
    exports = [names.index(name) for name in names if name.startswith("export")]
    assert max(names.index(f"profile {network.name} on PyTorch") for network in NETWORKS) < min(exports)


def test_every_command_is_told_the_device_and_the_sample() -> None:
    found = steps(device="cuda:1")
    words = found["train alexnet28"].words
    assert words[:4] == ("-m", "cnnkit", "train", "alexnet28")
    assert words[words.index("--device") + 1] == "cuda:1"
    assert words[words.index("--dataset") + 1] == "fashion-mnist-sample"
    profile = found["profile alexnet28 on PyTorch and ONNX Runtime"].words
    assert profile[profile.index("--backend") + 1] == "pytorch,ort"


def test_what_lacks_a_package_is_skipped_by_its_name() -> None:
    found = steps("torchvision", "onnx", "pytest")
    assert found["train resnet18-cifar"].why_not == "not installed: torchvision"
    assert found["train alexnet28"].why_not is None
    assert found["export alexnet28"].why_not == "not installed: onnx"
    assert found["tests marked gpu"].why_not == "not installed: pytest"
    assert steps("hypothesis")["tests marked gpu"].why_not == "not installed: hypothesis"
    # a file whose packages are not all here is no reason for the others not to run
    assert "--continue-on-collection-errors" in found["tests marked gpu"].words


def test_without_a_base_package_no_command_runs() -> None:
    found = steps("click")
    assert {step.why_not for name, step in found.items() if name.startswith(("train", "compare"))} == {
        "not installed: click"
    }


def test_without_the_cuda_provider_the_export_is_proven_on_the_cpu_and_pytorch_profiled_twice() -> None:
    found = steps(providers={"CPUExecutionProvider": None})
    why = f"ONNX Runtime on the GPU: this ONNX Runtime has no {CUDA} (it has CPUExecutionProvider)"
    assert found["verify alexnet28.onnx"].why_not == why
    assert found["profile alexnet28 on PyTorch and ONNX Runtime"].why_not == why
    assert "--device" not in found["verify alexnet28.onnx on the CPU"].words
    assert found["compare alexnet28"].after == (
        "profile alexnet28 on PyTorch",
        "profile alexnet28 on PyTorch again",
    )


def test_a_provider_that_does_not_load_is_told_with_its_reason() -> None:
    found = steps(providers={CUDA: "libcublasLt.so.13 cannot be loaded"})
    assert found["verify alexnet28.onnx"].why_not == (
        "ONNX Runtime on the GPU: libcublasLt.so.13 cannot be loaded"
    )


def test_a_pytorch_that_cannot_use_the_gpu_is_told_with_its_reason() -> None:
    found = steps(torch_why_not="PyTorch on the GPU: the driver is too old")
    assert found["train alexnet28"].why_not == "PyTorch on the GPU: the driver is too old"


def test_a_training_at_chance_did_not_learn() -> None:
    short = steps()["train alexnet28"].falls_short
    assert short({"test_accuracy": 0.1}) == "test accuracy 0.100, and 0.5 shows that it learned"
    assert short({"test_accuracy": 0.8}) is None


def test_only_files_with_marked_tests_are_collected() -> None:
    names = {path.name for path in marked_tests()}
    assert "test_run.py" in names
    assert Path(__file__).name not in names
