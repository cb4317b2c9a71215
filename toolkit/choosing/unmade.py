"""Files that could not be made within what they may lose: remembered, so that none is looked for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from toolkit import schema
from toolkit.artifacts import Artifact, now, write_json
from toolkit.caching import cache_folder, note_use
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError
from toolkit.exporting import EXPORTERS, ExportOptions

KIND = "unmade"


@dataclass(frozen=True, kw_only=True)
class Unmade:
    """Why a file could not be made, and when that was found."""

    why: str
    created: str

    def words(self) -> str:
        """Say why, that this is remembered, and how to have it forgotten."""
        return f"{self.why} (found {self.created[:10]}; `cnnkit clean --free {KIND}` has it tried again)"


def recall(source: Artifact, word: str, options: ExportOptions) -> Unmade | None:
    """Return why a file of a source could not be made with these options; None where that is not known."""
    path = _path(source, word, options)
    with contextlib.suppress(FileNotFoundError, CnnkitError):
        found = schema.convert(Unmade, schema.read_json(path), what=str(path))
        note_use(path)
        return found
    return None


def remember(source: Artifact, word: str, options: ExportOptions, why: str) -> None:
    """Keep why a file could not be made; where it cannot be kept it is tried again."""
    with contextlib.suppress(CnnkitError, OSError):
        write_json(_path(source, word, options), schema.plain(Unmade(why=why, created=now())))


def _path(source: Artifact, word: str, options: ExportOptions) -> Path:
    """Return a file named by what a refusal depends on: weights, data, options, machine, time and tools."""
    exporter = EXPORTERS.load(word)
    asked = {name: getattr(options, name) for name in exporter.reads}
    known = schema.plain(
        {
            "source": source.passport.sha256,
            "dataset": source.passport.dataset,
            "asked": asked,
            "own": [repr(one) for one in options.own],
            "machine": dict(exporter.machine(options)),
            "search_s": options.search_s,
            "tools": tool_versions(*exporter.packages),
        }
    )
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return cache_folder(KIND) / f"{word}-{options.precision}-{digest[:24]}.json"
