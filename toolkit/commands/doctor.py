"""`cnnkit doctor`: what this machine can run, looked at rather than assumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from toolkit import cli, schema
from toolkit.backends import BACKENDS, backend_names
from toolkit.datasets import dataset_names, dataset_of

if TYPE_CHECKING:
    from toolkit.backends import Availability, Examination
    from toolkit.machine.survey import Machine


@click.command()
@cli.data_dir_option
@cli.json_option
def doctor(*, data_dir: Path | None, as_json: bool) -> None:
    """Say what this machine can run, what is missing, and what to type to get it."""
    from toolkit.machine.survey import machine

    every = [BACKENDS.load(name) for name in backend_names()]
    backends = {one.name: one.availability() for one in every}
    looks = {one.title: one.examine() for one in every}
    datasets = {name: _dataset(name, data_dir) for name in dataset_names()}
    found = machine()
    if as_json:
        facts = {
            **schema.plain(found),
            "providers": {part: why for look in looks.values() for part, why in look.parts.items()},
            "problems": [problem for look in looks.values() for problem in look.problems],
            "int8_saturates": not found.cpu.wide_int8,
            "fast_bf16": found.cpu.fast_bf16,
        }
        cli.emit({"backends": backends, "datasets": datasets, "machine": facts})
        return
    _print_backends(backends)
    _print_datasets(datasets)
    _print_machine(found, looks)


def _dataset(name: str, data_dir: Path | None) -> dict[str, Any]:
    """Load a data set without fetching; the reason in words where it is not at hand."""
    from toolkit.errors import CnnkitError

    try:
        dataset = dataset_of(name).load(name, data_dir, False, None)
    except CnnkitError as error:
        why = str(error).splitlines()[0]
        return {"available": False, "source": None, "why_not": why, "how_to_get": _fetch(name)}
    return {"available": True, "source": dataset.source, "why_not": None, "how_to_get": None}


def _fetch(name: str) -> str:
    return f"cnnkit datasets --fetch {name}"


def _print_backends(backends: dict[str, Availability]) -> None:
    table = Table("backend", "here", "version", "devices, or why not", title="Backends", title_justify="left")
    for name, state in backends.items():
        rest = ", ".join(state.devices) if state.available else f"{state.why_not}; {state.how_to_get}"
        table.add_row(name, "yes" if state.available else "no", state.version or "", escape(rest))
    cli.stdout.print(table)


def _print_datasets(datasets: dict[str, dict[str, Any]]) -> None:
    table = Table("data set", "here", "where, or how to get it", title="Data sets", title_justify="left")
    for name, state in datasets.items():
        rest = state["source"] if state["available"] else state["how_to_get"]
        table.add_row(name, "yes" if state["available"] else "no", escape(str(rest)))
    cli.stdout.print(table)


def _print_machine(found: Machine, looks: Mapping[str, Examination]) -> None:
    table = Table(show_header=False, title="Machine", title_justify="left")
    sets = ", ".join(found.cpu.instruction_sets) or "instruction sets unknown"
    table.add_row("processor", escape(f"{found.cpu.name}, {found.cpu.cores} cores; {sets}"))
    table.add_row(
        "int8", "full range" if found.cpu.wide_int8 else "reduced range: no VNNI, sums would saturate"
    )
    table.add_row("bf16", "in hardware" if found.cpu.fast_bf16 else "emulated, slower than fp32")
    memory = f"{found.memory_bytes / 2**30:.1f} GiB" if found.memory_bytes else "unknown"
    table.add_row("memory", memory)
    names = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in found.gpus)
    table.add_row("NVIDIA GPU", escape(names) or "none visible")
    driver = f"serves CUDA {found.driver_cuda}" if found.driver_cuda else "none"
    table.add_row("NVIDIA driver", driver)
    for title, look in looks.items():
        for name, why in look.parts.items():
            table.add_row(f"{title}: {name}", escape(why or "works"))
    versions = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    table.add_row("packages", f"Python {found.python}, {versions}")
    for name, how in found.missing.items():
        table.add_row(f"missing: {name}", escape(how))
    cli.stdout.print(table)
    for problem in (one for look in looks.values() for one in look.problems):
        cli.stdout.print(f"problem: {problem}", markup=False, style="bold red")


COMMAND = doctor
