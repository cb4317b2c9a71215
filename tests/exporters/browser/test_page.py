"""The page in a real Chromium: it answers, proves itself, works offline, and asks no other host."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from exporters.browser.folder import ABOUT, MODEL, WebFacts, fill_folder
from exporters.browser.runtime import WEBGPU_FILES, packed_name, runtime
from tests.exporters.browser.conftest import ARGS, Open, watched
from toolkit.artifacts import open_artifact
from toolkit.errors import UnavailableError
from toolkit.sites import site

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
AXE = "async () => (await axe.run(document)).violations.map((one) => `${one.id}: ${one.nodes[0].html}`)"


def draw(tab: Any) -> None:
    box = tab.locator("#paper").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x - 40, y - 80)
    tab.mouse.down()
    for dx, dy in ((40, -80), (90, -50), (50, -10), (50, 90), (-50, 90), (-50, -10), (-90, -50), (-40, -80)):
        tab.mouse.move(x + dx, y + dy, steps=3)
    tab.mouse.up()


def fresh(tab: Any) -> None:
    """Bring the shared tab to where it was when it had loaded."""
    tab.locator("#draw").click()
    tab.locator("#clear").click()
    said(tab, "Draw something")


def said(tab: Any, pattern: str, where: str = "#answer") -> str:
    """Wait until the page says something like this, and return it."""
    found = tab.locator(where).filter(has_text=re.compile(pattern))
    found.wait_for(timeout=30_000)
    return str(found.inner_text())


def choose(tab: Any, data: bytes, name: str = "picture.png") -> None:
    tab.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def on_threads(folder: Path) -> str:
    """Return how the page says on how many threads it answers: more than one where they were faster here."""
    threads = json.loads((folder / ABOUT).read_text())["threads"]
    return "one thread" if threads == 1 else f"{threads} threads"


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    into = io.BytesIO()
    image.save(into, kind)
    return into.getvalue()


def test_a_drawing_is_answered_seen_and_timed(tab: Any, web_folder: Path) -> None:
    draw(tab)
    said(tab, r"\(\d+(\.\d)?%\)")
    assert tab.locator("#bars li").count() == 5
    assert tab.evaluate(
        "[document.querySelector('#seen').width, document.querySelector('#seen').height]"
    ) == [
        28,
        28,
    ]
    assert tab.locator("#invert").is_checked()  # black on white, and it learned white on black
    said(tab, r"28 × 28 pixels of grey", "#size")
    said(tab, rf"^[\d.e-]+ ms a picture, {on_threads(web_folder)}$", "#speed")
    tab.locator("#clear").click()
    said(tab, "Draw something")


def test_the_proof_is_answered_in_the_page_by_button_and_by_fragment(
    open_tab: Open, address: str, web_folder: Path
) -> None:
    tab = open_tab(f"{address}#verify")
    first = said(tab, "64 of 64 agree", "#verdict")
    assert re.search(
        rf"largest difference [\d.e-]+, [\d.e-]+ ms\n.*cores · {on_threads(web_folder)} · ONNX Runtime Web",
        first,
    )
    tab.locator("#verify").click()
    said(tab, "64 of 64 agree", "#verdict")


def test_the_second_visit_needs_no_network(open_tab: Open, web_folder: Path) -> None:
    with site(web_folder) as server:
        tab = open_tab(server.url)
        tab.locator("html[data-kept=yes]").wait_for(timeout=30_000)
        said(tab, "works without a network", "#kept")
        # what else lies in the folder is its own page's to show
        assert tab.context.new_page().goto(f"{server.url}other.html").status == 404
    tab.context.set_offline(True)
    again = tab.context.new_page()
    again.goto(f"{server.url}index.html?threads=1#there")
    again.locator("html[data-state=ready]").wait_for(timeout=30_000)
    draw(again)
    said(again, r"\(\d+(\.\d)?%\)")
    again.locator("#verify").click()
    said(again, "64 of 64 agree", "#verdict")


LISTED = "async () => (await (await caches.open((await caches.keys())[0])).keys()).map((one) => one.url)"


def test_what_few_pages_ask_for_is_kept_once_one_did(
    open_tab: Open, web_folder: Path, web_runtime: Path, tmp_path: Path
) -> None:
    """The build with WebGPU is 6.6 MB, which most visitors never need; names alone stand in for it here."""
    folder, webgpu = tmp_path / "lenet.web", tmp_path / "webgpu"
    for path in (folder, webgpu):
        path.mkdir()
    names = [packed_name(name) for name in WEBGPU_FILES]
    for name in names:
        (webgpu / name).write_text("// a stand-in")
    source = open_artifact(web_folder.with_name("lenet-maxpool.onnx"))
    fill_folder(folder, source, web_runtime, WebFacts(), webgpu)
    with site(folder) as server:
        tab = open_tab(server.url)
        tab.locator("html[data-kept=yes]").wait_for(timeout=30_000)
        assert not [one for one in tab.evaluate(LISTED) if one.rpartition("/")[2] in names]
        tab.evaluate("async (name) => (await fetch(name)).text()", names[0])
        tab.wait_for_function(f"async () => (await ({LISTED})()).some((one) => one.endsWith('{names[0]}'))")
    tab.context.set_offline(True)
    assert tab.evaluate("async (name) => (await fetch(name)).text()", names[0]) == "// a stand-in"


def kept(tab: Any, sentence: str) -> None:
    assert "Draw something" in said(tab, "Draw something")  # the network answers all the same
    said(tab, sentence, "#kept")


def test_storage_that_is_full_is_told(open_tab: Open, address: str) -> None:
    tab = open_tab(f"{address}#verify")  # where it is only proven, nothing is kept
    room = {"origin": address.rstrip("/"), "quotaSize": 100_000}
    tab.context.new_cdp_session(tab).send("Storage.overrideQuotaForOrigin", room)
    tab.goto(address)
    kept(tab, "whose storage is full")


def test_a_private_window_that_keeps_nothing_is_told(open_tab: Open, address: str) -> None:
    # as Firefox has it; Chromium's keeps a folder until the window is closed
    tab = open_tab(address, before="delete Navigator.prototype.serviceWorker")
    kept(tab, "This window keeps nothing")


def test_a_store_that_is_refused_is_told(open_tab: Open, address: str) -> None:
    refuse = "() => Promise.reject(new DOMException('no', 'SecurityError'))"
    tab = open_tab(address, before=f"ServiceWorkerContainer.prototype.register = {refuse}")
    kept(tab, "This window keeps nothing")


@pytest.mark.parametrize(
    ("locale", "sentence"), [("en", "^This browser is too old"), ("zh-CN", "^浏览器版本过旧")]
)
def test_a_browser_without_wasm_simd_gets_one_sentence(
    open_tab: Open, address: str, locale: str, sentence: str
) -> None:
    old = "WebAssembly.validate = () => false"
    tab = open_tab(address, state="trouble", before=old, locale=locale)
    assert "\n" not in said(tab, sentence, "#trouble")
    assert tab.locator("#bars li").count() == 0


def test_a_phone_gets_one_column_in_its_own_language(open_tab: Open, address: str) -> None:
    tab = open_tab(address, locale="zh-CN", **PHONE)
    assert tab.locator("html").get_attribute("lang") == "zh"
    said(tab, "请绘制")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = (
        "[...document.querySelectorAll('button')].filter((b) => b.offsetHeight && b.offsetHeight < 44).length"
    )
    assert tab.evaluate(small) == 0


def test_uploads_are_answered_or_refused_in_one_sentence(tab: Any) -> None:
    choose(tab, encoded(Image.new("RGB", (60, 40), "navy")))
    said(tab, r"\(\d+(\.\d)?%\)")
    tab.locator("#photo").wait_for(timeout=30_000)  # it is shown behind the answer
    for data, sentence in BAD.items():
        choose(tab, data)
        assert "\n" not in said(tab, sentence, "#trouble")
    choose(tab, encoded(Image.new("L", (28, 28), 0)))
    said(tab, r"\(\d+(\.\d)?%\)")
    assert tab.locator("#trouble").is_hidden()


def test_a_picture_is_not_shown_over_the_paper_that_was_asked_for_meanwhile(tab: Any) -> None:
    fresh(tab)
    tab.evaluate(
        """() => {
          const own = createImageBitmap;
          let calls = 0;
          window.createImageBitmap = async (...given) => {
            // the first is the network's, the second what is shown
            if (++calls === 2) await new Promise((resolve) => (window.release = resolve));
            if (calls === 2) window.createImageBitmap = own;
            return own(...given);
          };
        }"""
    )
    choose(tab, encoded(Image.new("RGB", (60, 40), "navy")))
    said(tab, r"\(\d+(\.\d)?%\)")
    tab.wait_for_function("typeof release === 'function'")
    tab.locator("#draw").click()
    tab.evaluate("release()")
    tab.wait_for_timeout(200)
    assert tab.locator("#photo").is_hidden()
    assert tab.locator("#clear").is_visible()


GIVEN = """async ([kind, letters]) => {
  const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "one.png", { type: "image/png" }));
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true });
  (kind === "paste" ? window : document.querySelector("#stage")).dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_is_pasted_and_dropped(tab: Any, kind: str) -> None:
    fresh(tab)
    picture = base64.b64encode(encoded(Image.new("RGB", (50, 30), "white"))).decode()
    tab.evaluate(GIVEN, [kind, picture])
    said(tab, r"\(\d+(\.\d)?%\)")
    tab.locator("#photo").wait_for(timeout=30_000)  # it is shown behind the answer


