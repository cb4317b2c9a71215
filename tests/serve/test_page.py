"""The page in a real Chromium: drawn with the mouse, nothing fetched from elsewhere, Gradio's doors shut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import MODEL, Server, png

ARGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra test)")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield made
        made.close()


class Visit:
    """One tab on the page, its requests and its errors."""

    def __init__(self, browser: Any, page: Server, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.tab = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.goto(page.url)
        self.tab.wait_for_selector("#drawing canvas", timeout=30_000)

    def draw(self) -> None:
        """Draw a box with the mouse once the brush is in hand."""
        self.tab.wait_for_selector("#drawing .half-container button.highlight")
        box = self.tab.locator("#drawing canvas").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self.tab.mouse
        mouse.move(x - 40, y - 50)
        mouse.down()
        for dx, dy in ((40, -50), (40, 50), (-40, 50), (-40, -50)):
            mouse.move(x + dx, y + dy, steps=5)
        mouse.up()

    def pick(self, index: int) -> None:
        self.tab.get_by_role("tab", name="Test pictures").click()
        self.tab.locator("#gallery button").nth(index).click()

    def note(self, pattern: str, where: str = "#note") -> str:
        """Wait until the page says something like this, and return it."""
        found = self.tab.locator(where).filter(has_text=re.compile(pattern))
        found.wait_for(timeout=30_000)
        return str(found.inner_text())


@pytest.fixture
def visit(browser: Any, page: Server) -> Iterator[Visit]:
    made = Visit(browser, page)
    yield made
    made.context.close()
    assert made.errors == []
    strangers = [u for u in made.requests if not u.startswith((page.url, "data:", "blob:"))]
    assert strangers == []


def test_drawing_with_the_mouse_changes_the_label(visit: Visit) -> None:
    assert "Draw something" in visit.note("Draw")
    visit.draw()
    said = visit.note(r"\(\d+\.\d%\)")
    assert "was inverted" in said
    visit.tab.locator("#latency td").filter(has_text="ONNX Runtime").wait_for()
    visit.tab.locator('#drawing button[aria-label="Clear canvas"]').click()
    visit.note("Draw something")


def test_a_test_picture_is_classified_by_two_engines_side_by_side(visit: Visit) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")
    visit.pick(1)
    assert "Trouser" in visit.note(r"\(\d+\.\d%\)")
    visit.tab.get_by_label("PyTorch").check()
    visit.tab.locator("#latency td").filter(has_text="PyTorch").wait_for(timeout=30_000)
    assert visit.tab.locator("#latency tbody tr").count() == 2


def test_of_quick_choices_the_last_one_is_answered(visit: Visit) -> None:
    visit.pick(7)
    for index in (1, 3, 5, 2, 8):
        visit.tab.locator("#gallery button").nth(index).click()
    visit.note(r"Bag \(")
    visit.tab.wait_for_timeout(1_000)
    assert visit.tab.locator("#note").inner_text().startswith("Bag (")


def test_an_upload_is_classified_and_the_switch_inverts_it(visit: Visit, tmp_path: Path) -> None:
    visit.tab.get_by_role("tab", name="Picture", exact=True).click()
    good = tmp_path / "good.png"
    good.write_bytes(png(size=(40, 30)))
    visit.tab.locator("#photo input[type=file]").set_input_files(str(good))
    assert "not inverted" in visit.note(r"\(\d+\.\d%\)")
    visit.tab.get_by_label("Invert", exact=True).check()
    visit.note("was inverted")


def test_the_network_can_be_looked_into(visit: Visit) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")
    visit.pick(8)
    visit.note(r"\(\d+\.\d%\)")
    visit.tab.get_by_role("tab", name="Look inside").click()
    visit.tab.locator("#look").click()
    visit.note("16 channels of 5×5", "#inside-note")
    visit.tab.locator("#heat img").wait_for()
    assert visit.tab.locator("#maps img").count() == 16


def test_many_files_become_a_table_and_a_csv(visit: Visit, tmp_path: Path) -> None:
    names = ["a.png", "b.png", "bad.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"no picture" if name == "bad.png" else png())
    visit.tab.get_by_role("tab", name="Files").click()
    visit.tab.locator("#files input[type=file]").set_input_files([str(tmp_path / n) for n in names])
    visit.note("2 pictures labelled, 1 could not be read", "#many-note")
    with visit.tab.expect_download() as download:
        visit.tab.locator("#csv a").first.click()
    lines = download.value.path().read_text("utf-8").splitlines()
    assert lines[0].startswith("file,label,probability")
    assert [line.split(",")[0] for line in lines[1:]] == names


def test_a_missing_profile_says_how_to_make_one(visit: Visit) -> None:
    visit.tab.get_by_role("tab", name="Profile").click()
    visit.note(f"cnnkit profile {MODEL} --html", "#report")


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.slow)])
def test_on_a_phone_nothing_hangs_over_the_edge(browser: Any, page: Server, scheme: str) -> None:
    made = Visit(browser, page, color_scheme=scheme, **PHONE)
    made.pick(3)
    made.note(r"\(\d+\.\d%\)")
    assert made.tab.evaluate("document.documentElement.scrollWidth") <= 390
    made.context.close()


def test_pictures_have_alternative_texts(visit: Visit) -> None:
    visit.pick(3)
    visit.note(r"\(\d+\.\d%\)")
    assert f"as {MODEL} saw it" in visit.tab.locator(".seen img").get_attribute("alt")


def test_what_cannot_run_here_is_said(visit: Visit) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    assert "NVIDIA GPU" in visit.tab.locator("#absent").inner_text()


def test_the_documentation_fetches_nothing_from_elsewhere(browser: Any, page: Server) -> None:
    context = browser.new_context()
    tab = context.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{page.url}/docs")
    tab.wait_for_selector(".opblock", timeout=30_000)
    assert [u for u in asked if not u.startswith((page.url, "data:"))] == []
    context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/file=../../etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:1/x",
        "/gradio_api/run/predict",
        "/gradio_api/call/predict",
        "/gradio_api/info",
        "/gradio_api/runs",
        "/monitoring",
        "/monitoring/summary",
        "/login",
    ],
)
def test_gradios_own_doors_are_shut(page: Server, path: str) -> None:
    for method in ("GET", "POST"):
        assert page.ask(method, path, b"{}" if method == "POST" else None).status in (404, 405)


def test_an_upload_over_the_limit_is_refused(page: Server) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B", "Content-Length": str(10**10)}
    assert page.ask("POST", "/gradio_api/upload", b"", headers).status == 413


def uploaded(*sizes: int) -> tuple[bytes, dict[str, str]]:
    """Return a form of files as Gradio's client sends those that were chosen together."""
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="files"; filename="{at}.png"\r\n\r\n'.encode()
        + bytes(size)
        + b"\r\n"
        for at, size in enumerate(sizes)
    ]
    return b"".join([*parts, b"--B--\r\n"]), {"Content-Type": "multipart/form-data; boundary=B"}


