"""`--format web`: what is in the folder, how its precision is chosen, and how the command line proves it."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save

from exporters.browser.choosing import FolderMaker
from exporters.browser.folder import ABOUT, MODEL, PASSPORT, PROOF
from exporters.browser.runtime import FILES, WASM, runtime
from exporters.browser.visiting import require_browser
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from tests.refusing import full_disk
from tests.serve.conftest import serving
from tests.stamping import stamp
from toolkit.artifacts import hash_file, open_artifact, read_passport, sidecar, size_bytes, write_json
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, UnavailableError
from toolkit.graphs.reading import load_graph
from toolkit.publishing import proof_path

PACKED_WASM = f"{WASM}.gz"


@pytest.fixture
def copied(web_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "lenet-maxpool" / web_folder.name
    shutil.copytree(web_folder, folder)
    shutil.copy(sidecar(web_folder), sidecar(folder))
    return folder


def test_the_folder_is_small_on_disk_and_on_the_wire(web_folder: Path) -> None:
    assert size_bytes(web_folder) < 4_500_000
    kept = json.loads((web_folder / "sw.js").read_text().split("\n")[0][len("const kept = ") : -1])
    files = [name for name in kept["files"] if not name.endswith(".gz")][1:]
    sent = sum(min(p.stat().st_size for p in web_folder.glob(f"{name}*")) for name in files)
    assert sent + (web_folder / PACKED_WASM).stat().st_size < 4_000_000
    listed = len((web_folder / "sw.js").read_bytes().split(b"\n")[0])  # what is kept, which is data
    assert sum(path.stat().st_size for path in web_folder.glob("*.js")) - listed <= 30_000
    assert not (web_folder / WASM).exists()
    for packed in web_folder.glob("*.gz"):
        beside = packed.with_suffix("")
        assert packed.name == PACKED_WASM or gzip.decompress(packed.read_bytes()) == beside.read_bytes()


def test_what_the_page_reads_is_the_graphs_own_passport_and_proof(web_folder: Path) -> None:
    known = open_artifact(web_folder).passport
    inside = json.loads((web_folder / PASSPORT).read_text())
    assert inside["sha256"] == hash_file(web_folder / MODEL) == known.source_sha256
    assert inside["proof_sha256"] == hash_file(web_folder / PROOF)
    assert inside["preprocessing"]["interpolation"] == "box-bilinear"  # also what older passports leave out
    about = json.loads((web_folder / ABOUT).read_text())
    assert about["sha256"][PASSPORT] == hash_file(web_folder / PASSPORT)
    assert hashlib.sha256(gzip.decompress((web_folder / PACKED_WASM).read_bytes())).hexdigest() == FILES[WASM]


def test_the_precision_that_nobody_typed_is_chosen_in_the_browser_and_says_why(web_folder: Path) -> None:
    known = open_artifact(web_folder).passport
    assert known.precision_why
    about = json.loads((web_folder / ABOUT).read_text())
    assert about["why"] == known.precision_why
    # which one is taken hangs on the clock; what is said of each is the same each time
    judged = r"int8: loses -?\d+\.\d\d points of 20 allowed, [\d.]+ ms in int8 and [\d.]+ in fp32"
    passed_over = r"int8 (is slower here|failed) \(.+\); fp16(:| is slower here| failed)"
    assert re.match(f"{judged}|{passed_over}", known.precision_why)
    assert (known.precision == "int8") == bool(re.match(judged, known.precision_why))
    assert (known.precision == "fp16") == ("fp16: " in known.precision_why)
    assert (known.accuracy_drop is not None) == (known.precision == "int8")
    (record,) = known.verified
    assert (record.images, record.agree) == (64, 64)
    threads = about["threads"]
    assert record.device.endswith(f", {threads} thread{'s' if threads > 1 else ''}")
    assert "Chromium" in record.device
    assert record.tools["onnxruntime-web"] == about["onnxruntime_web"]


def test_verify_answers_the_proof_in_a_browser_and_notes_it(copied: Path) -> None:
    found = cnnkit_json("verify", copied)
    assert (found["ok"], found["images"], found["agree"]) == (True, 64, 64)
    assert found["latency_ms"] > 0
    assert len(read_passport(copied).verified) == 2


def test_another_answer_than_the_proofs_is_status_4(copied: Path) -> None:
    with safe_open(copied / PROOF, framework="numpy") as file:
        arrays, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    arrays["logits"] = arrays["logits"].copy()
    arrays["logits"][7] += 100  # more than int8 may differ by
    (copied / PROOF).write_bytes(save(arrays, metadata=facts))
    inside = json.loads((copied / PASSPORT).read_text())
    write_json(copied / PASSPORT, {**inside, "proof_sha256": hash_file(copied / PROOF)})
    about = json.loads((copied / ABOUT).read_text())
    hashes = {**about["sha256"], PASSPORT: hash_file(copied / PASSPORT)}
    write_json(copied / ABOUT, {**about, "sha256": hashes})
    known = dataclasses.replace(read_passport(copied), sha256=hash_file(copied))
    write_json(sidecar(copied), known.to_json())
    refused = cnnkit_run("verify", copied)
    assert refused.exit_code == 4
    assert "63 of 64 agree" in refused.stderr
    assert "images that disagree: 7" in refused.stderr


def test_without_a_browser_the_export_says_so_and_verify_what_to_install(
    copied: Path, web_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CNNKIT_BROWSER", "none")
    refused = cnnkit_run("verify", copied)
    assert refused.exit_code == 3
    assert "install Chromium or Firefox" in refused.stderr
    source = web_folder.with_name("lenet-maxpool.onnx")
    result = cnnkit_run("export", source, "--format", "web", "--artifacts", tmp_path, "--name", "other")
    assert result.exit_code == 0, result.stderr
    assert "not run in a browser, as none is here" in result.stderr
    known = open_artifact(tmp_path / "other" / "other.web").passport
    assert (known.precision, known.verified) == ("fp32", ())
    assert known.precision_why == "no browser was here to try smaller ones in"
    monkeypatch.setenv("CNNKIT_BROWSER", "netscape")
    refused = cnnkit_run("verify", copied)
    assert refused.exit_code == 3
    assert "names netscape, which is not here" in refused.stderr


def test_the_runtime_is_the_release_that_was_pinned(
    tmp_path: Path, web_runtime: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match=r"holds no ort-wasm-simd-threaded\.wasm: unpack what `npm pack"):
        runtime(tmp_path)
    for name in FILES:
        (tmp_path / name).write_bytes(b"another release")
    with pytest.raises(CorruptError, match=r"is not onnxruntime-web 1\.30\.0's"):
        runtime(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"npm, which brings it, is not here.*--runtime DIR"):
        runtime()


def test_a_runtime_that_finds_no_room_names_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / WASM).write_bytes(random.Random(0).randbytes(50_000))
    said = r"cannot write .*onnxruntime-web-1\.30\.0: .*free some space or set \$XDG_CACHE_HOME to another"
    with full_disk(1000), pytest.raises(CnnkitError, match=said):
        runtime(tmp_path, files={WASM: hash_file(tmp_path / WASM)})
    assert not list((tmp_path / "cache").rglob("*onnxruntime*"))


def test_serve_shows_the_folder_with_the_headers_that_threads_take(copied: Path) -> None:
    with serving(copied.parents[1], "lenet-maxpool", "--web") as server:
        for path, kind in (("/", "text/html"), ("/ort.wasm.min.mjs", "text/javascript")):
            reply = server.ask("GET", path)
            assert reply.status == 200
            assert reply.headers["content-type"].startswith(kind)
            assert reply.headers["cross-origin-opener-policy"] == "same-origin"
            assert reply.headers["cross-origin-embedder-policy"] == "require-corp"
        assert server.ask("GET", "/../lenet-maxpool.web.json").status == 404
        assert server.ask("POST", "/record/none", b"{}").status == 404
    refused = cnnkit_run("serve", "lenet-maxpool", "--web", "--auth", "me:secret")
    assert refused.exit_code == 2
    assert "not with --auth" in refused.stderr
    refused = cnnkit_run("serve", "alexnet", "--web", "--artifacts", copied.parents[1])
    assert refused.exit_code == 1
    assert "`cnnkit export alexnet --format web` writes one" in refused.stderr


@pytest.mark.slow
def test_firefox_answers_the_proof_too(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    if firefox is None:
        pytest.skip("Firefox is not installed (Debian: apt-get install firefox-esr)")
    monkeypatch.setenv("CNNKIT_BROWSER", firefox)
    assert cnnkit_json("verify", copied)["ok"]
    assert "Firefox" in read_passport(copied).verified[-1].device


@pytest.mark.slow
def test_the_types_are_typescripts(web_folder: Path, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    use = tmp_path / "use.ts"
    shutil.copy(web_folder / "classifier.d.ts", tmp_path / "classifier.d.ts")
    use.write_text(
        'import { load, type Classified } from "./classifier.js";\n'
        'const net = await load(".", { threads: 1 });\n'
        "const found: Classified = await net.classify(document.querySelector('canvas')!, { top: 3 });\n"
        "const shares: number[] = found.top.map((one) => one.probability);\n"
        "console.log(shares, (await net.verify()).agree);\n"
    )
    options = (
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "es2022",
        "--moduleResolution",
        "bundler",
    )
    command = [npm, "exec", "--yes", "--package=typescript@5.9.3", "--", "tsc", *options, "use.ts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_operator_that_browsers_lack_is_found_at_export(
    web_folder: Path, web_runtime: Path, tmp_path: Path
) -> None:
    beside = web_folder.with_name("lenet-maxpool.onnx")
    graph = load_graph(beside)
    next(node for node in graph.graph.node if node.op_type == "MaxPool").domain = "example.org"
    path = tmp_path / beside.name
    path.write_bytes(graph.SerializeToString())
    stamp(path, read_passport(beside))
    shutil.copy(proof_path(beside), proof_path(path))
    folder = tmp_path / "made"
    folder.mkdir()
    maker = FolderMaker(
        folder=folder,
        runtime=web_runtime,
        webgpu=None,
        browser=require_browser(),
        made=lambda precision: pytest.fail("nothing smaller is tried of what does not run"),
        tell=print,
    )
    said = r"does not run in Chromium [\d.]+: This browser cannot run the network: .*example\.org"
    with pytest.raises(CnnkitError, match=said):
        maker.fill(open_artifact(path), open_precision=True)
