"""One port: what is served, behind the API and the page, on a socket, by one process or several."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from serve.api.access import is_loopback
from serve.served import ServedModel, files_under, line_up
from serve.settings import ServeSettings
from toolkit.artifacts import artifacts_root
from toolkit.errors import CnnkitError, MissingExtraError
from toolkit.telling import Tell, aloud


def listen(
    host: str, port: int, *, shared: bool = False, what: str = "", option: str = "--port"
) -> socket.socket:
    """Return a socket bound to host and port, which others may bind, too, where it is `shared`.

    Raises CnnkitError in words when that cannot be: `what` is the socket for, which `option` its port's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CnnkitError(
            f"cannot listen on {host}:{port}{what and ' '}{what}: {error.strerror or error}; "
            f"`{option} 0` takes any free one"
        ) from None
    return sock


def address(sock: socket.socket, host: str) -> str:
    """Return the URL that people open."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sock.getsockname()[1]}"


def serve(
    *models: str | Path,
    settings: ServeSettings | None = None,
    root: Path | str | None = None,
    tell: Tell = aloud,
) -> None:
    """Serve models, the newest where none is named, on one port until SIGTERM or Ctrl-C.

    A model is a name or a file's path. `root` stands for the settings' own folder of artifacts. `tell` hears
    the address, and what happens. In a thread other than the main one no signal stops it.

    Raises CnnkitError when a model cannot be served, MissingExtraError without the extra for it.
    """
    settings = settings or ServeSettings()
    if root is not None:
        settings = replace(settings, opening=replace(settings.opening, root=artifacts_root(root)))
    # httptools is uvicorn's faster parser, which the API's own protocol stands on
    for package in ("httptools", "prometheus_client", "python_multipart", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    if settings.grpc_port is not None:
        from serve.rpc.listener import require_grpc

        require_grpc()
    _check_processes(settings)
    if not is_loopback(settings.host) and settings.auth is None and settings.token is None:
        tell(
            f"warning: {settings.host} can be reached by other machines and nobody is asked who they are; "
            "`--auth USER:PASSWORD` or `--token TOKEN` changes that"
        )
    if settings.model_dir is not None:
        models = models or files_under(settings.model_dir, settings.backend, settings.opening)
    with contextlib.closing(listen(settings.host, settings.port)) as sock:
        served = line_up(
            tuple(map(str, models)),
            settings.backend,
            settings.opening,
            others=settings.page,
            choices=settings.choices,
            tell=tell,
        )
        for model in served:
            if model.main and model.artifact:
                tell(f"opened {model.said}")
        where = f"on {address(sock, settings.host)}"
        if settings.processes > 1:
            names = tuple(map(str, models)) or (served[0].name,)
            _serve_by_several(names, settings, sock, tell, where)
        else:
            _serve_alone(served, settings, sock, tell, where)


def _serve_alone(
    served: Sequence[ServedModel], settings: ServeSettings, sock: socket.socket, tell: Tell, where: str
) -> None:
    from serve.lifetime import SWITCH_S, Server, assemble

    sys.setswitchinterval(SWITCH_S)
    Server(assemble(served, settings, tell), tell, where=where, settings=settings).run([sock])


def _serve_by_several(
    models: tuple[str, ...], settings: ServeSettings, sock: socket.socket, tell: Tell, where: str
) -> None:
    from serve.processes.parent import Parent

    cores, opening = usable_cores(), settings.opening
    if settings.processes > cores:
        tell(f"warning: {settings.processes} processes on {cores} cores wait for one another")
    if opening.threads is None:
        opening = replace(opening, most_threads=max(1, cores // settings.processes))
    with contextlib.ExitStack() as stack:
        if settings.grpc_port is not None:
            reserved = stack.enter_context(contextlib.closing(shared_port(settings.host, settings.grpc_port)))
            port = reserved.getsockname()[1]
            settings = replace(settings, grpc_port=port)
            where = f"{where} and gRPC on port {port}"
        Parent(models, replace(settings, opening=opening), sock, tell, where=where).run()


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_processes(settings: ServeSettings) -> None:
    """Raise CnnkitError where this system cannot do what several processes need."""
    if settings.processes == 1:
        return
    if settings.processes < 1:
        raise CnnkitError(f"{settings.processes} processes cannot serve; `--processes 1` is the least")
    if not hasattr(socket, "send_fds") or sys.platform == "win32":
        raise CnnkitError(
            "several processes need a system that hands connections from one to another, as Linux does; "
            "`cnnkit serve --processes 1` runs here"
        )
    if settings.grpc_port is not None and sys.platform != "linux":
        raise CnnkitError(
            "Linux alone divides a gRPC port among processes; leave out --grpc-port, or `--processes 1`"
        )


def shared_port(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a free port for processes which then share it. Raises CnnkitError."""
    with contextlib.closing(listen(host, port, what="for gRPC", option="--grpc-port")) as free:
        port = free.getsockname()[1]  # one that nobody listens on, sharing it or not
    return listen(host, port, shared=True, what="for gRPC", option="--grpc-port")
