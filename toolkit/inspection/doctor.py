"""What this machine can run, looked at rather than assumed, and what to type for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit import schema
from toolkit.backends import BACKENDS, Availability, Examination, backend_names
from toolkit.figures import gibibytes_text
from toolkit.inspection.listing import DatasetState, datasets
from toolkit.machine.survey import Machine, machine
from toolkit.tables import TextTable


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A machine's backends by name, a closer look at each by its title, the data sets and the machine."""

    backends: Mapping[str, Availability]
    looks: Mapping[str, Examination]
    datasets: tuple[DatasetState, ...]
    machine: Machine

    @property
    def problems(self) -> list[str]:
        """What clashes and what to type, a sentence each."""
        return [problem for look in self.looks.values() for problem in look.problems]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        found = self.machine
        facts = {
            **schema.plain(found),
            "providers": {part: why for look in self.looks.values() for part, why in look.parts.items()},
            "problems": self.problems,
            "int8_saturates": not found.cpu.wide_int8,
            "fast_bf16": found.cpu.fast_bf16,
        }
        states = {
            one.name: {
                "available": one.source is not None,
                "source": one.source,
                "why_not": one.why_not and one.why_not.splitlines()[0],
                "how_to_get": one.how_to_get,
            }
            for one in self.datasets
        }
        return {"backends": schema.plain(self.backends), "datasets": states, "machine": facts}

    def tables(self) -> tuple[TextTable, ...]:
        """Return the backends, the data sets and the machine as texts."""
        backends = [
            (
                name,
                _yes(state.available),
                state.version or "",
                ", ".join(state.devices) if state.available else f"{state.why_not}; {state.how_to_get}",
            )
            for name, state in self.backends.items()
        ]
        states = [(d.name, _yes(d.source is not None), d.source or d.how_to_get or "") for d in self.datasets]
        return (
            TextTable(
                title="Backends",
                head=("backend", "here", "version", "devices, or why not"),
                rows=tuple(backends),
            ),
            TextTable(
                title="Data sets", head=("data set", "here", "where, or how to get it"), rows=tuple(states)
            ),
            TextTable(title="Machine", rows=tuple(self._facts().items())),
        )

    def _facts(self) -> dict[str, str]:
        found = self.machine
        sets = ", ".join(found.cpu.instruction_sets) or "instruction sets unknown"
        versions = ", ".join(f"{name} {version}" for name, version in found.packages.items())
        driver = f"serves CUDA {found.driver_cuda}" if found.driver_cuda else "none"
        if found.driver_cuda and found.driver_why_not:
            driver += f"; {found.driver_why_not}"
        parts = {f"{t}: {part}": why for t, look in self.looks.items() for part, why in look.parts.items()}
        return {
            "processor": f"{found.cpu.name}, {found.cpu.cores} cores; {sets}",
            "int8": "full range" if found.cpu.wide_int8 else "reduced range: no VNNI, sums would saturate",
            "bf16": "in hardware" if found.cpu.fast_bf16 else "emulated, slower than fp32",
            "memory": gibibytes_text(found.memory_bytes) if found.memory_bytes else "unknown",
            "NVIDIA GPU": ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in found.gpus) or "none visible",
            "NVIDIA driver": driver,
            **{part: why or "works" for part, why in parts.items()},
            "packages": f"Python {found.python}, {versions}",
            **{f"missing: {name}": how for name, how in found.missing.items()},
        }

    def _repr_html_(self) -> str:
        from toolkit.markup import listed

        return "".join(table.html() for table in self.tables()) + listed(self.problems)


def _yes(here: bool) -> str:
    return "yes" if here else "no"


def doctor(*, data_dir: Path | str | None = None) -> Diagnosis:
    """Look at every backend, data set and package, and at the machine; changes nothing, takes seconds."""
    every = [BACKENDS.load(name) for name in backend_names()]
    looks = {one.name: one.examine() for one in every}
    states = {one.name: one.availability() for one in every}
    return Diagnosis(
        backends={
            name: replace(state, devices=(*state.devices, *looks[name].devices))
            for name, state in states.items()
        },
        looks={one.title: looks[one.name] for one in every},
        datasets=datasets(data_dir=data_dir).named,
        machine=machine(),
    )
