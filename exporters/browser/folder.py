"""The folder that a static host serves: page, model, runtime, passport and proof, and how to serve it."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exporters.browser.public import public_graph, public_passport, without_places
from exporters.browser.runtime import FILES, VERSION, WEBGPU_FILES, packed_name
from toolkit.artifacts import Artifact, hash_file
from toolkit.checkpoints import tool_versions
from toolkit.errors import needs_extra
from toolkit.publishing import proof_path
from toolkit.sites import HEADERS

PAGE = Path(__file__).parent / "page"
WEBGPU = Path(__file__).parent / "webgpu.js"
MODEL, PROOF, PASSPORT, ABOUT = "model.onnx", "proof.safetensors", "passport.json", "web.json"
# what the page says, by language; it becomes a part of index.html
WORDS = "words.json"
TEXTS = (".html", ".css", ".js", ".mjs", ".json", ".svg", ".webmanifest", ".ts")
# a packed copy is worth its place from here on
WORTH = 0.9
# what a browser asks for on a visit; the others are for hosts and developers
FOR_HOSTS = frozenset({"_headers", "serve.json", "nginx.conf", "classifier.d.ts"})
# what few pages ask for: kept on a device once its page did
SELDOM = frozenset(map(packed_name, WEBGPU_FILES))


@dataclass(frozen=True, kw_only=True)
class WebFacts:
    """What the page is told besides the passport: the why of its precision, threads, and if with WebGPU."""

    why: str | None = None
    threads: int = 1
    webgpu: bool = False


def fill_folder(
    folder: Path, source: Artifact, runtime: Path, facts: WebFacts, webgpu: Path | None = None
) -> None:
    """Write everything that a browser needs to run an ONNX file with its proof, and that a host needs.

    The wasm lies there packed alone, and the page unpacks it: so 3.7 MB are stored and sent by every host,
    where 14.2 and a packed copy beside it would be sent small by few. `webgpu` is a folder with WEBGPU_FILES.
    """
    name = source.passport.model
    for path in sorted(PAGE.iterdir()):
        if path.suffix == ".js":
            (folder / path.name).write_text(_script(path), "utf-8")
        elif path.name != WORDS:
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "index.html").write_text(_index(name), "utf-8")
    if webgpu:
        (folder / WEBGPU.name).write_text(_script(WEBGPU), "utf-8")
        _copy(webgpu, WEBGPU_FILES, folder)
    _copy(runtime, FILES, folder)
    (folder / MODEL).write_bytes(public_graph(source))
    (folder / PROOF).write_bytes(proof_path(source.path).read_bytes())
    _write_json(folder / PASSPORT, public_passport(source.passport, hash_file(folder / MODEL)).to_json())
    _write_json(folder / "manifest.webmanifest", _manifest(name))
    _write_hosting(folder)
    _write_facts(folder, facts)


def _copy(runtime: Path, files: Iterable[str], folder: Path) -> None:
    for name in map(packed_name, files):
        (folder / name).write_bytes((runtime / name).read_bytes())


def _script(path: Path) -> str:
    """Return a script without comments and blank space; every name in it stays.

    rjsmin (Apache-2.0, no dependencies) does it, as it is Python: npm's minifiers rename as well, and would
    take Node at each export. Raises MissingExtraError without it.
    """
    with needs_extra("export"):
        from rjsmin import jsmin
    return str(jsmin(path.read_text("utf-8")))


def _index(name: str) -> str:
    """Return the page with the network's name, and with all that it says in any language."""
    words = json.dumps(json.loads((PAGE / WORDS).read_text("utf-8")), ensure_ascii=False)
    page = (PAGE / "index.html").read_text("utf-8").replace("{{words}}", words.replace("</", "<\\/"))
    return page.replace("{{name}}", html.escape(name))


def change_facts(folder: Path, facts: WebFacts) -> None:
    """Write again what the page is told, in a folder that is filled already."""
    for packed in folder.glob("*.gz"):
        if not packed.name.endswith(".wasm.gz"):
            packed.unlink()
    (folder / "sw.js").write_text(_script(PAGE / "sw.js"), "utf-8")
    _write_facts(folder, facts)


