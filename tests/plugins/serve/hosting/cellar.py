"""A place below this machine, on a shelf of which it serves as elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from serve.hosting import Hosting
from serve.hosting.local import LocalHosting
from serve.settings import ServeSettings
from toolkit.errors import CnnkitError
from toolkit.telling import Tell


class Cellar(Hosting):
    """Serves from a shelf that is not the top one."""

    name = "cellar"
    address = "BARREL"

    def host(self, models: Sequence[str], settings: ServeSettings, address: str | None, tell: Tell) -> None:
        if address == "top":
            raise CnnkitError("the top shelf of the cellar is full; `--on cellar:oak` is possible")
        tell(f"down in the cellar, on the shelf {address}")
        LocalHosting().host(models, settings, None, tell)


HOSTING = Cellar()
