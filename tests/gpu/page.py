"""The page that a walk leaves: Markdown, written anew after each step, so that a walk cut short has one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gpu.plan import Tour, Trainee
from tests.gpu.running import Result, Status

WORDS: Mapping[Status, str] = {
    "passed": "passed",
    "failed": "**FAILED**",
    "out of time": "**OUT OF TIME**",
    "skipped": "skipped",
    "not run: out of time": "not run: out of time",
}
Answer = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page tells: when and on what the walk went, and what came of each step."""

    started: str
    machine: Mapping[str, str]
    notes: Sequence[str]
    results: Sequence[Result]
    verdict: str
    tour: Tour | None = None

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(self.text(), "utf-8")
        part.replace(path)

    def text(self) -> str:
        """Return the page's Markdown."""
        parts = [
            ["# cnnkit on a GPU", "", f"{self.verdict}", "", f"Begun {self.started}."],
            ["## Machine", "", *_table(("", ""), self.machine.items())],
            ["## Steps", "", *_table(("step", "came to", "seconds", ""), map(_row, self.results))],
            self._figures(),
            _skipped(self.results),
            ["## Packages", "", *(f"- {note}" for note in self.notes)] if self.notes else [],
            _failures(self.results),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def _figures(self) -> list[str]:
        """Return the table of key figures: a column for each network, a row for each figure that is known."""
        if self.tour is None:
            return []
        known = {result.step.name: result.answer for result in self.results if result.answer is not None}
        networks = self.tour.networks
        rows = [(title, *(figure(known, network) for network in networks)) for title, figure in FIGURES]
        shown = [row for row in rows if any(cell != "" for cell in row[1:])]
        return ["## Key figures", "", *_table(("", *(n.name for n in networks)), shown)] if shown else []


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [" | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *(f"| {row} |" for row in cells)]


def _row(result: Result) -> tuple[str, ...]:
    seconds = "" if result.seconds is None else f"{result.seconds:.1f}"
    why = "" if result.status == "skipped" else result.why or _counted(result)
    return result.step.name, WORDS[result.status], seconds, why


def _counted(result: Result) -> str:
    """Return pytest's own last line for a step that prints no JSON."""
    lines = [line.strip("= ") for line in result.output.splitlines() if line.strip()]
    return lines[-1] if lines and not result.step.answers else ""


def _skipped(results: Sequence[Result]) -> list[str]:
    lines = [f"- {result.step.name}: {result.why}" for result in results if result.status == "skipped"]
    tests = [
        f"- {re.sub(r'[^ ]*/(?=tests/)', '', line.strip())}"
        for result in results
        if not result.step.answers
        for line in result.output.splitlines()
        if line.startswith("SKIPPED")
    ]
    return ["## Skipped", "", *lines, *tests] if lines or tests else []


def _failures(results: Sequence[Result]) -> list[str]:
    found: list[str] = []
    for result in (result for result in results if result.broke):
        command = " ".join(("python", *result.step.words))
        fence = ["", "```text", *(result.last_lines or ("it printed nothing",)), "```"]
        found += ["", f"### {result.step.name}: {result.why}", "", f"`{command}`", *fence]
    return ["## Failures", *found] if found else []


def _trained(key: str, style: str) -> Callable[[Mapping[str, Answer], Trainee], str]:
    def figure(known: Mapping[str, Answer], network: Trainee) -> str:
        value = known.get(f"train {network.name}", {}).get(key)
        return "" if value is None else format(value, style)

    return figure


def _computing(known: Mapping[str, Answer], network: Trainee) -> str:
    answer = known.get(f"train {network.name}")
    return f"{answer.get('arithmetic')}, {answer.get('layout')}" if answer else ""


def _memory(known: Mapping[str, Answer], network: Trainee) -> str:
    held = known.get(f"train {network.name}", {}).get("device_peak_memory_bytes")
    return "" if held is None else f"{held / 2**20:.0f} MiB"


def _answers(step: str) -> Callable[[Mapping[str, Answer], Trainee], str]:
    def figure(known: Mapping[str, Answer], network: Trainee) -> str:
        answer = known.get(step.format(network.name))
        if answer is None:
            return ""
        allowed = f" (allowed {answer['tolerance']:.2g})" if "tolerance" in answer else ""
        alike = f"{answer['agree']} of {answer['images']} alike"
        return f"{alike}, largest difference {answer['max_abs_diff']:.2g}{allowed}"

    return figure


def _latency(backend: str, batch: int) -> Callable[[Mapping[str, Answer], Trainee], str]:
    def figure(known: Mapping[str, Answer], network: Trainee) -> str:
        titles = ("on PyTorch and ONNX Runtime", "on PyTorch again", "on PyTorch")
        found = (known.get(f"profile {network.name} {title}") for title in titles)
        for answer in (answer for answer in found if answer):
            column = next((r["backends"].get(backend) for r in answer["runs"] if r["batch"] == batch), None)
            if column and column["latency_ms"]:
                clean, peak = column["latency_ms"], column["memory"]["peak_activation_bytes"]
                layers = column["layer_sum_ms"]
                return (
                    f"{clean['median']:.3f} ms, 95 % under {clean['p95']:.3f}"
                    + ("" if layers is None else f", layers {layers:.3f}")
                    + ("" if peak is None else f", activations {peak / 2**20:.1f} MiB")
                )
        return ""

    return figure


def _differing(known: Mapping[str, Answer], network: Trainee) -> str:
    answer = known.get(f"profile {network.name} on PyTorch and ONNX Runtime")
    if answer is None:
        return ""
    found = [value for run in answer["runs"] for value in run["agreement"].values() if value is not None]
    return f"{max(found):.2g}" if found else ""


def _compared(known: Mapping[str, Answer], network: Trainee) -> str:
    answer = known.get(f"compare {network.name}")
    if answer is None:
        return ""
    verdicts = [difference["verdict"] for difference in answer["differences"]]
    return ", ".join(f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts)) or "nothing"


FIGURES: tuple[tuple[str, Callable[[Mapping[str, Answer], Trainee], str]], ...] = (
    ("test accuracy", _trained("test_accuracy", ".3f")),
    ("training, pictures a second", _trained("images_per_second", ",.0f")),
    ("training computed in", _computing),
    ("training, most device memory", _memory),
    ("PyTorch against the CPU", _answers("verify {} on PyTorch")),
    ("ONNX file against its proof", _answers("verify {}.onnx")),
    ("ONNX file against its proof, on the CPU", _answers("verify {}.onnx on the CPU")),
    ("PyTorch, a batch of 1", _latency("pytorch", 1)),
    ("PyTorch, a batch of 64", _latency("pytorch", 64)),
    ("ONNX Runtime, a batch of 1", _latency("ort", 1)),
    ("ONNX Runtime, a batch of 64", _latency("ort", 64)),
    ("largest difference between the two", _differing),
    ("two profiles of one network", _compared),
)
