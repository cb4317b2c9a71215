"""`cnnkit serve MODEL --web`: the folder that browsers run by themselves, on this machine, to try it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from toolkit.artifacts import Artifact, find_artifacts, open_artifact
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.opening import is_path
from toolkit.sites import SITE, SiteServer
from toolkit.telling import Tell


def serve_site(model: str | None, *, host: str, port: int, root: Path, tell: Tell) -> None:
    """Serve a folder for browsers until Ctrl-C; the newest where none is named.

    Raises NotFoundError where there is none, CnnkitError for another kind of artifact or a taken port.
    """
    found = _open(model, root)
    try:
        server = SiteServer(found.path, host, port)
    except OSError as error:
        raise CnnkitError(
            f"port {port} of {host} cannot be opened: {error.strerror}; `--port 0` takes any free one"
        ) from None
    with server:
        address = server.url.rstrip("/")
        tell(f"serving {found.path} on {address} (Ctrl-C ends it); {address}/#verify checks it in a browser")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _open(model: str | None, root: Path) -> Artifact:
    if model is not None and is_path(model):
        found = open_artifact(Path(model))
        if found.passport.format != SITE:
            raise CnnkitError(
                f"{model} is {found.passport.format}, which no browser opens; leave --web away to serve it"
            )
        return found
    for path, known in find_artifacts(root, model):
        if known.format == SITE:
            return open_artifact(path)
    raise NotFoundError(
        f"no folder for browsers of {model or 'any network'} is in {root}; `cnnkit export {model or 'MODEL'} "
        f"--format {SITE}` writes one"
    )
