"""`/openapi.json` and `/docs`: the API's description in OpenAPI 3.0, and Swagger to read it with.

Paths are written by hand, as the routes are; bodies come from their own types, and Swagger's files from an
installed package, never from another host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from typing import Any

import msgspec

from serve.api import Handler, HttpRequest, Reply, messages
from serve.api.classify import NDJSON
from serve.api.pictures import MOST_PICTURES
from serve.tally import StatisticsReply
from toolkit.checkpoints import tool_versions

STRING: dict[str, Any] = {"type": "string"}
PICTURE: dict[str, Any] = {"type": "string", "format": "binary"}
MANY = {"type": "array", "items": PICTURE, "maxItems": MOST_PICTURES}
PICTURES = {
    "application/octet-stream": {"schema": PICTURE},
    "image/*": {"schema": PICTURE},
}
WORDS = {
    200: "The answer.",
    400: "The request is malformed.",
    401: "No password or token, or a wrong one.",
    404: "No such model or version.",
    408: "The body did not come before the deadline.",
    413: "The body or picture is too large.",
    415: "Not a picture, or an unknown encoding.",
    422: "The picture is damaged, or missing.",
    429: "The queue is full; Retry-After says when it will not be.",
    503: "Not ready, stopping, or the version cannot be opened.",
    504: "No answer before the deadline.",
}
FILES = {
    "swagger-ui.css": b"text/css",
    "swagger-ui-bundle.js": b"text/javascript",
    "favicon-32x32.png": b"image/png",
}
# Only this server's own files, and no inline script but the one below.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'; font-src 'self'"
)
PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>cnnkit API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="ROOT/docs/favicon-32x32.png">
<link rel="stylesheet" href="ROOT/docs/swagger-ui.css"></head>
<body><div id="swagger"></div>
<script src="ROOT/docs/swagger-ui-bundle.js"></script><script src="ROOT/docs/start.js"></script></body></html>
"""
START = (
    b'SwaggerUIBundle({url: "ROOT/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null});'
)
MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"
REPOSITORY = "/v2/repository/models/"
LOAD, UNLOAD = (f"{REPOSITORY}{{model}}/{action}" for action in ("load", "unload"))


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one path takes and answers; `reply`, `asked` and `query` are types, `errors` statuses beside 401.

    `also` is a status whose reply is no error's but the answer's own, `several` what a list of pictures is
    answered, whole or line by line.
    """

    summary: str
    reply: Any
    errors: tuple[int, ...] = ()
    method: str = "get"
    asked: Any = None
    query: Any = None
    also: int | None = None
    several: tuple[Any, Any] | None = None
    kind: str = "application/json"


_MODEL = {
    "": Operation(summary="Describe a model", reply=messages.ModelDescription, errors=(404, 503, 504)),
    "/ready": Operation(summary="Is a model ready", reply=messages.ModelReadyReply, errors=(404,), also=503),
    "/config": Operation(
        summary="A model's configuration", reply=messages.ModelConfiguration, errors=(404, 503, 504)
    ),
    "/stats": Operation(
        summary="How often it was asked, and where the time went", reply=StatisticsReply, errors=(404,)
    ),
    "/infer": Operation(
        summary="Run a model on a batch, with the protocol's binary data and classification extensions",
        reply=messages.InferReply,
        errors=(400, 404, 408, 413, 415, 429, 503, 504),
        method="post",
        asked=messages.InferRequest,
    ),
}
OPERATIONS = {
    "/v1/classify": Operation(
        summary="Classify a picture, or several in a form or as base64 text",
        reply=messages.Classification,
        errors=(400, 404, 408, 413, 415, 422, 429, 503, 504),
        method="post",
        asked=messages.ClassifyRequest,
        query=messages.ClassifyQuery,
        several=(messages.PictureResults, messages.PictureResult),
    ),
    "/v1/models": Operation(summary="What is served", reply=messages.ModelList),
    "/v2": Operation(summary="Describe the server", reply=messages.ServerDescription),
    "/v2/health/live": Operation(summary="Is the process up", reply=messages.LiveReply),
    "/v2/health/ready": Operation(summary="Are the models warm", reply=messages.ReadyReply, also=503),
    **{f"{base}{action}": one for base in (MODEL, VERSION) for action, one in _MODEL.items()},
    "/v2/models/stats": Operation(summary="Statistics of every model", reply=StatisticsReply),
    "/v2/repository/index": Operation(
        summary="Every model and version",
        reply=list[messages.IndexEntry],
        errors=(400, 408, 413, 415),
        method="post",
        asked=messages.IndexRequest,
    ),
    LOAD: Operation(
        summary="Serve a model of the artifacts folder (with --model-control)",
        reply=messages.Done,
        errors=(400, 408, 413, 415),
        method="post",
        asked=messages.ControlRequest,
    ),
    UNLOAD: Operation(
        summary="Serve a model no more (with --model-control)",
        reply=messages.Done,
        errors=(400, 404, 408, 413, 415),
        method="post",
        asked=messages.ControlRequest,
    ),
    "/metrics": Operation(summary="For Prometheus", reply=str, kind="text/plain"),
}


def document(models: Sequence[str]) -> dict[str, Any]:
    """Return the whole description of a server with these models."""
    types = [
        messages.ErrorReply,
        *(
            kind
            for one in OPERATIONS.values()
            for kind in (one.reply, one.asked, *(one.several or ()))
            if kind is not None
        ),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths = {
        path: _path(path, one, dict(zip(map(repr, types), schemas, strict=True)), models)
        for path, one in OPERATIONS.items()
    }
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "cnnkit",
            "version": tool_versions().get("cnnkit", "unknown"),
            "description": "Open Inference Protocol v2 and picture classification.",
        },
        "paths": paths,
        "components": {"schemas": _as_openapi(components)},
    }


def _path(path: str, one: Operation, schemas: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    named = {"model": {**STRING, "enum": list(models)}, "version": STRING}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in named.items()
        if f"{{{name}}}" in path
    ]
    error = {"application/json": {"schema": schemas[repr(messages.ErrorReply)]}}
    answer: dict[str, Any] = {one.kind: {"schema": schemas[repr(one.reply)]}}
    if one.several is not None:
        whole, line = (schemas[repr(kind)] for kind in one.several)
        answer[one.kind] = {"schema": {"anyOf": [schemas[repr(one.reply)], whole]}}
        answer[NDJSON.decode()] = {"schema": line}
    contents = {**dict.fromkeys((401, *one.errors), error), **dict.fromkeys((200, one.also or 200), answer)}
    replies = {
        str(status): {"description": WORDS[status], "content": contents[status]}
        for status in sorted(contents)
    }
    operation: dict[str, Any] = {"summary": one.summary, "responses": replies}
    if one.query is not None:
        fields = _as_openapi(msgspec.json.schema(one.query))["$defs"][one.query.__name__]["properties"]
        form = {"type": "object", "properties": {"file": PICTURE, "files": MANY, **fields}}
        operation["requestBody"] = {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": schemas[repr(one.asked)]},
                **PICTURES,
            },
        }
        parameters += [{"name": name, "in": "query", "schema": field} for name, field in fields.items()]
    elif one.asked is not None:
        operation["requestBody"] = {
            "required": one.asked is messages.InferRequest,
            "content": {"application/json": {"schema": schemas[repr(one.asked)]}},
        }
    return {"parameters": parameters, one.method: operation}


def _as_openapi(schema: Any) -> Any:
    """Return a JSON Schema as OpenAPI 3.0 writes it, which knows no type `null` and no array of anything."""
    if isinstance(schema, list):
        return [_as_openapi(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _as_openapi(value) for key, value in schema.items() if value is not None}
    if {"type": "null"} in found.get("anyOf", ()):
        found = {**found.pop("anyOf")[0], **found, "nullable": True}
    if found.get("type") == "array":
        found.setdefault("items", {})
    return found


def documentation(models: Sequence[str], root_path: str) -> dict[str, Handler]:
    """Return what answers each path of the API's description, for a server with these models under a path."""
    described = document(models)
    if root_path:
        described["servers"] = [{"url": root_path}]
    found = {"/openapi.json": _constant(msgspec.json.encode(described), b"application/json")}
    root = root_path.encode()
    if find_spec("swagger_ui_bundle") is not None:
        found |= {
            "/docs": _constant(PAGE.replace(b"ROOT", root), b"text/html; charset=utf-8"),
            "/docs/start.js": _constant(START.replace(b"ROOT", root), b"text/javascript"),
            **{f"/docs/{name}": _file(name, kind) for name, kind in FILES.items()},
        }
    return found


def _constant(body: bytes, kind: bytes) -> Handler:
    async def handle(request: HttpRequest) -> Reply:
        return Reply(body=body, content_type=kind, headers={b"content-security-policy": POLICY})

    return handle


def _file(name: str, kind: bytes) -> Handler:
    async def handle(request: HttpRequest) -> Reply:
        vendor = resources.files("swagger_ui_bundle") / "vendor"
        folder = next(entry for entry in vendor.iterdir() if entry.name.startswith("swagger-ui"))
        return Reply(
            body=(folder / name).read_bytes(),
            content_type=kind,
            headers={b"cache-control": b"max-age=86400"},
        )

    return handle
