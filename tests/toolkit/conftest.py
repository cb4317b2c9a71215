"""What the toolkit's tests share: cnnkit typed as on a command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door


@pytest.fixture
def run() -> Callable[..., Result]:
    """Return what runs `cnnkit` with words, paths and numbers; a bug keeps its traceback."""

    def type_in(*words: object) -> Result:
        result = CliRunner().invoke(front_door.main, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return type_in
