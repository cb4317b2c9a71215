"""Downloads into the user's cache: from mirrors over HTTP, or out of a Debian package without root."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from toolkit.artifacts import ANOTHER_CACHE, writing
from toolkit.errors import NotFoundError

TIMEOUT_S = 10.0
BLOCK_BYTES = 1 << 16
NETWORK = (OSError, http.client.HTTPException)
# apt waits minutes for a host that does not answer, and asks again; one short try is enough here
APT_ONCE = ["-oAcquire::Retries=0"] + [
    f"-oAcquire::{kind}::Timeout={TIMEOUT_S:.0f}" for kind in ("http", "https")
]


def torchvision_mirrors(dataset: str) -> tuple[str, ...]:
    """Return the addresses that torchvision fetches a data set from; none where it is not installed."""
    try:
        from torchvision import datasets
    except ImportError:
        return ()
    return tuple(str(mirror) for mirror in getattr(datasets, dataset).mirrors)


def download(url: str, path: Path) -> None:
    """Fetch one file, whole or not at all. Raises NotFoundError with the reason."""
    try:
        reply = urllib.request.urlopen(url, timeout=TIMEOUT_S)
    except (*NETWORK, ValueError) as error:
        raise NotFoundError(f"{url}: {getattr(error, 'reason', error)}") from None
    with reply, writing(path, instead=ANOTHER_CACHE) as part, part.open("wb") as out:
        while block := _receive(reply, url):
            out.write(block)
        promised = reply.headers.get("Content-Length", "")
        if promised.isdecimal() and out.tell() != int(promised):
            raise NotFoundError(f"{url}: ended after {out.tell():,} of {int(promised):,} bytes")


def _receive(reply: http.client.HTTPResponse, url: str) -> bytes:
    # apart from the writing, so that a broken line is not taken for a full disk
    try:
        return reply.read(BLOCK_BYTES)
    except NETWORK as error:
        raise NotFoundError(f"{url}: {error}") from None


def from_mirrors(mirrors: Sequence[str], names: Sequence[str], folder: Path) -> str:
    """Fetch every `<name>.gz` from the first mirror that answers; return that mirror."""
    failed = [] if mirrors else ["torchvision is not installed, so no mirror is known"]
    for mirror in mirrors:
        try:
            for name in names:
                download(f"{mirror}{name}.gz", folder / f"{name}.gz")
        except NotFoundError as error:
            failed.append(str(error))
        else:
            return mirror
    raise NotFoundError("; ".join(failed))


def from_debian_package(package: str, inside: str, folder: Path) -> str:
    """Unpack `inside` of a Debian package into `folder`, as an ordinary user; return the package's file.

    apt gets folders of its own for lists and archives, so that nothing of the system is touched.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise NotFoundError("apt-get and dpkg-deb are not on this machine")
    with tempfile.TemporaryDirectory(prefix="cnnkit-") as name:
        work = Path(name)
        (work / "lists" / "partial").mkdir(parents=True)
        (work / "cache" / "archives" / "partial").mkdir(parents=True)
        own = [*APT_ONCE, f"-oDir::State::Lists={work}/lists", f"-oDir::Cache={work}/cache"]
        _run(["apt-get", *own, "-qq", "update"], work)
        _run(["apt-get", *own, "-qq", "download", package], work)
        found = sorted(work.glob(f"{package}_*.deb"))
        if not found:
            raise NotFoundError(f"apt-get brought no {package}")
        _run(["dpkg-deb", "-x", str(found[0]), str(work / "unpacked")], work)
        for file in sorted((work / "unpacked" / inside).iterdir()):
            with writing(folder / file.name, instead=ANOTHER_CACHE) as part:
                shutil.copyfile(file, part)
        return found[0].name


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        lines = [line for line in str(error.stderr).splitlines() if line.strip()]
        raise NotFoundError(f"{command[0]} failed: {lines[-1] if lines else error}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFoundError(f"{command[0]} could not run: {error}") from None
