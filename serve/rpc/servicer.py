"""What each call of the protocol's gRPC service is answered: by the handlers that answer over HTTP.

What describes a model, a server or its statistics is their JSON, whose names are the protocol's; rows and
answers go as they are.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict, ParseError
from numpy.typing import NDArray

from serve.api import Handler, HttpRequest, RefusedError
from serve.api.app import App
from serve.api.infer_request import AskedInference, Parser
from serve.api.protocol import Answers
from serve.api.shortages import shortage
from serve.rpc.tensors import INFER, MESSAGES, SERVICE, STREAM, infer_request, raw_rows, response_of

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
STREAMS = "streams are not offered: each request has one answer; call ModelInfer"
Call = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class Servicer:
    """Every call of the service, over the application that answers HTTP."""

    def __init__(self, app: App) -> None:
        """Who may ask is the application's to say; credentials are HTTP's, in `authorization`."""
        self.app = app
        self.protocol = app.protocol

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
            name: grpc.unary_unary_rpc_method_handler(
                call,
                request_deserializer=MESSAGES[name][0].FromString,
                response_serializer=MESSAGES[name][1].SerializeToString,
            )
            for name, call in calls.items()
        }
        found[STREAM] = grpc.stream_stream_rpc_method_handler(
            _no_streams,
            request_deserializer=MESSAGES[STREAM][0].FromString,
            response_serializer=MESSAGES[STREAM][1].SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE.full_name, found)

    def _guarded(self, name: str, call: Call) -> Call:
        """Refuse as over HTTP: with the status that stands for it, in the same words."""
        open_to_all = name in ("ServerLive", "ServerReady")

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                if not open_to_all:
                    self.app.access.check_credentials(_metadata(context))
                return await call(request, context)
            except RefusedError as refused:
                code = CODES.get(refused.status, grpc.StatusCode.INVALID_ARGUMENT)
                await context.abort(code, str(refused))
            except Exception as error:
                if isinstance(error, grpc.RpcError | grpc.aio.AbortError):
                    raise
                what = shortage(error)
                if what is not None:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, f"{what}; try again soon")
                traceback.print_exc()
                await context.abort(
                    grpc.StatusCode.INTERNAL, "this server made a mistake; its log says which"
                )

        return answer

    def _asked(self, request: Any, context: grpc.aio.ServicerContext, body: bytes = b"") -> HttpRequest:
        came = asyncio.get_running_loop().time()
        left_s = context.time_remaining()
        limit_s = self.app.deadline_s if left_s is None else min(self.app.deadline_s, left_s)

        async def read() -> bytes:
            return body

        name = next((getattr(request, key) for key in ("model_name", "name") if hasattr(request, key)), "")
        version = getattr(request, "version", "") or getattr(request, "model_version", "")
        return HttpRequest(
            query="",
            headers={},
            came=came,
            deadline=came + limit_s,
            read=read,
            model=name,
            version=version or None,
        )

    def _described(self, name: str, handler: Handler) -> Call:
        response = MESSAGES[name][1]

        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            reply = await handler(self._asked(request, context, _body(name, request)))
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

    async def _infer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        asked = self._asked(request, context)
        found = await self.protocol.version(asked, request.model_name, asked.version)

        def read(parser: Parser) -> tuple[NDArray[Any], AskedInference]:
            rows = raw_rows(request)
            return parser.take(infer_request(request, len(rows)), rows)

        def write(wanted: AskedInference, answers: Answers) -> Any:
            return response_of(request.id, answers, found)

        return await self.protocol.run(asked, found, read, write)


async def _no_streams(requests: Any, context: grpc.aio.ServicerContext) -> None:
    async for _ in requests:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, STREAMS)


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
