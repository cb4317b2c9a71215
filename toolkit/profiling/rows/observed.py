"""What a profile has found of one column so far: filled in by the bench or by an import, read by the rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.allocation import Allocator
from toolkit.graphs.counting import SourceGraph
from toolkit.profiling.columns import ColumnSource
from toolkit.profiling.network.modules import Module
from toolkit.profiling.result import Latency
from toolkit.profiling.rows.claims import Claim
from toolkit.traces import Copies, Trace


@dataclass(kw_only=True)
class ObservedColumn:
    """What was found of one column at one batch size, as far as it came.

    `device` is where it was opened; `modules` are those of its own network.
    """

    target: ColumnSource
    device: str | None = None
    allocator: Allocator | None = None
    latency: Latency | None = None
    trace: Trace | None = None
    graph: SourceGraph | None = None
    claims: tuple[Claim, ...] = ()
    modules: tuple[Module, ...] = ()
    process_peak_bytes: int | None = None
    copies: Copies | None = None
    first_call_ms: float | None = None
    notes: list[str] = field(default_factory=list)
