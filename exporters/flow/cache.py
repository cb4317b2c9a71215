"""An identical export answers from its stored result: same source, options and packages, same file.

Versions are read from package metadata, so that a stored answer costs no import of torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, hash_file, read_passport
from toolkit.checkpoints import tool_versions
from toolkit.errors import CorruptError, NotFoundError

KEY = "export_key"
PACKAGES = (
    *("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy"),
    *("tensorrt-rtx-cu13", "tensorrt-cu13", "pillow"),
)
# facts of a source's passport that an export neither reads nor passes on
_IDLE = frozenset({"created", "parity", "parity_why", "source_parity", KEY, "tools", "verified"})


def export_key(source: Artifact, asked: Mapping[str, Any]) -> str:
    """Return the hash of everything that an export's result depends on."""
    passport = {k: v for k, v in source.passport.to_json().items() if k not in _IDLE}
    facts = {
        "source": passport,
        "asked": asked,
        "tools": tool_versions(*PACKAGES),
        "data": os.environ.get("CNNKIT_DATA"),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def stored(path: Path, key: str) -> Artifact | None:
    """Return the artifact at `path` when it is the answer to that key and unaltered; else None."""
    if not path.exists():
        return None
    try:
        passport = read_passport(path)
    except (CorruptError, NotFoundError):
        return None
    if passport.extra.get(KEY) != key or hash_file(path) != passport.sha256:
        return None
    return Artifact(path=path, passport=passport)
