"""Files that could not be made within what they may lose: remembered, so that none is looked for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from toolkit import schema
from toolkit.artifacts import Artifact, now
from toolkit.caching import cache_folder, note_use, write_thing
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError
from toolkit.exporting import EXPORTERS, ExportOptions
from toolkit.exporting.evidence import data_fingerprint
from toolkit.exporting.keys import asked

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
    with contextlib.suppress(FileNotFoundError, CnnkitError):
        path = _path(source, word, options)
        found = schema.convert(Unmade, schema.read_json(path), what=str(path))
        note_use(path)
        return found
    return None


def remember(source: Artifact, word: str, options: ExportOptions, why: str) -> None:
    """Keep why a file could not be made; where it cannot be kept it is tried again."""
    with contextlib.suppress(CnnkitError, OSError):
        told = schema.plain(Unmade(why=why, created=now()))
        write_thing(_path(source, word, options), json.dumps(told, ensure_ascii=False).encode())


def _path(source: Artifact, word: str, options: ExportOptions) -> Path:
    """Return a file named by what a refusal depends on: weights, data, options, machine, time and tools.

    Data counts by its content: mended pictures may well let a file be made. Raises CorruptError.
    """
    exporter = EXPORTERS.load(word)
    given = asked(exporter, options, lambda: data_fingerprint(source.passport, options.data_dir))
    known = schema.plain(
        {
            "source": source.passport.sha256,
            "dataset": source.passport.dataset,
            "asked": given,
            "own": [repr(one) for one in options.own],
            "search_s": options.search_s,
            "tools": tool_versions(*exporter.packages),
        }
    )
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return cache_folder(KIND) / f"{word}-{options.precision}-{digest[:24]}.json"
