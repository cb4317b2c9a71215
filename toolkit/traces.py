"""What a runtime tells of one profiled run: executed nodes, their times, memory and copies."""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ExecutedNode:
    """One step that a runtime takes: a module's call, a kernel, a layer of an engine.

    `inputs` and `outputs` are tensor names. `modules` is filled where the runtime itself knows the
    modules (PyTorch); `origins` names the nodes of the source graph where the runtime says them
    (TensorRT's metadata). `moves_data` marks steps that only reorder, cast or copy. `read_bytes` and
    `written_bytes` are the activations that it reads and writes, in place or not. What the runtime does
    not tell is None; `output_sizes` are the bytes of each of `outputs`, empty where not each is told;
    `uncounted` says why `macs` is. `activation` is the operator that it took in. A node of an If's or a
    Loop's body is `inside` that one, whose own time is without it.
    """

    name: str
    type: str
    inside: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    modules: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()
    moves_data: bool = False
    activation: str | None = None
    output_shape: tuple[int, ...] | None = None
    output_dtype: str | None = None
    output_bytes: int | None = None
    output_sizes: tuple[int, ...] = ()
    weights_bytes: int | None = None
    parameters: int | None = None
    macs: int | None = None
    uncounted: str | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


# a figure of TraceMemory
MemoryFigure = Literal["weights_bytes", "peak_activation_bytes", "workspace_bytes"]


@dataclass(frozen=True, kw_only=True)
class TraceMemory:
    """Bytes that a runtime tells of a run; `why` gives the reason for each figure that it cannot tell."""

    weights_bytes: int | None = None
    peak_activation_bytes: int | None = None
    workspace_bytes: int | None = None
    why: Mapping[MemoryFigure, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What one profiled run saw: the nodes in the order of execution and the time of each.

    `node_ms` is (windows, nodes): the trimmed mean of a node's milliseconds in each window of runs;
    None where nothing was timed. `total_ms` is each window's end-to-end mean under the profiler, whose
    cost is in it. `resolution_ms` is the unit of a runtime that counts in whole ones: 0 is less than that.
    `alive_bytes` is the most that was held beyond input and weights while each node ran; empty where that was
    not measured. `note` is what else is to be known of the figures, in words.
    """

    nodes: tuple[ExecutedNode, ...]
    node_ms: NDArray[np.float64] | None = None
    resolution_ms: float | None = None
    total_ms: tuple[float, ...] = ()
    runs: int = 0
    memory: TraceMemory = TraceMemory()
    alive_bytes: tuple[int, ...] = ()
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What one call copies between the host's memory and the device's, in milliseconds."""

    upload_ms: float
    download_ms: float


def timed(call: Callable[[], object], runs: int) -> list[float]:
    """Return the milliseconds of each of `runs` calls."""
    clock = time.perf_counter_ns
    found: list[float] = []
    for _ in range(runs):
        start = clock()
        call()
        found.append((clock() - start) / 1e6)
    return found


def trimmed_mean(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis without its lowest and highest tenth.

    A median of whole microseconds is coarse, and a plain mean holds every pre-emption of a shared
    machine; this has neither fault.
    """
    ordered = np.sort(samples, axis=-1)
    drop = ordered.shape[-1] // 10
    kept = ordered[..., drop : ordered.shape[-1] - drop]
    means: NDArray[np.float64] = kept.mean(axis=-1)
    return means


# one half of a letter beyond the first 65,536, as JSON escapes it, without the other half beside it
_HALF_LETTER = re.compile(
    r"(?<!\\)\\u(?:d[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})",
    re.IGNORECASE,
)


def paired(text: str) -> str:
    """Return JSON's text with a mark for each half of a letter, which no file and no terminal can hold."""
    return _HALF_LETTER.sub(r"\\ufffd", text)


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """A file that another program wrote of a run, as text."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file's text, UTF-16 where its mark says so (PowerShell's `>`), else UTF-8.

        Raises OSError.
        """
        data = path.read_bytes()
        marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return cls(path=path, text=paired(data.decode("utf-16" if marked else "utf-8-sig", errors="replace")))

    @cached_property
    def data(self) -> Any:
        """The file's JSON values; None where it is no JSON. Of a list that was cut short, what is whole."""
        try:
            return json.loads(self.text)
        except RecursionError:
            return None
        except ValueError:
            return _whole_entries(self.text) or None


def _whole_entries(text: str) -> list[Any]:
    """Return the objects of a JSON list whose end is missing, as a program leaves it that was killed."""
    at = len(text) - len(text.lstrip())
    found: list[Any] = []
    if not text.startswith("[", at):
        return []
    decode = json.JSONDecoder().raw_decode
    while True:
        at += 1
        while text[at : at + 1] in (" ", "\t", "\r", "\n", ",") and at < len(text):
            at += 1
        try:
            entry, end = decode(text, at)
        except (ValueError, RecursionError):
            return found
        found.append(entry)
        at = end - 1


@dataclass(frozen=True, kw_only=True)
class ForeignFiles:
    """What was given of a run elsewhere: a file of layers, or with their times too, and one of times.

    `shape` is that of the network's input where its graph is at hand. Without a graph it is None, and
    nodes can only stand for themselves. `batch` is the one that was asked for, of files that hold several.
    """

    layers: ForeignFile | None
    times: ForeignFile | None
    shape: tuple[int | None, ...] | None = None
    batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignTrace:
    """A run elsewhere; `batch` is the one that the files tell, None where they tell none."""

    trace: Trace
    batch: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NodeSpelling:
    """How a runtime's names of executed nodes and tensors come from those of the graph that it was given.

    `made_for`: its first group is the tensor that the node was made for (`<tensor>_nchwc`). `taken_in`,
    `numbered` and `moved` match what is added to a node's name when it takes others into itself, to the
    name of a copy, and to a tensor's name when it is moved; without them the source's name is left.
    `kernel_number` matches the number that each kernel of one node gets. `region` matches kernels for a
    whole region of the graph, `nameless` those that no node gave a name. `follows` are operators that a
    kernel may take in after it was named for the node before them, `folds` those that vanish into it
    without leaving a tensor; `undoes` are movements out of a layout that the node before them wanted.
    """

    made_for: re.Pattern[str] | None = None
    taken_in: re.Pattern[str] | None = None
    numbered: re.Pattern[str] | None = None
    moved: re.Pattern[str] | None = None
    kernel_number: re.Pattern[str] | None = None
    region: re.Pattern[str] | None = None
    nameless: re.Pattern[str] | None = None
    follows: frozenset[str] = frozenset()
    folds: frozenset[str] = frozenset()
    undoes: frozenset[str] = frozenset()


PLAIN = NodeSpelling()


def without(pattern: re.Pattern[str] | None, name: str) -> str:
    """Return a name without what a pattern matches; the name itself where there is no pattern."""
    return pattern.sub("", name) if pattern else name


def matches(pattern: re.Pattern[str] | None, name: str) -> bool:
    """Tell whether a name holds what a pattern matches; never where there is no pattern."""
    return pattern is not None and pattern.search(name) is not None
