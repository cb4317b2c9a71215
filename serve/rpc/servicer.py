"""What each call of the protocol's gRPC service is answered: by the handlers that answer over HTTP.

What describes a model, a server or its statistics is their JSON, whose names are the protocol's; rows and
answers go as they are.

How large a message is, nobody knows before it is there. So each call is taken for a stream, whose one message
is read when there is room: few are on their way at once, the others wait at their clients.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from serve.api import Handler, HttpRequest, RefusedError, Scope
from serve.api.app import LEFT, MAX_BODY, App, Match
from serve.api.bodies import MOST_BODY_BYTES, Room, request_id
from serve.api.infer_request import AskedInference, Parser
from serve.api.protocol import Answers
from serve.api.shortages import shortage
from serve.rpc.tensors import (
    INFER,
    MESSAGES,
    SERVICE,
    STREAM,
    infer_request,
    raw_rows,
    response_of,
    size_of_rows,
)

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# messages on their way at once, each of which may be as large as a body gets
MOST_ARRIVING = MOST_BODY_BYTES // MAX_BODY
LATE = "the message did not come in time, or too many others are on their way; try again soon"
STREAMS = "streams are not offered: each request has one answer; call ModelInfer"
# a message, and until when what it asks for is to be done, on the event loop's clock
Call = Callable[[Any, float], Awaitable[Any]]


class Servicer:
    """Every call of the service, over the application that answers HTTP."""

    def __init__(self, app: App) -> None:
        """Who may ask is the application's to say; credentials are HTTP's, in `authorization`."""
        self.app = app
        self.protocol = app.protocol
        self.arriving = asyncio.Semaphore(MOST_ARRIVING)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what a server dispatches calls by."""
        described: dict[str, Handler] = {
            "ServerLive": self.protocol.live,
            "ServerReady": self.protocol.ready,
            "ModelReady": self.protocol.model_ready,
            "ServerMetadata": self.protocol.server,
            "ModelMetadata": self.protocol.metadata,
            "ModelConfig": self.protocol.config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self.app.repository.index,
            "RepositoryModelLoad": self.app.repository.load,
            "RepositoryModelUnload": self.app.repository.unload,
        }
        calls = {
            name: self._guarded(name, self._described(name, handler)) for name, handler in described.items()
        }
        calls[INFER] = self._guarded(INFER, self._infer)
        found = {
            name: grpc.stream_unary_rpc_method_handler(
                call, response_serializer=MESSAGES[name][1].SerializeToString
            )
            for name, call in calls.items()
        }
        found[STREAM] = grpc.stream_stream_rpc_method_handler(
            self._no_streams,
            request_deserializer=MESSAGES[STREAM][0].FromString,
            response_serializer=MESSAGES[STREAM][1].SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE.full_name, found)

    def _guarded(self, name: str, call: Call) -> Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]:
        """Refuse as over HTTP: with the status that stands for it, in the same words."""
        open_to_all = name in ("ServerLive", "ServerReady")
        message = MESSAGES[name][0]

        async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
            room, came, request = self.app.bodies.room(), time.perf_counter(), None
            status = LEFT
            try:
                if not open_to_all:
                    self.app.access.check_credentials(_metadata(context))
                deadline = self._deadline(context)
                request = message.FromString(await self._arrived(context, deadline, room))
                answered = await call(request, deadline)
                status = 200
                return answered
            except Exception as error:
                status, code, why = _refusal(error)
            finally:
                if room.taken:
                    room.give_back()
                self._count(name, context, request, status, came)
            # An aborted call is kept by itself until garbage is collected. Here, outside of the clause that
            # caught the error, it does not keep the frames that hold its message, too.
            return await context.abort(code, why)

        return answer

    def _count(
        self, name: str, context: grpc.aio.ServicerContext, request: Any, status: int, came: float
    ) -> None:
        """Count a call, log and trace it as a request over HTTP, with the status that it would have there."""
        path, headers = f"/{SERVICE.full_name}/{name}", _metadata(context)
        model, version = _named(request)
        client = context.peer().partition(":")[2].rpartition(":")[0]
        scope: Scope = {"method": "POST", "path": path, "client": (client,)}
        found = Match(path, model, version or None)
        self.app.answered(scope, headers, request_id(headers), found=found, status=status, came=came)

    async def _no_streams(self, requests: Any, context: grpc.aio.ServicerContext) -> None:
        self._count(STREAM, context, None, 501, time.perf_counter())
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, STREAMS)

    def _deadline(self, context: grpc.aio.ServicerContext) -> float:
        left_s = context.time_remaining()
        limit_s = self.app.deadline_s if left_s is None else min(self.app.deadline_s, left_s)
        return asyncio.get_running_loop().time() + limit_s

    async def _arrived(self, context: grpc.aio.ServicerContext, deadline: float, room: Room) -> bytes:
        """Return a call's message once there is room for it. Raises RefusedError (400, 408, 503)."""
        try:
            async with asyncio.timeout_at(deadline), self.arriving:
                data = await context.read()
        except TimeoutError:
            raise RefusedError(408, LATE) from None
        if data is grpc.aio.EOF:
            raise RefusedError(400, "the call ended without a message")
        room.take(len(data))
        return bytes(data)

    def _asked(self, request: Any, deadline: float, body: bytes = b"") -> HttpRequest:
        async def read() -> bytes:
            return body

        name, version = _named(request)
        return HttpRequest(
            query="",
            headers={},
            came=asyncio.get_running_loop().time(),
            deadline=deadline,
            read=read,
            model=name,
            version=version or None,
        )

    def _described(self, name: str, handler: Handler) -> Call:
        response = MESSAGES[name][1]

        async def call(request: Any, deadline: float) -> Any:
            reply = await handler(self._asked(request, deadline, _body(name, request)))
            said = json.loads(reply.body)
            if isinstance(said, list):
                said = {"models": said}
            if name == "ModelConfig":
                said = {"config": said}
            try:
                return ParseDict(said, response(), ignore_unknown_fields=True)
            except ParseError as error:
                raise RefusedError(500, f"the answer does not fit the protocol: {error}") from error

        return call

    async def _statistics(self, request: HttpRequest) -> Any:
        repository = self.app.repository
        return await (repository.statistics(request) if request.model else repository.all_statistics(request))

    async def _infer(self, request: Any, deadline: float) -> Any:
        asked = self._asked(request, deadline)
        found = await self.protocol.version(asked, request.model_name, asked.version)

        def read(parser: Parser) -> tuple[NDArray[Any], AskedInference]:
            size = size_of_rows(request)
            return parser.take(infer_request(request, size), size, lambda: raw_rows(request))

        def write(wanted: AskedInference, answers: Answers) -> Any:
            return response_of(request.id, answers, found)

        return await self.protocol.run(asked, found, read, write)


