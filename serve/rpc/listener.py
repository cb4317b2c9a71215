"""The gRPC server beside uvicorn's: on the same event loop, drained with it."""

from __future__ import annotations

from importlib.util import find_spec

from serve.api.app import MAX_BODY, App
from serve.api.connection import MOST_CONNECTIONS
from toolkit.errors import CnnkitError, MissingExtraError

# what a request's other fields add to its rows
OVERHEAD = 64 * 1024


def require_grpc() -> None:
    """Raise MissingExtraError where the packages of gRPC are not installed."""
    for package in ("grpc", "google.protobuf"):
        try:
            there = find_spec(package) is not None
        except ModuleNotFoundError:
            there = False
        if not there:
            raise MissingExtraError(package, "grpc")


class GrpcListener:
    """A port on which the protocol is spoken over gRPC."""

    def __init__(self, app: App, host: str, port: int, *, shared: bool = False) -> None:
        """Port 0 is any free one; one that is `shared` is other processes', too."""
        self.app = app
        self.host = f"[{host}]" if ":" in host else host
        self.port = port
        self.shared = shared

    async def start(self) -> None:
        """Take calls; `port` is the one that was found. Raises CnnkitError where it is taken."""
        import grpc

        from serve.rpc.servicer import Servicer

        limit = MAX_BODY + OVERHEAD
        self.server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
                ("grpc.so_reuseport", int(self.shared)),
            ],
            maximum_concurrent_rpcs=MOST_CONNECTIONS,
        )
        self.server.add_generic_rpc_handlers((Servicer(self.app).handlers(),))
        try:
            self.port = self.server.add_insecure_port(f"{self.host}:{self.port}")
        except RuntimeError:
            raise CnnkitError(
                f"cannot listen on {self.host}:{self.port} for gRPC; `--grpc-port 0` takes any free one"
            ) from None
        await self.server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no calls any more, and answer those that there are."""
        await self.server.stop(grace_s)
