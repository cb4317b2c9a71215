"""A server that is asked as an engine is: the Open Inference Protocol over HTTP, binary tensors."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions
from toolkit.errors import CnnkitError

DATATYPES = {
    **{"float32": "FP32", "float16": "FP16", "float64": "FP64", "bool": "BOOL"},
    **{"uint8": "UINT8", "int8": "INT8", "int32": "INT32", "int64": "INT64"},
}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
LENGTH = "Inference-Header-Content-Length"
# the server's own most rows of one request
MOST_ROWS = 32
ANSWER_S = 60.0


class AskedServer(Engine):
    """An artifact behind a port of this machine. Each thread that asks has a connection of its own."""

    backend: ClassVar[str] = "a server"

    def __init__(self, artifact: Artifact, port: int) -> None:
        super().__init__(artifact, EngineOptions())
        self.port = port
        self._own = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self.path = f"/v2/models/{artifact.name}"
        body, _ = self._ask("GET", self.path)
        self.outputs = [one["name"] for one in json.loads(body)["outputs"]]

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.outputs)

    @property
    def batch_sizes(self) -> tuple[int, int | None]:
        least, most = super().batch_sizes
        return (least, min(most or MOST_ROWS, MOST_ROWS) if least == 1 else most)

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        takes = self.artifact.passport.input
        given = np.ascontiguousarray(batch, dtype=takes.dtype)
        tensor = {
            "name": takes.name,
            "shape": list(given.shape),
            "datatype": DATATYPES[takes.dtype],
            "parameters": {"binary_data_size": given.nbytes},
        }
        wanted = [{"name": name, "parameters": {"binary_data": True}} for name in self.outputs]
        head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        found, at = self._ask("POST", f"{self.path}/infer", head + given.tobytes(), len(head))
        arrays, tail = {}, memoryview(found)[at:]
        for one in json.loads(found[:at])["outputs"]:
            size, dtype = one["parameters"]["binary_data_size"], np.dtype(DTYPES[one["datatype"]])
            arrays[one["name"]] = np.frombuffer(tail[:size], dtype).reshape(one["shape"])
            tail = tail[size:]
        return [arrays[name] for name in self.outputs]

    def _ask(self, method: str, path: str, body: bytes = b"", at: int | None = None) -> tuple[bytes, int]:
        """Return a reply's body, and where its binary tail begins. Raises CnnkitError for a refusal."""
        connection = self._connection()
        connection.request(method, path, body, {} if at is None else {LENGTH: str(at)})
        reply = connection.getresponse()
        found = reply.read()
        if reply.status != 200:
            raise CnnkitError(f"the server answered {reply.status}: {found[:500].decode(errors='replace')}")
        return found, int(reply.headers.get(LENGTH) or 0)

    def _connection(self) -> http.client.HTTPConnection:
        known: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if known is None:
            known = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
            self._own.connection = known
            self._open.append(known)
        return known

    def close(self) -> None:
        for connection in self._open:
            connection.close()
