"""A folder for browsers of the network that the tests train, served here; tabs that see nobody else."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exporters.conftest import cnnkit_json
from toolkit.sites import site

ARGS = [
    *("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a camera that shows a clock
]
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def web_folder(
    trained_root: Path, web_runtime: Path | None, chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Export the trained network with its precision open, tried in Chromium; return its folder."""
    if web_runtime is None:
        pytest.skip("onnxruntime-web is neither in the cache nor brought by npm")
    root = tmp_path_factory.mktemp("web")
    shutil.copytree(trained_root / "lenet-maxpool", root / "lenet-maxpool")
    cache = tmp_path_factory.getbasetemp() / "home" / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("CNNKIT_BROWSER", chromium)
        found = cnnkit_json(
            *("export", "lenet-maxpool", "--format", "web", "--images", 64, "--calibration-images", 64),
            *("--max-accuracy-drop", 20, "--artifacts", root),
        )
    return Path(next(one["path"] for one in found["artifacts"] if one["format"] == "web"))


@pytest.fixture(scope="session")
def address(web_folder: Path) -> Iterator[str]:
    with site(web_folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """Start Chromium; Playwright runs an event loop in this thread, which no other module's tests may see."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra test)")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield made
        made.close()


@contextlib.contextmanager
def watched(browser: Any) -> Iterator[Open]:
    """Open pages in fresh profiles; a request to another origin, or a script's error, fails at the end."""
    contexts, told = [], []

    def opened(url: str, state: str = "ready", before: str = "", **settings: Any) -> Any:
        context = browser.new_context(**settings)
        contexts.append(context)
        if before:
            context.add_init_script(before)
        tab = context.new_page()
        own = (url.split("/", 3)[2], "blob:", "data:")
        context.on("request", lambda one: own[0] in one.url or one.url[:5] in own or told.append(one.url))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.goto(url)
        tab.locator(f"html[data-state={state}]").wait_for(timeout=60_000)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert told == []


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Open]:
    """Open a page in a fresh profile, before it loads with a script of the test's."""
    with watched(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def tab(browser: Any, address: str) -> Iterator[Any]:
    """The page in a tab that the tests of a module share: to load it costs a second."""
    with watched(browser) as opened:
        yield opened(address)
