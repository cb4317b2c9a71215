"""How a profile measures: what is the same for all of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.allocation import Allocator
from toolkit.profiling.measuring.tracing import TRACE_WINDOWS


@dataclass(frozen=True, kw_only=True)
class ProfileSettings:
    """How to measure. `duration_s` is the clean time of each column at each batch size.

    `batches` None is the one that a file fixes, else 1; `device` None each backend's own; `chosen` are
    backends' own settings by name. Each column is traced in as many `windows`;
    `turns` traces it in turn with the others, whatever that costs.
    Without `insists` the precisions are those of a choice, and a file that has another one is taken as it is.
    `allocator`: `keep` has the C library keep freed memory, as training does, from now on in this process.
    Without `walks` modules are those that the graph names: importing torch takes longer than a short profile.
    """

    batches: tuple[int, ...] | None = None
    device: str | None = None
    threads: int | None = None
    duration_s: float = 1.0
    chosen: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    model_file: Path | None = None
    turns: bool = False
    insists: bool = True
    allocator: Allocator = "system"
    walks: bool = True
    windows: int = TRACE_WINDOWS
