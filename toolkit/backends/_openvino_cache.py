"""What OpenVINO compiled, kept from one process to the next under the hash of what it was compiled of.

OpenVINO's own cache (CACHE_DIR) goes by a file's path, size and time, and gave the engine of older weights
where those were equal. A kept model holds the weights; compiling large files anew is as fast as reading it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, size_bytes
from toolkit.backends._openvino_files import DEVICE, core
from toolkit.caching import cache_folder, read_thing, write_thing
from toolkit.errors import CnnkitError

# an AlexNet of 187 MB compiles in 0.10 s and is read in 0.18, a LeNet in 0.026 and 0.006
LARGEST_BYTES = 32_000_000
# of all that is kept: what was used longest ago goes first
MOST_BYTES = 256_000_000
DIGEST = 32


def compile_model(model: Any, settings: Mapping[str, Any], artifact: Artifact | None, what: str) -> Any:
    """Return a model compiled, read from what is kept of the same artifact, settings and release.

    `artifact` None keeps nothing; `what` tells the artifact's compiled models apart. Raises RuntimeError,
    OpenVINO's own, where it cannot be compiled.
    """
    place = _place(artifact, settings, what) if artifact else None
    if place is None:
        return core().compile_model(model, DEVICE, dict(settings))
    kept = _read(place)
    if kept is not None:
        # another processor than the one that it was compiled on
        with contextlib.suppress(RuntimeError):
            return core().import_model(kept, DEVICE, dict(settings))
    compiled = core().compile_model(model, DEVICE, dict(settings))
    _write(place, compiled.export_model().getvalue())
    return compiled


def _place(artifact: Artifact, settings: Mapping[str, Any], what: str) -> Path | None:
    from openvino import get_version

    digest = artifact.passport.sha256
    if not digest or size_bytes(artifact.path) > LARGEST_BYTES:
        return None
    facts = json.dumps([digest, what, get_version(), sorted(settings.items())])
    return cache_folder("openvino") / f"{hashlib.sha256(facts.encode()).hexdigest()}.blob"


def _read(place: Path) -> bytes | None:
    """Return a kept model; None where there is none, or not as it was written."""
    try:
        data = read_thing(place)
    except OSError:
        return None
    return data[DIGEST:] if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST] else None


def _write(place: Path, data: bytes) -> None:
    """Keep a compiled model where the folder can be written; without one, the next process compiles anew."""
    with contextlib.suppress(CnnkitError, OSError):
        write_thing(place, hashlib.sha256(data).digest() + data)
        recent = sorted(place.parent.glob("*.blob"), key=lambda path: path.stat().st_mtime, reverse=True)
        held = 0
        for path in recent:
            held += path.stat().st_size
            if held > MOST_BYTES:
                path.unlink(missing_ok=True)
