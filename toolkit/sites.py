"""A folder of files served to browsers on this machine, with the headers and types that they ask for."""

from __future__ import annotations

import http
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from toolkit.passports import Format

# the format of folders that a browser opens
SITE: Format = "web"
# what lets a page use threads; and nothing is taken from a store that was changed meanwhile
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    # as they are: a browser that is told of an encoding unpacks them itself
    ".gz": "application/gzip",
}
# what a page may send back
MOST_BYTES = 1 << 20

# Takes what a page of this folder sends to a path; false for a path that nothing is taken at.
Take = Callable[[str, bytes], bool]


def take_nothing(path: str, body: bytes) -> bool:
    """Take nothing that a page sends."""
    return False


class SiteHandler(SimpleHTTPRequestHandler):
    """Answers with files of one folder, and takes what its own pages send."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}  # noqa: RUF012  (as it is there)
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, take: Take, **settings: object) -> None:
        self.take = take
        super().__init__(*args, **settings)  # type: ignore[arg-type]

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: object) -> None:
        self.send_error(http.HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        allowed = length.isdecimal() and int(length) <= MOST_BYTES and self._same_origin()
        taken = allowed and self.take(self.path, self.rfile.read(int(length)))
        self.close_connection = not allowed
        self.send_response(http.HTTPStatus.NO_CONTENT if taken else http.HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _same_origin(self) -> bool:
        return self.headers.get("Origin") == f"http://{self.headers.get('Host')}"

    def log_message(self, format: str, *args: object) -> None:  # nobody reads a line for each file
        pass


class SiteServer(ThreadingHTTPServer):
    """Serves a folder on one address; port 0 is any free one."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str, port: int, take: Take = take_nothing) -> None:
        super().__init__((host, port), partial(SiteHandler, directory=str(folder), take=take))

    @property
    def url(self) -> str:
        """The address of the folder's page."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away."""


@contextmanager
def site(folder: Path, take: Take = take_nothing) -> Iterator[SiteServer]:
    """Serve a folder to this machine alone until the block ends."""
    with SiteServer(folder, "127.0.0.1", 0, take) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()
