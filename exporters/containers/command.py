"""The server's command line, as a container runs it and as it is tried here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.passports import Precision

# where clusters mount what is to be served
MODELS = Path("/mnt/models")
HTTP_PORT, GRPC_PORT = 8080, 9000
# as long as a cluster takes to send nobody new to a replica that says that it is not ready
STOP_DELAY_S = 10
# the delay, the server's own time to answer whoever was let in (11 s), and some to end
GRACE_S = 30


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """`cnnkit serve` over a folder of artifacts; `threads` are its engine's."""

    precision: Precision
    threads: int
    models: Path = MODELS
    host: str = "0.0.0.0"
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    stop_delay_s: int = STOP_DELAY_S

    @property
    def words(self) -> list[str]:
        """Return the command's words after `cnnkit`."""
        options = {
            "--model-dir": self.models,
            "--host": self.host,
            "--http-port": self.http_port,
            "--grpc-port": self.grpc_port,
            "--precision": self.precision,
            "--threads": self.threads,
            "--stop-delay": self.stop_delay_s,
        }
        return ["serve", "--no-page", *(str(word) for pair in options.items() for word in pair)]
