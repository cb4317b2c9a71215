"""The API's description in OpenAPI 3.0, written by hand because the routes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.checkpoints import tool_versions

VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


STRING: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}
SHAPE: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
PARAMETERS: dict[str, Any] = {"type": "object", "additionalProperties": True}

STATS = _object({"model_stats": {"type": "array", "items": PARAMETERS}}, "model_stats")

SCHEMAS: dict[str, Any] = {
    "Error": _object({"error": STRING}, "error"),
    "Server": _object(
        {"name": STRING, "version": STRING, "extensions": {"type": "array", "items": STRING}},
        "name",
        "version",
        "extensions",
    ),
    "TensorDescription": _object(
        {"name": STRING, "datatype": STRING, "shape": SHAPE}, "name", "datatype", "shape"
    ),
    "Model": _object(
        {
            "name": STRING,
            "versions": {"type": "array", "items": STRING},
            "platform": STRING,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorDescription"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorDescription"}},
        },
        "name",
        "platform",
        "inputs",
        "outputs",
    ),
    "InferRequest": _object(
        {
            "id": STRING,
            "parameters": PARAMETERS,
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": _object(
                    {
                        "name": STRING,
                        "shape": SHAPE,
                        "datatype": STRING,
                        "parameters": PARAMETERS,
                        "data": {"type": "array", "items": {}},
                    },
                    "name",
                    "shape",
                    "datatype",
                ),
            },
            "outputs": {
                "type": "array",
                "items": _object({"name": STRING, "parameters": PARAMETERS}, "name"),
            },
        },
        "inputs",
    ),
    "InferReply": _object(
        {
            "model_name": STRING,
            "model_version": STRING,
            "id": STRING,
            "outputs": {
                "type": "array",
                "items": _object(
                    {
                        "name": STRING,
                        "datatype": STRING,
                        "shape": SHAPE,
                        "data": {"type": "array", "items": {}},
                        "parameters": PARAMETERS,
                    },
                    "name",
                    "datatype",
                    "shape",
                ),
            },
        },
        "model_name",
        "outputs",
    ),
    "Classification": _object(
        {
            "model": STRING,
            "version": STRING,
            "backend": STRING,
            "sha256": STRING,
            "inverted": {"type": "boolean"},
            "top": {
                "type": "array",
                "items": _object({"label": STRING, "probability": NUMBER}, "label", "probability"),
            },
            "latency_ms": _object(
                {"wait": NUMBER, "decode": NUMBER, "preprocess": NUMBER, "queue": NUMBER, "infer": NUMBER},
                "wait",
                "decode",
                "preprocess",
                "queue",
                "infer",
            ),
        },
        "model",
        "version",
        "backend",
        "sha256",
        "inverted",
        "top",
        "latency_ms",
    ),
}

WORDS = {
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


def _replies(schema: dict[str, Any], *errors: int, kind: str = "application/json") -> dict[str, Any]:
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: dict[str, Any] = {"200": {"description": "The answer.", "content": {kind: {"schema": schema}}}}
    for status in sorted({*errors, 401}):
        found[str(status)] = {"description": WORDS[status], "content": problem}
    return found


def _operation(summary: str, replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"summary": summary, "responses": replies, **more}


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _model_paths(base: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    body = {
        "required": True,
        "content": {"application/json": {"schema": _schema("InferRequest")}},
    }
    infer = _operation(
        "Run a model on a batch",
        _replies(_schema("InferReply"), 400, 404, 408, 413, 415, 429, 503, 504),
        requestBody=body,
        description="Open Inference Protocol v2, with its binary tensor data and classification extensions.",
    )
    state = _object({"name": STRING, "ready": {"type": "boolean"}}, "ready")
    ready = _replies(state, 404)
    ready["503"] = {**ready["200"], "description": WORDS[503]}
    return {
        base: {
            "parameters": parameters,
            "get": _operation("Describe a model", _replies(_schema("Model"), 404, 503, 504)),
        },
        f"{base}/ready": {"parameters": parameters, "get": _operation("Is a model ready", ready)},
        f"{base}/config": {
            "parameters": parameters,
            "get": _operation("A model's configuration", _replies(PARAMETERS, 404, 503, 504)),
        },
        f"{base}/stats": {
            "parameters": parameters,
            "get": _operation("How often it was asked, and where the time went", _replies(STATS, 404)),
        },
        f"{base}/infer": {"parameters": parameters, "post": infer},
    }


def _classify() -> dict[str, Any]:
    picture: dict[str, Any] = {"type": "string", "format": "binary"}
    query = [
        {"name": "top", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 9999}},
        {"name": "invert", "in": "query", "schema": {"type": "string", "enum": ["auto", "always", "never"]}},
        {"name": "model", "in": "query", "schema": STRING},
        {"name": "version", "in": "query", "schema": STRING},
    ]
    content = {
        "multipart/form-data": {"schema": _object({"file": picture}, "file")},
        "application/octet-stream": {"schema": picture},
        "image/*": {"schema": picture},
    }
    return _operation(
        "Classify a picture",
        _replies(_schema("Classification"), 400, 404, 408, 413, 415, 422, 429, 503, 504),
        parameters=query,
        requestBody={"required": True, "content": content},
    )


def _index() -> dict[str, Any]:
    entry = _object({"name": STRING, "version": STRING, "state": STRING, "reason": STRING}, "name", "state")
    asked = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    return _operation(
        "Every model and version",
        _replies({"type": "array", "items": entry}, 400, 408, 413, 415),
        requestBody={"content": {"application/json": {"schema": asked}}},
    )


def document(models: Sequence[str]) -> dict[str, Any]:
    """Return the whole description of a server with these models."""
    known = {"type": "string", "enum": list(models)}
    name = {"name": "model", "in": "path", "required": True, "schema": known}
    flag = _replies(_object({"ready": {"type": "boolean"}}, "ready"))
    flag["503"] = {**flag["200"], "description": WORDS[503]}
    live = _replies(_object({"live": {"type": "boolean"}}, "live"))
    listed = _object({"models": {"type": "array", "items": PARAMETERS}}, "models")
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "cnnkit",
            "version": tool_versions().get("cnnkit", "unknown"),
            "description": "Open Inference Protocol v2 and picture classification.",
        },
        "paths": {
            "/v1/classify": {"post": _classify()},
            "/v1/models": {"get": _operation("What is served", _replies(listed))},
            "/v2": {"get": _operation("Describe the server", _replies(_schema("Server")))},
            "/v2/health/live": {"get": _operation("Is the process up", live)},
            "/v2/health/ready": {"get": _operation("Are the models warm", flag)},
            **_model_paths("/v2/models/{model}", [name]),
            **_model_paths("/v2/models/{model}/versions/{version}", [name, VERSION]),
            "/v2/models/stats": {"get": _operation("Statistics of every model", _replies(STATS))},
            "/v2/repository/index": {"post": _index()},
            "/metrics": {"get": _operation("For Prometheus", _replies(STRING, kind="text/plain"))},
        },
        "components": {"schemas": SCHEMAS},
    }
