"""ONNX Runtime Web: one release, brought once into the cache, compared with what was pinned."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from toolkit.artifacts import ANOTHER_CACHE, cannot_write, hash_file, json_text, replacing
from toolkit.caching import ABOUT, download_folder, note_use
from toolkit.errors import CorruptError, NotFoundError, UnavailableError
from toolkit.telling import Tell, aloud

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# what the registry says of the package's archive
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
WASM = "ort-wasm-simd-threaded.wasm"
# the SHA-256 of the files that are used, of the package's `dist`
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
# the same of the build with WebGPU, which lies in the folder beside those, as most visitors never need it
_WEBGPU = "ort-wasm-simd-threaded.asyncify"
WEBGPU_FILES = {
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    f"{_WEBGPU}.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    f"{_WEBGPU}.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
NPM_S = 300


def runtime_folder(files: Mapping[str, str] = FILES) -> Path:
    """Return where the cache keeps the runtime's files; they need not be there."""
    return download_folder("browser") / f"{PACKAGE}-{VERSION}{'-webgpu' if files is WEBGPU_FILES else ''}"


def runtime(given: Path | None = None, tell: Tell = aloud, *, files: Mapping[str, str] = FILES) -> Path:
    """Return a folder with the runtime's scripts and its packed wasm, from `given`, the cache or npm.

    `given` is an unpacked package; `files` are FILES or WEBGPU_FILES. Raises UnavailableError, with what to
    type, where it is nowhere; CorruptError for files that are not the release's.
    """
    kept = runtime_folder(files)
    if given is None and kept.is_dir():
        note_use(kept)
        return kept
    if given is not None:
        return _kept(_dist(given), files)
    if shutil.which("npm") is None:
        raise UnavailableError(
            "the browser's runtime is not in the cache, and npm, which brings it, is not here: on a machine "
            f"with npm type {_by_hand()}, unpack it, and add --runtime DIR"
        )
    tell(f"fetching {PACKAGE} {VERSION} with npm pack (27 MB, once) …")
    with tempfile.TemporaryDirectory() as place:
        return _kept(_packed(Path(place), files), files)


def _by_hand() -> str:
    return f"`npm pack {PACKAGE}@{VERSION}`"


def _dist(given: Path) -> Path:
    """Return the folder with the files of an unpacked package, wherever in it was pointed at."""
    for folder in (given, given / "dist", given / "package" / "dist"):
        if (folder / WASM).is_file():
            return folder
    raise NotFoundError(f"{given} holds no {WASM}: unpack what {_by_hand()} brings, and name that folder")


def _packed(place: Path, files: Iterable[str]) -> Path:
    """Fetch the package and unpack the files that are used. Raises UnavailableError where npm cannot."""
    command = f"npm pack --fetch-retries=0 {PACKAGE}@{VERSION}".split()
    try:
        subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=NPM_S, check=True)
        archive = next(place.glob("*.tgz"))
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise UnavailableError(
            f"`{' '.join(command)}` brings nothing here ({lines[-1] if lines else 'no reason given'}): "
            "type it on a machine that reaches npm's registry, unpack what comes, and add --runtime DIR"
        ) from None
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{found}" != INTEGRITY:
        raise CorruptError(f"what npm brought is not {PACKAGE} {VERSION} as it was published; try again")
    with tarfile.open(archive) as package:
        for name in files:
            part = package.extractfile(f"package/dist/{name}")
            assert part is not None
            (place / name).write_bytes(part.read())
    return place


def _kept(dist: Path, files: Mapping[str, str]) -> Path:
    """Bring the files into the cache, the wasm packed; compared one by one with what was pinned."""
    for name, wanted in files.items():
        path = dist / name
        if not path.is_file() or hash_file(path) != wanted:
            raise CorruptError(
                f"{path} is not {PACKAGE} {VERSION}'s: take that release, which {_by_hand()} brings"
            )
    kept = runtime_folder(files)
    if not kept.is_dir():
        _fill(kept, lambda part: _copy(dist, part, files))
    return kept


def packed_name(name: str) -> str:
    """Return what a file of the runtime is called in a folder: wasm lies there packed."""
    return f"{name}.gz" if name.endswith(".wasm") else name


def _copy(dist: Path, part: Path, files: Iterable[str]) -> None:
    for name in files:
        data = (dist / name).read_bytes()
        if packed_name(name) != name:
            data = gzip.compress(data, 9, mtime=0)
        _write(part / packed_name(name), data)
    about = {"what": f"{PACKAGE} {VERSION}, for exports to the web"}
    _write(part / ABOUT, json_text(about).encode())


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(data)


def _fill(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder of the cache beside its place: it is there whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            fill(part)
            part.chmod(0o755)
            if not folder.is_dir():
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise cannot_write(folder, error, ANOTHER_CACHE) from None
