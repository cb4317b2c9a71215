"""`python -m cnnkit`: the command."""

from __future__ import annotations

import sys

from cnnkit.front_door import main

if __name__ == "__main__":
    sys.exit(main())
