"""`cnnkit.serve` from a script's main thread, from another one, and beside a loop that runs already."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.served import served

pytest.importorskip("uvicorn")

# what a notebook's kernel does with Ctrl-C: it is raised in the cell that runs
CELL = """
import asyncio, signal, cnnkit
async def cell():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cnnkit.serve("lenet-maxpool", settings=cnnkit.ServeSettings(port=0, page=False), root=".")
asyncio.run(cell())
"""
SCRIPT = """
import cnnkit
cnnkit.serve("lenet-maxpool", settings=cnnkit.ServeSettings(port=0, page=False), root=".")
"""
THREAD = """
import signal, threading, cnnkit
# a shell's background job begins with Ctrl-C ignored, which Python then leaves so
signal.signal(signal.SIGINT, signal.default_int_handler)
settings = cnnkit.ServeSettings(port=0, page=False)
def run():
    cnnkit.serve("lenet-maxpool", settings=settings, root=".")
threading.Thread(target=run, daemon=True).start()
try:
    threading.Event().wait()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("code", [CELL, SCRIPT, THREAD], ids=["notebook", "script", "thread"])
def test_a_model_is_served_from_python_until_it_is_interrupted(code: str, tmp_path: Path) -> None:
    with served(code, "lenet-maxpool", tmp_path) as run:
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=30)
        assert run.returncode == 0, errors
        assert "Traceback" not in errors
