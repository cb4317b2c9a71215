"""An identical export answers from its stored result: same source, options and packages, same file.

Versions are read from package metadata, so that a stored answer costs no import of torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters.proving.proof import proven
from toolkit.artifacts import Artifact, open_artifact
from toolkit.checkpoints import tool_versions
from toolkit.errors import CorruptError, NotFoundError

# facts of a source's passport that an export neither reads nor passes on
_IDLE = frozenset({"created", "parity", "parity_why", "source_parity", "export_key", "tools", "verified"})


def export_key(source: Artifact, wanted: Mapping[str, Any], packages: Sequence[str]) -> str:
    """Return the hash of everything that an export's result depends on; `packages` by their versions."""
    passport = {k: v for k, v in source.passport.to_json().items() if k not in _IDLE}
    facts = {
        "source": passport,
        "asked": wanted,
        "tools": tool_versions(*packages),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def stored(path: Path, key: str) -> Artifact | None:
    """Return the artifact at `path` when it answers that key, unaltered and with its proof; else None."""
    try:
        found = open_artifact(path)
    except (CorruptError, NotFoundError):
        return None
    known = found.passport
    same = known.export_key == key and (known.proof_sha256 is None or proven(found))
    return found if same else None
