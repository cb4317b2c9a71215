"""Where in its author's code each layer of a network was made: `lenet.py:41`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def watched_construction() -> Iterator[dict[int, str]]:
    """Note the line that makes each torch module; the dict holds `folder/file.py:line` by id(module).

    A list of layers that is handed to Sequential at once carries the line of that call.
    """
    from torch.nn.modules.module import register_module_module_registration_hook

    found: dict[int, str] = {}

    def note(parent: Any, name: str, child: Any) -> None:
        line = _author()
        if child is not None and line is not None:
            found.setdefault(id(child), line)

    hook = register_module_module_registration_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def _author() -> str | None:
    """Return the innermost line on the stack that is neither torch's nor this file's."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if frame.f_globals.get("__name__", "").partition(".")[0] != "torch" and path != Path(__file__):
            return f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
