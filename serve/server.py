"""What is served, and where: the one function behind `cnnkit serve`."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from serve.api.access import is_loopback
from serve.hosting import HOSTINGS, HostingPlace
from serve.lineup import files_under
from serve.settings import ServeSettings
from toolkit.artifacts import artifacts_root
from toolkit.errors import MissingExtraError
from toolkit.seeding import refuse_seeding
from toolkit.telling import Tell, aloud, if_heard


def serve(
    *models: str | Path,
    settings: ServeSettings | None = None,
    root: Path | str | None = None,
    tell: Tell = aloud,
) -> None:
    """Serve models, the newest where none is named, on one port until SIGTERM or Ctrl-C.

    A model is a name or a file's path. `root` stands for the settings' own folder of artifacts. `tell` hears
    the address, and what happens; where that cannot be written any more, the server goes on. In a thread
    other than the main one no signal stops it.

    Raises CnnkitError when a model cannot be served, MissingExtraError without the extra for it.
    """
    settings, tell = settings or ServeSettings(), if_heard(tell)
    if root is not None:
        settings = replace(settings, opening=replace(settings.opening, root=artifacts_root(root)))
    # httptools is uvicorn's faster parser, which the API's own protocol stands on
    for package in ("httptools", "prometheus_client", "python_multipart", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    place = HostingPlace.of(settings.on)
    if not is_loopback(settings.host) and settings.auth is None and settings.token is None:
        tell(
            f"warning: {settings.host} can be reached by other machines and nobody is asked who they are; "
            "`--auth USER:PASSWORD` or `--token TOKEN` changes that"
        )
    if settings.model_dir is not None:
        models = models or files_under(settings.model_dir, settings.backend, settings.opening)
    if settings.opening.untrained and models:
        refuse_seeding(models, settings.opening.seed)
    HOSTINGS.load(place.name).host(tuple(map(str, models)), settings, place.address, tell)