def _write_facts(folder: Path, facts: WebFacts) -> None:
    hashes = {
        PASSPORT: hashlib.sha256((folder / PASSPORT).read_bytes()).hexdigest(),
        **{
            packed_name(name): known
            for name, known in (FILES | WEBGPU_FILES).items()
            if name.endswith(".wasm")
        },
    }
    about = {
        **dataclasses.asdict(facts),
        # the folder lies, or is drafted, in that of its network, and that one in the artifacts folder
        "why": facts.why and without_places(facts.why, folder.parent, folder.parent.parent),
        "onnxruntime_web": VERSION,
        "scripts": f"shortened by rjsmin {version('rjsmin')}; cnnkit's exporters/browser/page has them whole",
        "tool": f"cnnkit {tool_versions()['cnnkit']}",
        "sha256": hashes,
    }
    _write_json(folder / ABOUT, about)
    _write_worker(folder)
    _write_packed(folder)


def _write_worker(folder: Path) -> None:
    """Tell the service worker what to keep at once and what later; other contents are another version."""
    there = sorted(p.name for p in folder.iterdir() if p.name not in {*FOR_HOSTS, "sw.js", "index.html"})
    told = hashlib.sha256()
    for name in (*there, "index.html", "sw.js"):
        told.update(hashlib.sha256((folder / name).read_bytes()).digest())
    names, later = ([name for name in there if (name in SELDOM) == seldom] for seldom in (False, True))
    kept = json.dumps({"version": told.hexdigest()[:16], "files": ["./", *names], "later": later})
    worker = folder / "sw.js"
    worker.write_text(f"const kept = {kept};\n{worker.read_text('utf-8')}", "utf-8")


def _write_packed(folder: Path) -> None:
    """Lay a packed copy beside each file that becomes smaller, for hosts that send such copies."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in TEXTS and path.name not in (MODEL, PROOF):
            continue
        data = path.read_bytes()
        packed = gzip.compress(data, 9, mtime=0)
        if len(packed) < WORTH * len(data) and path.name not in FOR_HOSTS:
            path.with_name(path.name + ".gz").write_bytes(packed)


def _manifest(name: str) -> dict[str, Any]:
    icons = [
        {"src": f"icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png", "purpose": purpose}
        for side in (192, 512)
        for purpose in ("any", "maskable")
    ]
    return {
        "name": name,
        "short_name": name[:24],
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#f7f8f7",
        "theme_color": "#0b6e4f",
        "icons": icons,
    }


def _write_hosting(folder: Path) -> None:
    """Write the headers as Netlify and Cloudflare, nginx, and `npx serve` read them."""
    sent = {name: value for name, value in HEADERS.items() if name != "X-Content-Type-Options"}
    lines = [f"  {name}: {value}" for name, value in sent.items()]
    (folder / "_headers").write_text("\n".join(["/*", *lines]) + "\n", "utf-8")
    pairs = [{"key": name, "value": value} for name, value in sent.items()]
    _write_json(folder / "serve.json", {"headers": [{"source": "**", "headers": pairs}], "cleanUrls": False})
    added = "\n".join(f'    add_header {name} "{value}";' for name, value in sent.items())
    (folder / "nginx.conf").write_text(NGINX.replace("ADDED", added), "utf-8")


NGINX = """\
# an example: with this folder as /srv/network, under the name of the site
server {
    listen 80;
    root /srv/network;
    index index.html;
    # sends the packed copies that lie beside the files
    gzip_static on;
    types {
        text/html html; text/css css; text/javascript js mjs; application/json json;
        application/manifest+json webmanifest; image/svg+xml svg; image/png png;
        application/wasm wasm; application/gzip gz; application/octet-stream onnx safetensors;
    }
    # threads in a browser take the first two
ADDED
}
"""


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
