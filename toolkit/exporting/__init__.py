"""The contract of an exporter file: `EXPORTER`, an Exporter; and what an export is asked and answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from toolkit.artifacts import Artifact, Format, Precision


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export is asked for. `extra` holds what only one exporter understands."""

    root: Path
    precision: Precision = "fp32"
    batches: tuple[int, ...] = (1, 32, 256)
    opset: int = 20
    images: int | None = 1000
    targets: tuple[str, ...] = ()
    seed: int = 0
    data_dir: Path | None = None
    model_file: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An artifact that its consumer has opened, and what making it took."""

    artifact: Artifact
    seconds: float
    cached: bool = False


class Exporter(ABC):
    """Turns an artifact of one format into one of another, and checks it before announcing it."""

    name: ClassVar[str]
    source_formats: ClassVar[tuple[Format, ...]]
    format: ClassVar[Format]
    precisions: ClassVar[tuple[Precision, ...]]
    # the fields of ExportOptions, and keys of its `extra`, that the result depends on
    reads: ClassVar[tuple[str, ...]] = ()

    def prepare(self, options: ExportOptions) -> None:  # noqa: B027  (most exporters refuse nothing)
        """Raise UnavailableError, before any work is done, for options that cannot be had here."""

    def machine(self, options: ExportOptions) -> Mapping[str, Any]:
        """Return what of this machine the result depends on; a stored one of another is made anew."""
        return {}

    @abstractmethod
    def export(self, source: Artifact, options: ExportOptions) -> Exported:
        """Write the artifact, open it with its consumer and compare its answers with the source's.

        Raises GateError when a check fails (nothing is left behind), UnavailableError when a part
        that was named is not on this machine.
        """