def test_files_may_together_exceed_the_limit_of_one(page: Server) -> None:
    body, headers = uploaded(11 * 2**20, 11 * 2**20)
    answer = page.ask("POST", "/gradio_api/upload", body, headers)
    assert answer.status == 200
    assert [Path(path).name for path in answer.json] == ["0.png", "1.png"]
    body, headers = uploaded(21 * 2**20)
    assert page.ask("POST", "/gradio_api/upload", body, headers).status == 413


def test_only_uploads_may_be_larger_than_a_picture(page: Server) -> None:
    for path, limit in (("upload", 256), ("component_server", 20)):
        headers = {"Content-Length": str(limit * 2**20 + 2**20)}
        answer = page.ask("POST", f"/gradio_api/{path}", b"", headers)
        assert answer.status == 413
        assert f"{limit} MiB for all its files; send fewer" in answer.json["error"]


def test_the_api_is_on_the_same_port_as_the_page(page: Server) -> None:
    assert page.ask("POST", "/v1/classify", png()).status == 200
    assert page.ask("GET", "/v2/health/ready").status == 200


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("-2", "'-2"), ("\tx", "'\tx"), ("shirt", "shirt"), ("", "")],
)
def test_no_cell_is_a_formula(text: str, escaped: str) -> None:
    many = pytest.importorskip("serve.page.files", reason="Gradio is not installed (extra page)")
    assert many.escape(text) == escaped
