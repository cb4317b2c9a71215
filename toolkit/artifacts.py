"""Artifact: one file and its passport; how both are written whole or not at all, and how a name finds one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit import schema
from toolkit.errors import CnnkitError, CorruptError, NotFoundError, reading
from toolkit.passports import Format, Passport
from toolkit.presence import files_within, is_file, is_there, within

# what to do where a file cannot be written, by whose place it is
ANOTHER_ROOT = "name another --artifacts folder"
ANOTHER_CACHE = "set $XDG_CACHE_HOME to another folder"

# the format of trained weights, from which everything else is exported
CHECKPOINT: Format = "safetensors"
CHECKPOINT_SUFFIX = ".safetensors"

LONGEST_NAME = 100
_NAME = re.compile(rf"\w([\w -]{{,{LONGEST_NAME - 2}}}[\w-])?")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file together with its passport."""

    path: Path
    passport: Passport

    @property
    def name(self) -> str:
        """The artifact's name: its folder's files all begin with it."""
        return self.path.name.split(".")[0]


def now() -> str:
    """Return the time in UTC as reports write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def written_at(time: datetime) -> str:
    """Return a time in UTC as passports write it: their texts order two files of one second."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file (of a folder: of its files' names and contents, sorted).

    Raises CorruptError for one that cannot be read.
    """
    if path.is_dir():
        files = [one for one in files_within(path) if is_file(one)]
        lines = (f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path, *, instead: str = ANOTHER_ROOT) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    On any error, a full disk or Ctrl-C the old file stays as it was and the temporary one is gone. Raises
    CnnkitError where it cannot be written, which says what to do `instead`.
    """
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise cannot_write(path, error, instead) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Do as `writing` does. Raises OSError, for whoever can go on without the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp makes files private; these are ordinary ones
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError, instead: str = ANOTHER_ROOT) -> CnnkitError:
    """Return what is said where a file cannot be written; only a full disk asks for space."""
    why = error.strerror or str(error)
    full = "free some space or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return CnnkitError(f"cannot write {path}: {why}; {full}{instead}")


def write_bytes(path: Path, data: bytes, *, instead: str = ANOTHER_ROOT) -> None:
    """Write a file whole or not at all; where that cannot be, CnnkitError says what to do `instead`."""
    with writing(path, instead=instead) as part:
        part.write_bytes(data)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; a number that is not finite is refused."""
    write_bytes(path, json_text(data).encode())


def json_text(data: Mapping[str, Any]) -> str:
    """Return JSON as it stands in files. Raises ValueError for a number that is not finite."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def size_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def sidecar(path: Path) -> Path:
    """Return where an artifact's passport lies: `<file>.json`."""
    return path.with_name(path.name + ".json")


def read_passport(path: Path) -> Passport:
    """Read the passport beside `path`. Raises NotFoundError or CorruptError in words."""
    beside = sidecar(path)
    try:
        data = schema.read_json(beside, again="make the artifact again")
    except FileNotFoundError:
        raise NotFoundError(
            f"{path} has no passport ({beside.name} is not beside it); `cnnkit import {path}` makes one, "
            "with `--model NAME` for weights"
        ) from None
    return Passport.from_json(data, what=str(beside))


def open_artifact(path: Path) -> Artifact:
    """Open a file with its passport and check its hash. Raises NotFoundError or CorruptError."""
    if not is_there(path):
        raise NotFoundError(f"no file {path}")
    passport = read_passport(path)
    if hash_file(path) != passport.sha256:
        raise CorruptError(
            f"{path} is not the file that its passport describes (its SHA-256 differs): it was "
            "altered or cut short; make it again, or copy both files anew"
        )
    return Artifact(path=path, passport=passport)


SHIPPED = "shipped"


def artifacts_root(given: Path | str | None = None) -> Path:
    """Return the artifacts folder: as given, else $CNNKIT_ARTIFACTS, else ./artifacts."""
    return Path(given or os.environ.get("CNNKIT_ARTIFACTS") or "artifacts")


def path_of(given: Path | str | None) -> Path | None:
    """Return a path that was given as text, too; None for none."""
    return None if given is None else Path(given)


