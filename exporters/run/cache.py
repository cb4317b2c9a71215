"""An identical export answers from its stored result: same source, options and packages, same file.

Versions are read from package metadata, so that a stored answer costs no import of torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters.proving.proof import proven
from toolkit.artifacts import Artifact, hash_file, open_artifact
from toolkit.checkpoints import tool_versions
from toolkit.errors import CorruptError, NotFoundError
from toolkit.exporting import Exporter, ExportOptions

# facts of a source's passport that an export neither reads nor passes on
_IDLE = frozenset({"created", "parity", "parity_why", "source_parity", "export_key", "tools", "verified"})


def asked(exporter: Exporter, options: ExportOptions, data: Callable[[], str | None]) -> dict[str, Any]:
    """Return all that one exporter's result depends on besides its source, as plain values.

    Data and a file of one's own model enter by their content, wherever they lie; `data` tells the
    fingerprint of the former, None where there is none.
    """
    found = {name: getattr(options, name) for name in exporter.reads}
    if options.model_file is not None and options.model_file.is_file() and "model_file" in found:
        found["model_file"] = hash_file(options.model_file)
    if "data_dir" in found:
        found["data_dir"] = data()
    own = dataclasses.asdict(options.own_of(exporter.options))
    return {"exporter": exporter.name, **found, "own": own, "machine": exporter.machine(options)}


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
