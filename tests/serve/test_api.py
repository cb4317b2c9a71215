"""The API over real sockets: values equal to the engine's own, and every mistake answered with its status."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve.classifier import Classifier
from serve.settings import OpeningSettings
from tests.serve.conftest import MODEL, Server, png, serving, tensor

Rows = np.ndarray[Any, np.dtype[np.float32]]
INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture(scope="module")
def engine(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classifier]:
    choice = OpeningSettings(root=tmp_path_factory.mktemp("empty"))
    classifier = Classifier(choice.find(MODEL, "ort"), "ort")
    yield classifier
    classifier.close()


def test_the_server_says_what_it_serves(api: Server) -> None:
    assert api.ask("GET", "/v2/health/live").status == 200
    assert api.ask("GET", "/v2/health/ready").json == {"ready": True}
    assert api.ask("GET", "/v2").json["name"] == "cnnkit"
    model = api.ask("GET", f"/v2/models/{MODEL}").json
    assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
    assert "fp32" in model["versions"]
    assert api.ask("GET", f"/v2/models/{MODEL}/versions/fp32/ready").json["ready"] is True


def test_infer_equals_a_direct_run_of_the_engine(api: Server, engine: Classifier, rows: Rows) -> None:
    answer = api.infer({"id": "mine", "inputs": [tensor(rows)]})
    assert answer.status == 200
    assert answer.json["id"] == "mine"
    output = answer.json["outputs"][0]
    found = np.array(output["data"], dtype=np.float32).reshape(output["shape"])
    np.testing.assert_allclose(found, engine.run(rows)[0], rtol=1e-5, atol=1e-5)


def test_nested_data_is_the_same_as_flat_data(api: Server, rows: Rows) -> None:
    flat = api.infer({"inputs": [tensor(rows)]}).json["outputs"]
    nested = api.infer({"inputs": [tensor(rows, data=rows.tolist())]}).json["outputs"]
    np.testing.assert_allclose(nested[0]["data"], flat[0]["data"], rtol=1e-5)


def test_every_answer_names_its_engine_and_request(api: Server, rows: Rows, engine: Classifier) -> None:
    request = json.dumps({"inputs": [tensor(rows)]}).encode()
    answer = api.ask("POST", INFER, request, {"X-Request-Id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-model-sha256"] == engine.artifact.passport.sha256
    assert (answer.headers["x-backend"], answer.headers["x-precision"]) == ("ort", "fp32")
    odd = api.ask("GET", "/v2", headers={"X-Request-Id": "a b<c>"})
    assert "<" not in odd.headers["x-request-id"]


def test_binary_tensors_go_both_ways(api: Server, engine: Classifier, rows: Rows) -> None:
    entry = {k: v for k, v in tensor(rows).items() if k != "data"}
    entry["parameters"] = {"binary_data_size": rows.nbytes}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    answer = api.ask(
        "POST", INFER, head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}
    )
    assert answer.status == 200
    at = int(answer.headers["inference-header-content-length"])
    output = json.loads(answer.body[:at])["outputs"][0]
    assert output["parameters"]["binary_data_size"] == len(answer.body) - at
    found = np.frombuffer(answer.body[at:], dtype=np.float32).reshape(output["shape"])
    np.testing.assert_allclose(found, engine.run(rows)[0], rtol=1e-5, atol=1e-5)


def test_the_raw_binary_request_needs_no_json(api: Server, engine: Classifier, rows: Rows) -> None:
    answer = api.ask("POST", INFER, rows.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert answer.status == 200
    at = int(answer.headers["inference-header-content-length"])
    found = np.frombuffer(answer.body[at:], dtype=np.float32).reshape(3, 10)
    np.testing.assert_allclose(found, engine.run(rows)[0], rtol=1e-5, atol=1e-5)


def test_classification_gives_value_index_and_label(api: Server, engine: Classifier, rows: Rows) -> None:
    wanted = [{"name": "logits", "parameters": {"classification": 2}}]
    output = api.infer({"inputs": [tensor(rows)], "outputs": wanted}).json["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [3, 2])
    value, index, label = output["data"][0].split(":", 2)
    logits = engine.run(rows)[0][0]
    assert int(index) == int(logits.argmax())
    assert label == engine.classes[int(index)]
    assert float(value) == pytest.approx(float(logits.max()), rel=1e-4)


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_may_be_compressed_both_ways(api: Server, rows: Rows, name: str, pack: Any) -> None:
    many = np.repeat(rows, 12, axis=0)
    body = pack(json.dumps({"inputs": [tensor(many)]}).encode())
    answer = api.ask("POST", INFER, body, {"Content-Encoding": name, "Accept-Encoding": name})
    assert answer.status == 200
    assert answer.headers["content-encoding"] == name
    plain = gzip.decompress(answer.body) if name == "gzip" else zlib.decompress(answer.body)
    assert json.loads(plain)["outputs"][0]["shape"] == [36, 10]


def test_gzip_may_have_several_members(api: Server, rows: Rows) -> None:
    body = json.dumps({"inputs": [tensor(rows)]}).encode()
    members = [gzip.compress(body[at : at + 9_000]) for at in range(0, len(body), 9_000)]
    headers = {"Content-Encoding": "gzip"}
    assert len(members) > 1
    assert api.ask("POST", INFER, b"".join(members), headers).status == 200
    assert api.ask("POST", INFER, b"".join(members) + b"tail", headers).status == 400
    assert api.ask("POST", INFER, gzip.compress(b"") * 1_000 + members[0], headers).status == 400
    assert api.ask("POST", INFER, gzip.compress(b" " * 2**20) * 33, headers).status == 413


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "x"}, "no input 'x'"),
        ({"datatype": "FP64"}, "FP32, not FP64"),
        ({"shape": [1, 1, 28, 27]}, "takes the shape"),
        ({"shape": [0, 1, 28, 28], "data": []}, "a batch of 0"),
        ({"shape": [10**9, 1, 28, 28]}, "a batch of 1000000000"),
        ({"shape": [2, 1, 28, 28]}, "says otherwise"),
        ({"shape": [True, 1, 28, 28]}, "takes the shape"),
        ({"data": ["1.0"] * 784}, "must be numbers"),
        ({"data": [True] * 784}, "must be numbers"),
        ({"data": [None] * 784}, "must be numbers"),
        ({"data": [0.5, True] * 392}, "must be numbers"),
        ({"data": [[1.0]]}, "must be numbers"),
        ({"data": [[1.0], [1.0, 2.0]]}, "2 rows, the shape [1, 1, 28, 28] says otherwise"),
        ({"data": [1e39] * 784}, "NaN or infinite"),
        ({"data": [0] * 783 + [10**400]}, "NaN or infinite"),
        ({"data": 5}, "neither data nor"),
        ({"parameters": {"binary_data_size": 3136}}, "binary_data_size does not fit"),
        ({"parameters": {"binary_data_size": 0.0}}, "binary_data_size does not fit"),
        ({"parameters": {"shared_memory_region": "x"}}, "shared memory"),
        ({"parameters": []}, "must be an object"),
    ],
)
def test_a_clients_mistake_is_400_in_words(
    api: Server, rows: Rows, changes: dict[str, Any], why: str
) -> None:
    answer = api.infer({"inputs": [tensor(rows[:1], **changes)]})
    assert answer.status == 400
    assert why in answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b"[" * 100_000,
        b'{"inputs": [NaN]}',
        b'{"inputs": [{"name": ' + b"[" * 1_000 + b"]" * 1_000 + b"}]}",
    ],
)
def test_what_is_no_request_is_400(api: Server, body: bytes) -> None:
    assert api.ask("POST", INFER, body).status == 400


def test_numbers_so_large_that_the_answer_overflows_are_refused(api: Server) -> None:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(1, 1, 28, 28))
    answer = api.infer({"inputs": [tensor((signs * 3.4e38).astype(np.float32))]})
    assert answer.status == 400
    assert "not finite" in answer.json["error"]


@pytest.mark.parametrize(
    ("outputs", "extra"),
    [
        ([{"name": "x"}], {}),
        ([{"name": "logits"}, {"name": "logits"}], {}),
        ([{"name": "logits", "parameters": {"classification": -1}}], {}),
        ([{"name": "logits", "parameters": {"binary_data": 1}}], {}),
        ("logits", {}),
        (None, {"id": 7}),
        (None, {"parameters": {"timeout": "soon"}}),
    ],
)
def test_odd_wishes_are_400(api: Server, rows: Rows, outputs: Any, extra: dict[str, Any]) -> None:
    assert api.infer({"inputs": [tensor(rows)], "outputs": outputs, **extra}).status == 400


def test_unknown_names_are_404_and_wrong_methods_405(api: Server) -> None:
    for path in ("/v2/models/nope", "/v2/models/..%2f..%2fetc", f"/v2/models/{MODEL}/versions/9", "/nope"):
        assert api.ask("GET", path).status == 404
    wrong = api.ask("GET", INFER)
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_bodies_over_the_limit_are_413_and_bombs_never_unpack(api: Server) -> None:
    headers = {"Content-Length": str(10**12)}
    assert api.ask("POST", INFER, b"", headers).status == 413
    bomb = gzip.compress(b" " * (64 * 2**20))
    assert api.ask("POST", INFER, bomb, {"Content-Encoding": "gzip"}).status == 413
    assert api.ask("POST", INFER, bomb[:-9], {"Content-Encoding": "gzip"}).status in (400, 413)
    assert api.ask("POST", INFER, b"x", {"Content-Encoding": "gzip"}).status == 400
    assert api.ask("POST", INFER, b"x", {"Content-Encoding": "br"}).status == 415


def form(data: bytes, field: str = "file") -> tuple[bytes, dict[str, str]]:
    head = f'--B\r\nContent-Disposition: form-data; name="{field}"; filename="a.png"\r\n\r\n'.encode()
    return head + data + b"\r\n--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}


def test_classify_takes_bytes_and_forms_and_says_the_same(api: Server) -> None:
    raw = api.ask("POST", "/v1/classify?top=10", png())
    assert raw.status == 200
    assert sum(entry["probability"] for entry in raw.json["top"]) == pytest.approx(1.0)
    assert set(raw.json["latency_ms"]) == {"wait", "decode", "preprocess", "queue", "infer"}
    body, headers = form(png())
    assert api.ask("POST", "/v1/classify?top=10", body, headers).json["top"] == raw.json["top"]
    as_curl_sends = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.ask("POST", "/v1/classify?top=10", png(), as_curl_sends).json["top"] == raw.json["top"]


def parts(*fields: tuple[str, str | bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a form: bytes are files, texts are fields."""
    found = b""
    for at, (name, value) in enumerate(fields):
        file = f'; filename="{at}.png"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        found += (
            f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
        )
    return found + b"--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}


