"""What an export depends on besides its source: what stored results, and remembered refusals, go by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.artifacts import hash_file
from toolkit.exporting import Exporter, ExportOptions


def asked(exporter: Exporter, options: ExportOptions, data: Callable[[], str | None]) -> dict[str, Any]:
    """Return all that one exporter's result depends on besides its source, as plain values.

    Data and a file of one's own model enter by their content, wherever they lie; `data` tells the
    fingerprint of the former, None where there is none.
    """
    found = {name: getattr(options, name) for name in exporter.reads}
    own_file = None if options.model_file is None else Path(options.model_file)  # text, from Python
    if own_file is not None and own_file.is_file() and "model_file" in found:
        found["model_file"] = hash_file(own_file)
    if "data_dir" in found:
        found["data_dir"] = data()
    own = dataclasses.asdict(options.own_of(exporter.options))
    return {"exporter": exporter.name, **found, "own": own, "machine": exporter.machine(options)}
