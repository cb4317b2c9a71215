"""Requests and answers between gRPC's messages and those of HTTP: rows as bytes, outputs as bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from google.protobuf.message_factory import GetMessageClass

from serve.api import RefusedError
from serve.api.messages import (
    InferParameters,
    InferRequest,
    InputParameters,
    InputTensor,
    OutputParameters,
    RequestedOutput,
)
from serve.api.protocol import Answers
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


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def infer_request(request: Any, size: int) -> InferRequest:
    """Return a request as the one over HTTP would be, with rows of so many bytes behind it.

    Raises RefusedError (400).
    """
    tensor = request.inputs[0]
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
    return InferRequest(
        inputs=[
            InputTensor(
                name=tensor.name,
                shape=list(tensor.shape),
                datatype=tensor.datatype,
                parameters=InputParameters(
                    binary_data_size=size, shared_memory_region=_region(tensor.parameters)
                ),
            )
        ],
        id=request.id or None,
        outputs=outputs or None,
        parameters=InferParameters(binary_data_output=True, timeout=_whole(request.parameters, "timeout")),
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


def size_of_rows(request: Any) -> int:
    """Return how many bytes the one input's rows are, from the raw contents or from the field of their type.

    Raises RefusedError (400).
    """
    if len(request.inputs) != 1:
        raise RefusedError(400, f"{len(request.inputs)} inputs came; every model here takes one")
    tensor = request.inputs[0]
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1 or tensor.HasField("contents"):
            raise RefusedError(400, "a tensor's rows come once: as one raw content or in contents")
        return len(request.raw_input_contents[0])
    if tensor.datatype not in CONTENTS:
        raise RefusedError(
            400, f"rows of {tensor.datatype[:80]!r} come as raw contents; known: {', '.join(CONTENTS)}"
        )
    return len(_values(tensor)) * DTYPES[tensor.datatype].itemsize


def raw_rows(request: Any) -> memoryview:
    """Return those bytes. Raises RefusedError (400) for numbers that are not of their type."""
    if request.raw_input_contents:
        return memoryview(request.raw_input_contents[0])
    tensor = request.inputs[0]
    try:
        return memoryview(np.array(_values(tensor), dtype=DTYPES[tensor.datatype]).tobytes())
    except OverflowError as error:
        raise RefusedError(
            400, f"input {tensor.name!r} holds what {tensor.datatype} cannot: {error}"
        ) from None


def _values(tensor: Any) -> Any:
    return getattr(tensor.contents, CONTENTS[tensor.datatype])


def response_of(ident: str, answers: Answers, version: Version) -> Any:
    """Return the message of a version's answers; `ident` is the request's own."""
    passport = version.classifier.artifact.passport
    response = MESSAGES[INFER][1](model_name=version.model.name, model_version=passport.precision, id=ident)
    for wanted, array in answers:
        if wanted.classes:
            texts = best_labels(wanted, array, passport)
            shape, datatype, raw = [len(array), len(texts) // len(array)], "BYTES", as_bytes(texts)
        else:
            shape, datatype, raw = list(array.shape), BY_DTYPE[array.dtype], array.tobytes()
        response.outputs.add(name=wanted.name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(raw)
    return response
