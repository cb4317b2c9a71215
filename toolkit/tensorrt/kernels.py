"""Kernels that TensorRT for RTX compiled for this GPU, kept for the next process.

Its engines hold intermediate code; what the GPU runs is compiled when a shape is first used. TensorRT
checks a stored cache against GPU, driver and release, and refuses one that does not fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.caching import cache_folder, read_thing, write_thing
from toolkit.errors import CnnkitError


def kernels_path(engine_sha256: str, capability: str) -> Path:
    """Return where the kernels of an engine lie: in the user's cache folder, by content and GPU."""
    return cache_folder("kernels") / f"{engine_sha256[:32]}.{capability.lower()}.rtxcache"


class KernelCache:
    """One engine's compiled kernels. `loaded` tells whether a stored cache fitted this machine."""

    def __init__(self, settings: Any, path: Path) -> None:
        """Attach a cache to an IRuntimeConfig; the GPU's context must be current."""
        self.path = path
        self.why_not_saved: str | None = None
        kernels = settings.create_runtime_cache()
        self._stored = read_thing(path) if path.is_file() else b""
        self.loaded = bool(self._stored) and bool(kernels.deserialize(self._stored))
        settings.set_runtime_cache(kernels)
        self._kernels: Any = kernels

    def close(self) -> None:
        """Store what was compiled since, and let go of TensorRT's object, which must not outlive the runtime.

        A cache that cannot be kept costs time at the next start and changes no answer, so the reason
        is noted in `why_not_saved` rather than raised.
        """
        found = self._kernels.serialize() if self._kernels is not None else None
        self._kernels = None
        data = bytes(found) if found is not None else b""
        if data and data != self._stored:
            try:
                write_thing(self.path, data)
            except CnnkitError as error:
                self.why_not_saved = str(error)
