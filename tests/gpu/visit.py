"""One visit to a machine: look at it, take the tour, keep the page up to date, judge at the end."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.gpu.packages import Packages, base_packages, unpack
from tests.gpu.page import Page
from tests.gpu.plan import NETWORKS, REPO, Equipment, Tour
from tests.gpu.running import Result, Runner, Step

DONE, NO_GPU, INCOMPLETE = 0, 3, 4
LOOK_S = 60.0
# packages that a step may need beside the base install, and those that are only told of
OPTIONAL = ("torch", "torchvision", "onnxruntime", "onnx", "onnxscript", "pytest", "hypothesis")
TOLD = ("tensorboard", "matplotlib", "triton")


def environment(folder: Path, packages: Packages) -> dict[str, str]:
    """Return what each step's process is given: the path, and artifacts and cache of the walk's own."""
    earlier = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # absolute, for the steps run in a folder of their own
    path = [str(entry.absolute()) for entry in (REPO, *packages.paths, *earlier)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "CNNKIT_ARTIFACTS": str(folder / "artifacts"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


@dataclass
class Visit:
    """One run of the script: it looks at the machine, walks, and keeps the page up to date."""

    asked: argparse.Namespace
    folder: Path
    page: Path

    def __post_init__(self) -> None:
        self.packages = unpack(self.asked.wheels, self.folder) if self.asked.wheels else Packages()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.shown: dict[str, str] = {}
        self.tour: Tour | None = None
        self.runner = Runner(
            budget_s=self.asked.budget,
            environment=environment(self.folder, self.packages),
            folder=self.folder,
            tell=self._tell,
        )

    def run(self) -> int:
        """Go through everything; return the exit status."""
        machine, gpus = self._look()
        if self.asked.device != "cpu" and not gpus:
            self._write("No NVIDIA GPU can be used here, so nothing was run.")
            return NO_GPU
        names = self.asked.networks.split(",")
        self.tour = Tour(
            machine=machine,
            device=self.asked.device,
            folder=self.folder,
            networks=tuple(network for network in NETWORKS if network.name in names),
            quick=self.asked.quick,
        )
        for step in self._chosen(self.tour.steps()):
            self.runner.run(step)
        self._write(self._verdict())
        return INCOMPLETE if self._missing() else DONE

    def _chosen(self, steps: Iterable[Step]) -> list[Step]:
        words = tuple(word for word in self.asked.only.split(",") if word)
        return [step for step in steps if not words or step.name.startswith(words)]

    def _look(self) -> tuple[Equipment, bool]:
        """Look at packages, driver, PyTorch and ONNX Runtime, each in a process of its own."""
        base = base_packages(REPO / "pyproject.toml")
        packages = self._fact("packages", *base, *OPTIONAL, *TOLD)
        versions: Mapping[str, str] = packages.get("versions", {})
        driver = self._fact("driver")
        self.shown = {
            "GPU": ", ".join(driver.get("gpus", ())) or driver.get("why_not") or "none",
            "driver": f"{driver.get('release') or 'unknown'}, serves CUDA {driver.get('cuda') or 'none'}",
            "Python": f"{packages.get('python')}, {packages.get('system')}",
            "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
        }
        gpus = bool(driver.get("gpus"))
        machine = Equipment(base=base, versions=versions)
        if gpus or self.asked.device == "cpu":
            machine = self._looked_closer(machine)
        return machine, gpus

    def _looked_closer(self, machine: Equipment) -> Equipment:
        """Look at what takes seconds to import."""
        why, providers = None, {}
        if "torch" in machine.versions and self.asked.device != "cpu":
            torch = self._fact("torch")
            why = torch.get("why_not", "it could not be looked at")
            able = f"not on the GPU: {why}" if why else f"cuDNN {torch.get('cudnn')}"
            self.shown["PyTorch"] = f"{torch.get('version')}, CUDA {torch.get('cuda')}, {able}"
        doctor = self._doctor(machine)
        if doctor:
            providers = doctor["machine"]["providers"]
            said = [f"{name} {reason or 'runs'}" for name, reason in providers.items()]
            version = doctor["backends"]["ort"]["version"]
            self.shown["ONNX Runtime"] = f"{version or 'none'}; {'; '.join(said) or 'no provider'}"
            self.shown["problems"] = "; ".join(doctor["machine"]["problems"]) or "none"
        return Equipment(
            base=machine.base,
            versions=machine.versions,
            torch_why_not=why and f"PyTorch on the GPU: {why}",
            providers=providers,
        )

    def _fact(self, subject: str, *words: str) -> Mapping[str, Any]:
        step = Step(
            name=f"look at {subject}", words=("-m", "tests.gpu.facts", subject, *words), limit_s=LOOK_S
        )
        return self.runner.run(step).answer or {}

    def _doctor(self, machine: Equipment) -> Mapping[str, Any]:
        """Ask what users ask; it tries ONNX Runtime's providers, too."""
        words = ("-m", "cnnkit", "doctor", "--json")
        step = Step(name="doctor", words=words, limit_s=LOOK_S, why_not=machine.lacks())
        return self.runner.run(step).answer or {}

    def _missing(self) -> list[str]:
        """Return what the exit status hangs on and did not pass."""
        passed = {result.step.name for result in self.runner.results if result.passed}
        return [name for name in self.tour.needed() if name not in passed] if self.tour else []

    def _verdict(self) -> str:
        missing = self._missing()
        broken = [result.step.name for result in self.runner.results if result.broke]
        where = self.asked.device if self.asked.device != "cpu" else "the CPU, which stands in for a GPU"
        networks = self.asked.networks.replace(",", ", ")
        said = f"PyTorch on {where} trained, verified and profiled {networks}."
        if missing:
            said = f"**Not complete** on {where}: {'; '.join(missing)}."
        return f"{said} Failed: {'; '.join(broken)}." if broken else f"{said} No step failed."

    def _tell(self, result: Result) -> None:
        took = "" if result.seconds is None else f" {result.seconds:.1f} s"
        why = f" ({result.why})" if result.why else ""
        print(f"{result.status}{took}: {result.step.name}{why}", flush=True)
        self._write("The walk is under way, or was cut short.")

    def _write(self, verdict: str) -> None:
        Page(
            started=self.started,
            machine=self.shown,
            notes=self.packages.notes,
            results=self.runner.results,
            verdict=verdict,
            tour=self.tour,
        ).write(self.page)
