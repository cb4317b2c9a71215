"""Load over gRPC: prepared bytes, some calls at a time over one channel; prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc


async def drive(port: int, message: bytes, requests: int, at_once: int) -> dict[str, float]:
    latencies: list[float] = []
    failures, left = 0, requests
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def caller() -> None:
            nonlocal failures, left
            while left > 0:
                left -= 1
                start = time.perf_counter()
                try:
                    await call(message)
                    latencies.append((time.perf_counter() - start) * 1e3)
                except grpc.aio.AioRpcError:
                    failures += 1

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        seconds = time.perf_counter() - start
    latencies.sort()
    middle, late = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    return {
        "rate": len(latencies) / seconds,
        "p50_ms": middle,
        "p99_ms": late,
        "failures": failures,
    }


if __name__ == "__main__":
    port, file, requests, at_once = sys.argv[1:]
    print(json.dumps(asyncio.run(drive(int(port), Path(file).read_bytes(), int(requests), int(at_once)))))