def test_the_camera_takes_a_picture_as_it_is(tab: Any) -> None:
    fresh(tab)
    tab.locator("#camera").click()
    tab.locator("#shoot").click()
    said(tab, r"\(\d+(\.\d)?%\)")
    assert tab.locator("#video").is_hidden()
    assert tab.evaluate("getComputedStyle(document.querySelector('#video')).transform") == "none"
    seen = "new Set(document.querySelector('#photo').getContext('2d').getImageData(0, 0, 99, 99).data).size"
    assert tab.evaluate(seen) > 2  # a picture, taken before the camera was let go


def png_head(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that says how large it is, and holds no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (head, b"IEND")
    chunks = [struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BAD = {
    b"": "empty",
    png_head(10_000, 5_000): "10000×5000 pixels, over the limit of 25,000,000",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64): "HEIC",
    encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")[:-300]: "damaged or cut short",
    encoded(Image.new("CMYK", (8, 8)), "JPEG"): "CMYK",
    encoded(Image.new("I;16", (8, 8), 900)): "16 bits of grey",
    b"no picture at all": "no picture that this browser reads",
}


def test_a_damaged_or_mixed_folder_is_refused(open_tab: Open, web_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed.web"
    shutil.copytree(web_folder, folder)
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)
    with site(folder) as server:
        tab = open_tab(server.url, state="trouble")
        said(tab, r"^model.onnx is not the file that this folder was made with", "#trouble")
        (folder / "passport.json").write_text("{}")
        tab.reload()
        said(tab, r"^passport.json is not the file", "#trouble")
        (folder / MODEL).unlink()
        tab.reload()
        said(tab, r"^model.onnx cannot be loaded: the host answers 404", "#trouble")


def test_it_is_a_module_that_any_page_can_use(tab: Any) -> None:
    found = tab.evaluate(
        """async () => {
          const { load } = await import("./classifier.js");
          const net = await load(".", { threads: 2 });
          const image = new ImageData(28, 28);
          const answer = await net.classify(image, { top: 3 });
          const again = await net.classify(await createImageBitmap(image), { top: 3 });
          const told = [answer.top.length, answer.label === again.label, net.threads, crossOriginIsolated];
          await net.dispose();
          return told;
        }"""
    )
    assert found == [3, True, 2, True]


def test_axe_finds_nothing(tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    tab.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text("utf-8"))
    # what moves has no colour yet
    fresh(tab)
    draw(tab)
    said(tab, r"\(\d+(\.\d)?%\)")
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert tab.evaluate(AXE) == [], scheme


SOFTWARE = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]


