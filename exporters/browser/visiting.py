"""A headless browser of this machine opens a folder's page, which answers its proof and sends the record."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec

from exporters.browser.folder import MODEL, WEBGPU
from toolkit.errors import CnnkitError, UnavailableError
from toolkit.processes import child
from toolkit.sites import site

# names a browser's program, or none at all
NAMED = "CNNKIT_BROWSER"
NOBODY = "none"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
FIREFOXES = ("firefox", "firefox-esr")
# a page that says nothing for so long is stuck; large networks get the time that their size takes to load
VISIT_S = 120.0
END_S = 5.0
RACE = Path(__file__).parent / "race.html"
BYTES_PER_S = 2_000_000


class ProofRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the proof was answered in a browser, as its page sends it."""

    images: int
    agree: int
    wrong: tuple[int, ...]
    max_abs_diff: float | None
    latency_ms: float
    batch: int
    threads: int
    browser: str
    provider: Literal["wasm", "webgpu"] = "wasm"
    gpu_why: str | None = None


class RaceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one answer by two networks in one page, round by round."""

    one_ms: tuple[float, ...]
    other_ms: tuple[float, ...]


class TroubleRecord(msgspec.Struct, frozen=True):
    """What went wrong in a page, in its own sentence."""

    error: str


Record = TypeVar("Record", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class Browser:
    """A browser's program, and its release as it tells it."""

    program: str
    version: str

    @property
    def is_firefox(self) -> bool:
        """Whether it takes Firefox's options rather than Chromium's."""
        return "firefox" in Path(self.program).name


def find_browser() -> Browser | None:
    """Return a browser that runs headless here: the one that $CNNKIT_BROWSER names, else Chromium or Firefox.

    Raises UnavailableError where the named one is not there.
    """
    named = os.environ.get(NAMED, "").strip()
    if named == NOBODY:
        return None
    for program in (named,) if named else (*CHROMIUMS, *FIREFOXES):
        found = shutil.which(program)
        if found:
            return Browser(program=found, version=_version(found))
    if named:
        raise UnavailableError(f"${NAMED} names {named}, which is not here; {NOBODY} stands for no browser")
    return None


def require_browser() -> Browser:
    """Return a browser. Raises UnavailableError with what to install where none is here."""
    found = find_browser()
    if found is None:
        raise UnavailableError(
            "no browser is here to answer the proof in: install Chromium or Firefox (Debian: "
            f"`apt-get install chromium`), name one by ${NAMED}, or "
            "open the page's address with #verify on any device"
        )
    return found


def _version(program: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
        return " ".join(told.stdout.split()[:2])
    return Path(program).name


def visit(folder: Path, browser: Browser, *, threads: int | None = None) -> ProofRecord:
    """Open a folder's page in a browser without a window; return how it answered its proof.

    `threads` None is what the folder says. Raises CnnkitError with the page's own sentence where it could not
    answer, or was silent.
    """
    asked = f"?threads={threads}" if threads else ""
    return _told(folder, browser, f"{asked}#verify=", ProofRecord, (folder / MODEL).stat().st_size)


def race(one: Path, other: Path, browser: Browser, *, threads: int = 1) -> RaceRecord:
    """Time the networks of two folders in turn in one page; `threads` are the other's.

    Raises CnnkitError as `visit` does.
    """
    with tempfile.TemporaryDirectory(prefix="cnnkit-race-") as place:
        shutil.copy(RACE, Path(place) / "index.html")
        for name, folder in (("one", one), ("other", other)):
            (Path(place) / name).symlink_to(folder.absolute(), target_is_directory=True)
        size = sum((folder / MODEL).stat().st_size for folder in (one, other))
        return _told(Path(place), browser, f"?threads={threads}#", RaceRecord, size)


def _told(folder: Path, browser: Browser, asked: str, kind: type[Record], size: int) -> Record:
    """Open a folder's page with a word that nobody else knows; return what the page sends under that word."""
    word, seconds, sent = secrets.token_hex(16), VISIT_S + size / BYTES_PER_S, _Sent(kind)

    def take(path: str, body: bytes) -> bool:
        return path == f"/record/{word}" and sent.take(body)

    with (
        site(folder, take) as server,
        _opened(browser, f"{server.url}{asked}{word}", (folder / WEBGPU.name).is_file()) as process,
    ):
        sent.wait(process, seconds)
    if sent.record is None:
        ended = "ended" if process.poll() is not None else f"sent nothing for {seconds:.0f} s"
        raise CnnkitError(f"{browser.version} {ended} before it answered the proof of {folder.name}")
    if isinstance(sent.record, TroubleRecord):
        raise CnnkitError(f"{folder.name} does not run in {browser.version}: {sent.record.error}")
    return sent.record


class _Sent(Generic[Record]):
    """What the page sent, once it did."""

    def __init__(self, kind: type[Record]) -> None:
        self.record: Record | TroubleRecord | None = None
        self._kind = kind
        self._came = threading.Event()

    def take(self, body: bytes) -> bool:
        try:
            self.record = self._read(body)
        except msgspec.DecodeError:
            return False
        self._came.set()
        return True

    def _read(self, body: bytes) -> Record | TroubleRecord:
        try:
            return msgspec.json.decode(body, type=TroubleRecord)
        except msgspec.ValidationError:
            return msgspec.json.decode(body, type=self._kind)

    def wait(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        for _ in range(int(seconds * 5)):
            if self._came.wait(0.2) or process.poll() is not None:
                return


@contextlib.contextmanager
def _opened(browser: Browser, address: str, webgpu: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Run a browser with a profile of its own until the block ends; nothing of either stays."""
    with tempfile.TemporaryDirectory(prefix="cnnkit-browser-", ignore_cleanup_errors=True) as profile:
        command = _command(browser, profile, address, webgpu)
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        with child(command, grace_s=END_S, **silent) as process:
            yield process


def _command(browser: Browser, profile: str, address: str, webgpu: bool) -> Sequence[str]:
    if browser.is_firefox:
        return [browser.program, "--headless", "--no-remote", "--profile", profile, address]
    # Chromium refuses to run for root within its sandbox
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    quiet = [
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    # on Linux Chromium has WebGPU behind a switch
    graphics = "--enable-unsafe-webgpu" if webgpu else "--disable-gpu"
    place = [f"--user-data-dir={profile}", "--disable-dev-shm-usage", graphics]
    return [browser.program, "--headless=new", *sandbox, *quiet, *place, address]
