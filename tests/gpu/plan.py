"""The steps of a walk, as far as this machine's packages allow: what users type, in the order that matters.

What the exit status hangs on comes first (PyTorch trains, answers, profiles), then exports and what opens
them, so that a slow machine runs out of time at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.gpu.running import Step

DATA = "fashion-mnist-sample"
CUDA = "CUDAExecutionProvider"
REPO = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A network with the epochs in which it learns the sample, and the accuracy that shows that it did.

    The accuracy is well under what the CPU reaches with the same words, and far above guessing (0.1).
    """

    name: str
    epochs: int
    least_accuracy: float
    needs: tuple[str, ...] = ()


NETWORKS = (
    Trainee(name="lenet-maxpool", epochs=12, least_accuracy=0.6),
    Trainee(name="alexnet28", epochs=15, least_accuracy=0.5),
    Trainee(name="resnet18-cifar", epochs=15, least_accuracy=0.5, needs=("torchvision",)),
)


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What the looks at the machine found: versions by module, why PyTorch or a provider does not run."""

    base: tuple[str, ...]
    versions: Mapping[str, str]
    torch_why_not: str | None = None
    providers: Mapping[str, str | None] = field(default_factory=dict)

    def lacks(self, *modules: str) -> str | None:
        """Name the packages of a step that are not here; None where all are."""
        missing = [name for name in (*self.base, *modules) if name not in self.versions]
        return f"not installed: {', '.join(missing)}" if missing else None

    @property
    def trains(self) -> str | None:
        """Say why PyTorch cannot compute on the device that was asked for; None where it can."""
        return self.lacks("torch") or self.torch_why_not

    def without_cuda(self) -> str | None:
        """Say why ONNX Runtime cannot compute on the GPU; None where it can."""
        missing = self.lacks("onnxruntime")
        if missing:
            return missing
        known = ", ".join(self.providers) or "none"
        why = self.providers.get(CUDA, f"this ONNX Runtime has no {CUDA} (it has {known})")
        return why and f"ONNX Runtime on the GPU: {why}"


@dataclass(frozen=True, kw_only=True)
class Tour:
    """A walk's networks, device and files; `quick` shortens each step to what shows that it runs."""

    machine: Equipment
    device: str
    folder: Path
    networks: tuple[Trainee, ...] = NETWORKS
    quick: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is walked over, rather than the CPU that stands in for one."""
        return self.device.startswith("cuda")

    def file(self, network: Trainee, suffix: str) -> Path:
        """Return where a network's artifact of that suffix lies."""
        return self.folder / "artifacts" / network.name / f"{network.name}{suffix}"

    def steps(self) -> Iterable[Step]:
        """Yield every step in order."""
        yield self._marked_tests()
        for network in self.networks:
            yield from self._with_pytorch(network)
        for network in self.networks:
            yield from self._exported(network)
        yield from self._around()

    def needed(self) -> tuple[str, ...]:
        """Return the names of the steps that the exit status hangs on."""
        return tuple(step.name for network in self.networks for step in self._with_pytorch(network))

    def _with_pytorch(self, network: Trainee) -> Iterable[Step]:
        why, name = self.machine.trains or self.machine.lacks(*network.needs), network.name
        trained = f"train {name}"
        size = ("--epochs", "1", "--images", "300") if self.quick else ("--epochs", str(network.epochs))
        train = self._command(
            trained,
            "train",
            name,
            "--dataset",
            DATA,
            *size,
            "--device",
            self.device,
            limit_s=120,
            why_not=why,
        )
        yield train if self.quick else replace(train, falls_short=partial(_did_not_learn, network))
        yield Step(
            name=f"verify {name} on PyTorch",
            words=(
                "-m",
                "tests.gpu.answers",
                str(self.file(network, ".safetensors")),
                "--device",
                self.device,
            ),
            limit_s=60,
            why_not=why,
            after=(trained,),
        )
        yield self._profile(f"profile {name} on PyTorch", network, "before", ("pytorch",), why, (trained,))

    def _profile(
        self,
        title: str,
        network: Trainee,
        output: str,
        backends: tuple[str, ...],
        why: str | None,
        after: tuple[str, ...],
    ) -> Step:
        duration = "0.1" if self.quick else "0.5"
        words = ("profile", network.name, "--backend", ",".join(backends), "--batch", "1,64")
        file = ("--duration", duration, "--output", str(self.folder / f"{network.name}.{output}.json"))
        return self._command(
            title, *words, *file, "--device", self.device, limit_s=90, why_not=why, after=after
        )

    def _exported(self, network: Trainee) -> Iterable[Step]:
        machine, name = self.machine, network.name
        why = machine.lacks("torch", *network.needs, "onnx", "onnxscript", "onnxruntime")
        made, trained = f"export {name}", (f"train {name}",)
        yield self._command(
            made,
            "export",
            name,
            "--format",
            "onnx",
            "--images",
            "200",
            limit_s=90,
            why_not=why,
            after=trained,
        )
        no_cuda = machine.without_cuda() if self.on_gpu else machine.lacks("onnxruntime")
        file = str(self.file(network, ".onnx"))
        yield self._command(
            f"verify {name}.onnx", "verify", file, "--device", self.device,
            limit_s=60, why_not=no_cuda, after=(made,),
        )  # fmt: skip
        if self.on_gpu and no_cuda and not machine.lacks("onnxruntime"):
            yield self._command(f"verify {name}.onnx on the CPU", "verify", file, limit_s=60, after=(made,))
        both = f"profile {name} on PyTorch and ONNX Runtime"
        why = machine.trains or no_cuda or machine.lacks("onnx", *network.needs)
        yield self._profile(both, network, "both", ("pytorch", "ort"), why, (made,))
        again = f"profile {name} on PyTorch again"
        if why:
            yield self._profile(again, network, "both", ("pytorch",), machine.trains, trained)
        before, after = (str(self.folder / f"{name}.{word}.json") for word in ("before", "both"))
        needs = (f"profile {name} on PyTorch", again if why else both)
        yield self._command(f"compare {name}", "compare", before, after, limit_s=30, after=needs)

    def _marked_tests(self) -> Step:
        files = tuple(str(path) for path in marked_tests())
        # a warning of another release of a package is no failure here
        words = ("-m", "pytest", "-m", "gpu", "-ra", "-W", "default", "-p", "no:cacheprovider")
        # a file whose packages are not all here costs its own tests, not those of the others
        words = (*words, "--continue-on-collection-errors", *files)
        why = self.machine.lacks("pytest", "hypothesis", "torch")
        return Step(name="tests marked gpu", words=words, limit_s=150, why_not=why, answers=False)

    def _around(self) -> Iterable[Step]:
        first, why = self.networks[0], self.machine.trains
        trained = (f"train {first.name}",)
        asked = ("eval", first.name, "--backend", "pytorch", "--device", self.device)
        yield self._command(f"eval {first.name}", *asked, limit_s=60, why_not=why, after=trained)

    def _command(
        self, title: str, *words: str, limit_s: float, why_not: str | None = None, after: tuple[str, ...] = ()
    ) -> Step:
        return Step(
            name=title,
            words=("-m", "cnnkit", *words, "--json"),
            limit_s=limit_s,
            why_not=why_not or self.machine.lacks(),
            after=after,
        )


def _did_not_learn(network: Trainee, answer: Mapping[str, Any]) -> str | None:
    accuracy, least = answer["test_accuracy"], network.least_accuracy
    return None if accuracy >= least else f"test accuracy {accuracy:.3f}, and {least} shows that it learned"


def marked_tests(tests: Path = REPO / "tests") -> list[Path]:
    """Return the test files that hold tests marked `gpu`: other files' packages need not be here."""
    mark = "pytest.mark." + "gpu"
    return sorted(path for path in tests.rglob("test_*.py") if mark in path.read_text("utf-8"))