def test_a_forms_fields_say_what_the_query_would(api: Server) -> None:
    out = io.BytesIO()
    Image.new("L", (40, 40), 255).save(out, "PNG")
    fields = (("top", "10"), ("invert", "never"), ("model", MODEL), ("version", "fp32"))
    answer = api.ask("POST", "/v1/classify", *parts(("file", out.getvalue()), *fields))
    assert (answer.status, len(answer.json["top"]), answer.json["inverted"]) == (200, 10, False)


@pytest.mark.parametrize(
    ("fields", "query", "status"),
    [
        ([("color", "red")], "", 400),
        ([("top", "0")], "", 400),
        ([("top", "2")], "?top=2", 400),
        ([("top", "2"), ("top", "2")], "", 400),
        ([("top", b"2")], "", 400),
        ([("invert", "maybe")], "", 400),
        ([("model", "lenet-minpool")], "", 404),
        ([("version", "int3")], "", 404),
    ],
)
def test_fields_that_say_nothing_possible_are_refused(
    api: Server, fields: list[tuple[str, str | bytes]], query: str, status: int
) -> None:
    answer = api.ask("POST", f"/v1/classify{query}", *parts(("file", png()), *fields))
    assert (answer.status, bool(answer.json["error"])) == (status, True)


def test_several_pictures_are_answered_each_for_itself(api: Server) -> None:
    alone = api.ask("POST", "/v1/classify", png()).json["top"]
    files: list[tuple[str, str | bytes]] = [("file", png()), ("file", b"no picture"), ("file", noise()[:500])]
    body, kind = parts(*files, ("file", b""))
    first, *bad = api.ask("POST", "/v1/classify", body, kind).json["results"]
    assert (first["file"], first["answer"]["top"]) == ("0.png", alone)
    assert [(one["file"], one["status"]) for one in bad] == [("1.png", 415), ("2.png", 422), ("3.png", 422)]
    lines = api.ask("POST", "/v1/classify", body, {**kind, "Accept": "application/x-ndjson"})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["file"] for line in lines.body.splitlines()] == [f"{at}.png" for at in range(4)]
    one = api.ask("POST", "/v1/classify", *parts(("files", png())))
    assert [result["answer"]["top"] for result in one.json["results"]] == [alone]
    many = api.ask("POST", "/v1/classify", *parts(*[("file", png())] * 90))
    assert (many.status, "64 are the most" in many.json["error"]) == (400, True)


