"""The yardstick of gRPC: a bare grpc.aio server over ONNX Runtime that answers the same message."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort

from serve.rpc.tensors import INFER, MESSAGES, SERVICE


async def serve(path: str, port: int) -> None:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    asked, answered = MESSAGES[INFER]

    async def infer(request: Any, context: Any) -> Any:
        rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(list(request.inputs[0].shape))
        (logits,) = session.run(None, {name: rows})
        reply = answered(model_name=request.model_name)
        reply.outputs.add(name="logits", datatype="FP32", shape=logits.shape)
        reply.raw_output_contents.append(logits.tobytes())
        return reply

    handler = grpc.unary_unary_rpc_method_handler(
        infer, request_deserializer=asked.FromString, response_serializer=answered.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE.full_name, {INFER: handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
