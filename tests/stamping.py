"""A passport for a file that a test wrote itself."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from toolkit.artifacts import Artifact, hash_file, sidecar, write_json, written_at
from toolkit.passports import Passport


def stamp(path: Path, passport: Passport) -> Artifact:
    """Write the passport of a file that is already in place, its hash and time filled in."""
    passport = dataclasses.replace(
        passport, sha256=hash_file(path), created=passport.created or written_at(datetime.now(UTC))
    )
    write_json(sidecar(path), passport.to_json())
    return Artifact(path=path, passport=passport)
