"""Memory of an export: when Python's collector runs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Hold the collector back inside the block and run it once at its end, over what is new since.

    torch's exporter leaves a network's weights in cycles, twice, so it must run before they are proven.
    """
    ran = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if ran:
            gc.enable()
