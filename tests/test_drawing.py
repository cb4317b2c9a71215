"""Property tests draw the same examples at each `make test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO

DRAWING = """
from hypothesis import given, strategies as st

def test_draws():
    drawn = []
    @given(st.integers(), st.text(max_size=4))
    def draw(number, text):
        drawn.append((number, text))
    draw()
    first = drawn[:]
    import more
    draw()
    assert drawn == first * 2
"""


def test_make_test_draws_the_same_whatever_is_imported_before(tmp_path: Path) -> None:
    # hypothesis takes numbers that stand in modules for likely ones
    (tmp_path / "more.py").write_text(f"NUMBERS = {list(range(7000, 7200))}")
    (tmp_path / "drawing.py").write_text(DRAWING)
    words = ["-p", "tests.conftest", "--hypothesis-profile", "repeated", "-c", os.devnull, "-q"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(tmp_path)])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, "drawing.py"]
    done = subprocess.run(command, env=env, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
