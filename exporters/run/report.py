"""What came of an export: what was made, what this machine cannot make, and what failed its checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from exporters.proving.parity import words
from toolkit.artifacts import size_bytes
from toolkit.errors import CnnkitError, GateError, UnavailableError
from toolkit.exporting import Exported
from toolkit.figures import bytes_text, duration_text
from toolkit.tables import TextTable


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A format at a precision that was not made, why, and the exit status that it means."""

    format: str
    precision: str
    reason: str
    exit_status: int = UnavailableError.exit_status

    def __str__(self) -> str:
        return f"{self.format} {self.precision}: {self.reason}"


@dataclass(kw_only=True)
class Report:
    """What an export made, what this machine cannot make, and what failed its checks.

    `named` are the formats that were named rather than taken by default.
    """

    named: frozenset[str] = frozenset()
    artifacts: list[Exported] = field(default_factory=list)
    skipped: list[Missed] = field(default_factory=list)
    failed: list[Missed] = field(default_factory=list)

    def require(self) -> Self:
        """Return the report where all that was named was made.

        Raises the failure that decides a command's exit status: GateError for a failed check,
        UnavailableError for a named format that is not here, CnnkitError where nothing was made.
        """
        if self.failed:
            kind = (
                GateError if any(m.exit_status == GateError.exit_status for m in self.failed) else CnnkitError
            )
            raise kind("; ".join(map(str, self.failed)))
        lacking = [missed for missed in self.skipped if missed.format in self.named]
        if lacking:
            raise UnavailableError("; ".join(map(str, lacking)))
        if not self.artifacts:
            reasons = "; ".join(missed.reason for missed in self.skipped)
            raise CnnkitError(f"nothing could be exported: {reasons}")
        return self

    def table(self) -> TextTable:
        """Return what was made as texts: file, size, proof and seconds."""
        rows = []
        for made in self.artifacts:
            path, passport = made.artifact.path, made.artifact.passport
            proof = words(passport.parity) if passport.parity else passport.parity_why or "none"
            took = "stored result" if made.cached else duration_text(made.seconds)
            rows.append((path.name, bytes_text(size_bytes(path)), proof, took))
        folders = sorted({str(made.artifact.path.absolute().parent) for made in self.artifacts})
        return TextTable(
            head=("file", "size", "proof", "made in"), rows=tuple(rows), title="\n".join(folders)
        )

    def _repr_html_(self) -> str:
        from toolkit.markup import listed

        missed = [f"failed: {one}" for one in self.failed] + [f"skipped: {one}" for one in self.skipped]
        return (self.table().html() if self.artifacts else "") + listed(missed)