@pytest.mark.slow
def test_webgpu_is_taken_only_where_it_answers_the_proof_and_sooner(
    web_folder: Path, web_runtime: Path, chromium: str, browser: Any, tmp_path: Path
) -> None:
    """Chromium's own renderer on the processor stands for a graphics processor, and is slower than wasm."""
    try:
        webgpu = runtime(files=WEBGPU_FILES)
    except UnavailableError:
        pytest.skip("onnxruntime-web is neither in the cache nor brought by npm")
    source = open_artifact(web_folder.with_name("lenet-maxpool.onnx"))
    fill_folder(tmp_path, source, web_runtime, WebFacts(webgpu=True), webgpu)
    load = "async (options) => (await import('./classifier.js')).load('.', options)"
    ask = f"async (options) => {{ const net = await ({load})(options); return [net.provider, net.gpuWhy]; }}"
    drawn = browser.browser_type.launch(executable_path=chromium, args=[*ARGS, *SOFTWARE])
    with site(tmp_path) as server, watched(drawn) as opened, watched(browser) as bare:
        tab = opened(server.url)
        provider, why = tab.evaluate(ask, {})
        assert (provider, bool(re.match("it agrees and is no faster", why))) == ("wasm", True)
        assert tab.evaluate(ask, {"webgpu": True}) == ["webgpu", None]
        assert tab.evaluate(ask, {"webgpu": False})[0] == "wasm"
        tab.locator("#verify").click()
        said(tab, "64 of 64 agree", "#verdict")
        without = bare(server.url)
        assert without.evaluate(ask, {"webgpu": True}) == ["wasm", "this browser offers no adapter"]
    drawn.close()
