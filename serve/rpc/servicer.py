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
import msgspec
import numpy as np
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from serve.api import Handler, HttpRequest, RefusedError
from serve.api.access import Access
from serve.api.app import App
from serve.api.infer_request import AskedInference, Parser
from serve.api.messages import (
    InferParameters,
    InferRequest,
    InputParameters,
    InputTensor,
    OutputParameters,
    RequestedOutput,
)
from serve.api.protocol import Answers
from serve.api.shortages import shortage
from serve.api.tensors import BY_DTYPE, DATATYPES, as_bytes, best_labels
from serve.registry import Version
from serve.rpc.inference_pb2 import DESCRIPTOR

SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"]
# what each call takes and answers
MESSAGES: dict[str, tuple[Any, Any]] = {
    method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    for method in SERVICE.methods
}
INFER, STREAM = "ModelInfer", "ModelStreamInfer"
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
# which field of the protocol's contents holds numbers of a type; 16-bit floats come as raw bytes alone
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
DTYPES = {word: np.dtype(name) for name, word in DATATYPES.items()}
Call = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class Servicer:
    """Every call of the service, over the application that answers HTTP."""

    def __init__(self, app: App, access: Access) -> None:
        """`access` says who may ask: the credentials are HTTP's, in the metadata `authorization`."""
        self.app = app
        self.access = access
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
                    self.access.check_credentials(_metadata(context))
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
            return parser.take(_infer_request(request), _raw(request))

        def write(wanted: AskedInference, answers: Answers) -> Any:
            return _response(request.id, answers, found)

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


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _infer_request(request: Any) -> InferRequest:
    """Return a request as the one over HTTP would be, its rows behind it. Raises RefusedError (400)."""
    if len(request.inputs) != 1:
        raise RefusedError(400, f"{len(request.inputs)} inputs came; every model here takes one")
    tensor = request.inputs[0]
    timeout = _value(request.parameters["timeout"]) if "timeout" in request.parameters else 0
    outputs = [
        RequestedOutput(
            output.name,
            OutputParameters(
                classification=_whole(output.parameters, "classification"),
                shared_memory_region=_region(output.parameters),
            ),
        )
        for output in request.outputs
    ]
    if not isinstance(timeout, int) or timeout < 0:
        raise RefusedError(400, "timeout must be a whole number of microseconds")
    raw = _raw(request)
    return InferRequest(
        inputs=[
            InputTensor(
                name=tensor.name,
                shape=list(tensor.shape),
                datatype=tensor.datatype,
                parameters=InputParameters(
                    binary_data_size=len(raw), shared_memory_region=_region(tensor.parameters)
                ),
            )
        ],
        id=request.id or None,
        outputs=outputs or None,
        parameters=InferParameters(binary_data_output=True, timeout=timeout),
    )


def _whole(parameters: Any, name: str) -> int:
    value = _value(parameters[name]) if name in parameters else 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RefusedError(400, f"{name} must be a whole number")
    return value


def _region(parameters: Any) -> Any:
    if "shared_memory_region" not in parameters:
        return msgspec.UNSET
    return str(_value(parameters["shared_memory_region"]))


def _raw(request: Any) -> memoryview:
    """Return the rows as bytes, from the raw contents or from the field of their type."""
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1 or request.inputs[0].HasField("contents"):
            raise RefusedError(400, "a tensor's rows come once: as one raw content or in contents")
        return memoryview(request.raw_input_contents[0])
    tensor = request.inputs[0]
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise RefusedError(
            400, f"rows of {tensor.datatype[:80]!r} come as raw contents; known: {', '.join(CONTENTS)}"
        )
    values = getattr(tensor.contents, field)
    try:
        return memoryview(np.array(values, dtype=DTYPES[tensor.datatype]).tobytes())
    except OverflowError as error:
        raise RefusedError(
            400, f"input {tensor.name!r} holds what {tensor.datatype} cannot: {error}"
        ) from None


def _response(ident: str, answers: Answers, version: Version) -> Any:
    classifier = version.classifier
    passport = classifier.artifact.passport
    response = MESSAGES[INFER][1](model_name=version.model.name, model_version=passport.precision, id=ident)
    for wanted, array in answers:
        if wanted.classes:
            texts = best_labels(array, wanted.classes, classifier.classes)
            shape, datatype, raw = [len(array), len(texts) // len(array)], "BYTES", as_bytes(texts)
        else:
            shape, datatype, raw = list(array.shape), BY_DTYPE[array.dtype], array.tobytes()
        response.outputs.add(name=wanted.name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(raw)
    return response