def _refusal(error: Exception) -> tuple[int, grpc.StatusCode, str]:
    """Return what a call is answered that got an error for an answer, and HTTP's status for that.

    What nobody foresaw is logged.
    """
    if isinstance(error, RefusedError):
        return error.status, CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error)
    if isinstance(error, DecodeError):
        return 400, CODES[400], f"the message cannot be read: {error}"
    what = shortage(error)
    if what is not None:
        return 503, CODES[503], f"{what}; try again soon"
    traceback.print_exception(error)
    return 500, CODES[500], "this server made a mistake; its log says which"


def _named(request: Any) -> tuple[str, str]:
    """Return the model and version that a message names, empty where it names none."""
    name = next((getattr(request, key) for key in ("model_name", "name") if hasattr(request, key)), "")
    return name, getattr(request, "version", "") or getattr(request, "model_version", "")


def _metadata(context: grpc.aio.ServicerContext) -> Mapping[bytes, bytes]:
    pairs = context.invocation_metadata() or ()
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in pairs}


def _body(name: str, request: Any) -> bytes:
    """Return what the same call's body would be over HTTP."""
    if name == "RepositoryIndex":
        return json.dumps({"ready": request.ready}).encode()
    if name.startswith("RepositoryModel"):
        return json.dumps({"parameters": dict.fromkeys(request.parameters, True)}).encode()
    return b""
