"""`cnnkit.serve` from a script's main thread, from another one, and beside a loop that runs already."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

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
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as run:
        assert run.stderr is not None
        said = []
        for line in run.stderr:
            said.append(line)
            if line.startswith("serving lenet-maxpool on "):
                break
        else:
            pytest.fail("".join(said))
        # urlopen keeps the proxies of its first call in this process, whichever test made it
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{line.split()[3]}/v2/models/lenet-maxpool", timeout=10) as reply:
                assert json.load(reply)["name"] == "lenet-maxpool"
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=30) == 0
        finally:
            run.kill()  # what goes on must not hold up the tests after it
        assert "Traceback" not in run.stderr.read()
