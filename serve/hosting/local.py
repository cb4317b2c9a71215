"""local: this machine, by one process or several on one port."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace

from serve.hosting import HOSTINGS, Hosting
from serve.lineup import line_up
from serve.ports import address as address_of
from serve.ports import listen, shared_port
from serve.served import ServedModel
from serve.settings import ServeSettings
from toolkit.errors import CnnkitError
from toolkit.processes import usable_cores
from toolkit.telling import Tell


class LocalHosting(Hosting):
    """One process, or as many as `--processes` says, which end with this one."""

    name = "local"

    def host(self, models: Sequence[str], settings: ServeSettings, address: str | None, tell: Tell) -> None:
        if settings.replicas is not None:
            clusters = " or ".join(f"`--on {name}`" for name in HOSTINGS.names() if name != self.name)
            raise CnnkitError(
                f"--replicas are of a cluster, {clusters}; on one machine `--processes N` answers on one port"
            )
        _check_processes(settings)
        if settings.grpc_port is not None:
            from serve.rpc.listener import require_grpc

            require_grpc()
        with contextlib.closing(listen(settings.host, settings.port)) as sock:
            served = line_up(
                models,
                settings.backend,
                settings.opening,
                others=settings.page,
                choices=settings.choices,
                tell=tell,
            )
            for model in served:
                if model.main and model.artifact:
                    tell(f"opened {model.said}")
            where = f"on {address_of(sock, settings.host)}"
            if settings.processes > 1:
                names = tuple(models) or (served[0].name,)
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


HOSTING = LocalHosting()