def cache_root() -> Path:
    """Return the folder of what is kept for later runs and can be made anew, $XDG_CACHE_HOME/cnnkit."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnkit"


def shipped_root() -> Path:
    """Return the folder of the artifacts that ship: inside the wheel, or in the source tree."""
    packaged = Path(__file__).parent / SHIPPED
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "artifacts" / SHIPPED


def artifact_path(root: Path, name: str, ending: str = CHECKPOINT_SUFFIX) -> Path:
    """Return where an artifact of that name lies under `root`; `ending` is its file's, from the dot on.

    A name that climbs or separates is refused with CnnkitError. One that a foreign file brought may
    otherwise be anything; for those that people choose, see `check_name`.
    """
    if not _plain(name):
        check_name(name)
    return root / name / f"{name}{ending}"


def find_artifacts(root: Path, name: str | None = None) -> list[tuple[Path, Passport]]:
    """Return every artifact under `root` and among the shipped ones, newest first, by passport.

    Files whose passport cannot be read are not among them: `find_damaged` returns those. Raises CorruptError
    for a folder that may not be read.
    """
    found: list[tuple[Path, Passport]] = []
    for path in _with_passports(root, name):
        with contextlib.suppress(CorruptError, NotFoundError):
            found.append((path, read_passport(path)))
    return sorted(found, key=lambda entry: entry[1].created or "", reverse=True)


@dataclass(frozen=True, kw_only=True)
class DamagedArtifact:
    """A file whose passport cannot be read, and why; the rest is what that or the file still tells.

    `format` is the ending of its name where the passport does not say it, `created` the passport's own time.
    """

    path: Path
    error: CorruptError
    format: Format
    precision: str | None
    created: str


def find_damaged(root: Path, name: str | None = None) -> list[DamagedArtifact]:
    """Return every file under `root` whose passport is there and cannot be read, newest first."""
    found: list[DamagedArtifact] = []
    for path in _with_passports(root, name):
        if is_shipped(path):
            continue
        try:
            read_passport(path)
        except NotFoundError:
            continue
        except CorruptError as error:
            found.append(_damaged(path, error))
    return sorted(found, key=lambda one: one.created, reverse=True)


def _damaged(path: Path, error: CorruptError) -> DamagedArtifact:
    told: dict[str, Any] = {}
    with contextlib.suppress(CorruptError, FileNotFoundError):
        data = schema.read_json(sidecar(path))
        told = data if isinstance(data, dict) else {}
    written = written_at(datetime.fromtimestamp(path.stat().st_mtime, UTC))
    texts = {key: value for key, value in told.items() if isinstance(value, str)}
    return DamagedArtifact(
        path=path,
        error=error,
        format=texts.get("format", path.suffix[1:]),
        precision=texts.get("precision"),
        created=texts.get("created", written),
    )


def _with_passports(root: Path, name: str | None) -> Iterator[Path]:
    """Yield the files beside which a passport lies, under `root` and among the shipped ones.

    Raises CorruptError for a folder that may not be read: what it holds would be taken for not there.
    """
    name = None if name is None else artifact_name(name)
    for folder in (root, shipped_root()) if _plain(name) else ():
        for home in within(folder) if name is None else [folder / name]:
            for beside in within(home):
                path = beside.with_suffix("")
                named = name is None or path.name.startswith(f"{name}.")
                if beside.suffix == ".json" and named and is_there(path):
                    yield path


def _plain(name: str | None) -> bool:
    """Tell whether a name is one folder's name: nothing in it climbs, separates or globs."""
    return name is None or not (set(name) & set("/\\*?[]\0") or name in ("", ".", ".."))


def is_shipped(path: Path) -> bool:
    """Tell whether an artifact came with the installation."""
    return path.resolve().is_relative_to(shipped_root().resolve())


def artifact_name(model: str) -> str:
    """Return the name of a model's artifacts: its own, but for a colon and dots, which become dashes.

    An artifact's name ends at its file's first dot.
    """
    return model.replace(":", "-").replace(".", "-")


def check_name(name: str) -> str:
    """Return a chosen name if an artifact can have it: it is a folder's and begins its files, up to the dot.

    Raises CnnkitError.
    """
    if not _NAME.fullmatch(name):
        raise CnnkitError(
            f"{name!r} cannot name an artifact: take letters, digits, spaces, - and _, "
            f"at most {LONGEST_NAME} of them"
        )
    return name
