"""A script that serves a model: started, asked once, and ended with its test whatever happens in between."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def served(code: str, model: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run Python `code` in a folder until it serves `model` and answers for it; yield its process."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    ) as run:
        try:
            assert run.stderr is not None
            said = []
            for line in run.stderr:
                said.append(line)
                if line.startswith(f"serving {model} on "):
                    break
            else:
                pytest.fail("".join(said))
            # urlopen keeps the proxies of its first call in this process, whichever test made it
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{line.split()[3]}/v2/models/{model}", timeout=10) as reply:
                assert json.load(reply)["name"] == model
            yield run
        finally:
            run.kill()  # what goes on must not hold up the tests after it