def test_pictures_may_come_as_base64_text_in_json(api: Server) -> None:
    kind = {"Content-Type": "application/json; charset=utf-8"}
    text = base64.b64encode(png()).decode()
    raw = api.ask("POST", "/v1/classify?top=10", png()).json["top"]
    for said in (text, f"data:image/png;base64,{text}"):
        body = json.dumps({"image": said, "top": 10}).encode()
        assert api.ask("POST", "/v1/classify", body, kind).json["top"] == raw
    body = json.dumps({"images": [text, text], "top": 10}).encode()
    found = api.ask("POST", "/v1/classify", body, kind).json["results"]
    assert [(one["file"], one["answer"]["top"]) for one in found] == [("images[0]", raw), ("images[1]", raw)]


def test_classify_inverts_dark_on_light_and_says_so(api: Server) -> None:
    out = io.BytesIO()
    Image.new("L", (40, 40), 255).save(out, "PNG")
    assert api.ask("POST", "/v1/classify", out.getvalue()).json["inverted"] is True
    assert api.ask("POST", "/v1/classify?invert=never", out.getvalue()).json["inverted"] is False


def noise() -> bytes:
    """Return a PNG too varied to compress, so that half of it is still a picture's beginning."""
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def png_bomb(side: int) -> bytes:
    """Return a tiny PNG that claims side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 422),
        (b"no picture", {}, 415),
        (b'{"a": 1}', {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "application/json"}, 400),
        (b'{"image": "no base64!"}', {"Content-Type": "application/json"}, 400),
        (b'{"image": ""}', {"Content-Type": "application/json"}, 422),
        (b'{"image": "AA==", "images": ["AA=="]}', {"Content-Type": "application/json"}, 400),
        (b'{"image": "AA=="}', {"Content-Type": "application/json"}, 415),
        (b"a picture", {"Content-Type": "text/plain"}, 415),
        (noise()[:500], {}, 422),
        (png_bomb(40_000), {}, 413),
        (form(png(), field="x")[0], form(b"")[1], 400),
        (form(b"")[0], form(b"")[1], 422),
        (form(png())[0][:-12], form(b"")[1], 400),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", {"Content-Type": f"multipart/form-data; boundary={'B' * 300}"}, 400),
        (b"\0" * (21 * 2**20), {}, 413),
    ],
)
def test_what_is_no_picture_gets_its_own_status(
    api: Server, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = api.ask("POST", "/v1/classify", body, headers)
    assert answer.status == status
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("top=0", 400),
        ("top=x", 400),
        ("invert=maybe", 400),
        ("model=../../etc/passwd", 404),
        ("unknown=1", 400),
        ("top=1&top=2", 400),
        ("version=int3", 404),
        ("model=%ff", 400),
    ],
)
def test_odd_queries_are_refused(api: Server, query: str, status: int) -> None:
    assert api.ask("POST", f"/v1/classify?{query}", png()).status == status


def test_other_sites_and_foreign_names_are_kept_out(api: Server) -> None:
    assert api.ask("GET", "/v2", headers={"Origin": "http://evil.example"}).status == 403
    assert api.ask("GET", "/v2", headers={"Host": "evil.example"}).status == 421
    assert "access-control-allow-origin" not in api.ask("GET", "/v2").headers


def test_metrics_count_what_happened(api: Server, rows: Rows) -> None:
    api.infer({"inputs": [tensor(rows)]})
    api.ask("POST", "/v1/classify", png())
    text = api.ask("GET", "/metrics").body.decode()
    for name in ("requests_total", "errors_total", "queue_seconds", "infer_seconds", "batch_rows"):
        assert f"cnnkit_{name}" in text
    assert "cnnkit_decode_seconds_count" in text
    assert "cnnkit_decode_wait_seconds_count" in text
    assert "cnnkit_waiting_pictures 0.0" in text
    assert 'route="/v2/models/{model}/infer",status="200"' in text
    assert 'cnnkit_request_seconds_count{route="/v1/classify"}' in text
    assert f'cnnkit_infer_seconds_count{{model="{MODEL}",version="fp32"}}' in text


def test_docs_come_from_this_server_alone(api: Server) -> None:
    pytest.importorskip("swagger_ui_bundle", reason="Swagger's files are not installed (extra serve)")
    html = api.ask("GET", "/docs").body.decode()
    assert "http" not in html.replace('lang="en"', "")
    assert api.ask("GET", "/docs/swagger-ui-bundle.js").status == 200


def test_passwords_and_tokens_are_asked_for(shipped: Path, tmp_path: Path) -> None:
    args = (MODEL, "--no-page", "--auth", "ann:secret", "--token", "t0k")
    with serving(tmp_path, *args) as server:
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert server.ask("GET", "/v2").status == 401
        for scheme, value in (
            ("Basic", base64.b64encode(b"ann:secret").decode()),
            ("Basic", base64.b64encode(b"any:t0k").decode()),
            ("Bearer", "t0k"),
        ):
            assert server.ask("GET", "/v2", headers={"Authorization": f"{scheme} {value}"}).status == 200
        for wrong in ("Bearer x", "Bearer", "Basic !!", "Basic YW5uOng=", "Digest t0k"):
            assert server.ask("GET", "/v2", headers={"Authorization": wrong}).status == 401
