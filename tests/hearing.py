"""A command that hears Ctrl-C also where the tests run in the background of a script, which ignores it."""

from __future__ import annotations

import sys

CNNKIT = (
    sys.executable,
    "-c",
    "import signal; from cnnkit import front_door; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); front_door.main()",
)
