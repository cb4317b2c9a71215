"""Artifact: one file and its passport; how both are written whole or not at all, and how a name finds one."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from toolkit.catalog import check_name
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.images import Preprocessing

Format = Literal["safetensors", "onnx", "trt", "triton"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]

SCHEMA = 1
SUFFIXES: dict[str, Format] = {".safetensors": "safetensors", ".onnx": "onnx", ".engine": "trt"}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output: name, shape with None for the batch, dtype by numpy name, layout."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    layout: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """The data that weights were trained on: its name as given, and the hash of its content."""

    name: str
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What was measured of the checkpoint's own weights: fp32, one pass, no test-time augmentation."""

    test_accuracy: float | None = None
    test_images: int | None = None
    test_accuracy_ci95: tuple[float, float] | None = None
    val_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How an artifact's answers differ from its source's, on the same images."""

    images: int
    source: str
    max_abs_diff: float
    max_softmax_shift: float
    top1_agreement: float
    accuracy: float | None = None
    accuracy_change: float | None = None
    largest_logit: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that an artifact was made for; None where it runs anywhere.

    `hardware_compatibility` and `version_compatible` are classic TensorRT's: for which other GPUs, and
    whether for later releases, its builder was asked.
    """

    flavour: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    version: str | None = None
    install: str | None = None
    shape_profile: Mapping[str, tuple[int, ...]] | None = None
    instruction_set: str | None = None
    hardware_compatibility: str | None = None
    version_compatible: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Passport:
    """An artifact's JSON sidecar. What is not known is None; `extra` keeps any further keys."""

    format: Format
    model: str
    precision: Precision
    trained: bool | None
    input: TensorSpec
    output: TensorSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing | None
    dataset: DatasetRef | None = None
    recipe: Mapping[str, Any] | None = None
    sha256: str = ""
    source_sha256: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    target: Target | None = None
    metrics: Metrics = field(default_factory=Metrics)
    parity: Parity | None = None
    parity_why: str | None = None
    source_parity: Parity | None = None
    created: str = ""
    schema: int = SCHEMA
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; the keys of `extra` stand beside the others."""
        data = dataclasses.asdict(self)
        extra = data.pop("extra")
        return {"schema": data.pop("schema"), **data, **extra}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Passport:
        """Read a passport. Raises KeyError, TypeError or ValueError when a part is missing or odd."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}; this release reads {SCHEMA}")
        if data["format"] not in get_args(Format) or data["precision"] not in get_args(Precision):
            raise ValueError(f"format {data['format']!r} with precision {data['precision']!r}")
        known = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        values = {key: data[key] for key in known if key in data}
        values["input"] = _tensor(data["input"])
        values["output"] = _tensor(data["output"])
        values["classes"] = tuple(str(name) for name in data["classes"])
        values["created"] = str(data.get("created") or "")  # null where it is not known; sorted as text
        prep = data["preprocessing"]
        values["preprocessing"] = Preprocessing.from_json(prep) if prep else None
        for key, kind in _NESTED.items():
            if values.get(key) is not None:
                values[key] = _nested(kind, values[key])
        return cls(**values, extra={k: v for k, v in data.items() if k not in known})


_NESTED: dict[str, type[Any]] = {
    "dataset": DatasetRef,
    "metrics": Metrics,
    "parity": Parity,
    "source_parity": Parity,
    "target": Target,
}


def _nested(kind: type[Any], data: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known})


def _tensor(data: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(None if n is None else int(n) for n in data["shape"])
    return TensorSpec(
        name=str(data["name"]), shape=shape, dtype=str(data["dtype"]), layout=data.get("layout")
    )


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
    """Return the time in UTC as passports write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file (of a folder: of its files' names and contents, sorted)."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    On any error, a full disk or Ctrl-C the old file stays as it was and the temporary one is gone.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None
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
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> CnnkitError:
    why = error.strerror or str(error)
    return CnnkitError(f"cannot write {path}: {why}; free some space or name another --artifacts folder")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with writing(path) as part:
        part.write_bytes(data)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; a number that is not finite is refused."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def size_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def sidecar(path: Path) -> Path:
    """Return where an artifact's passport lies: `<file>.json`."""
    return path.with_name(path.name + ".json")


def stamp(path: Path, passport: Passport) -> Artifact:
    """Write the passport of a file that is already in place, its hash and time filled in."""
    passport = dataclasses.replace(passport, sha256=hash_file(path), created=passport.created or now())
    write_json(sidecar(path), passport.to_json())
    return Artifact(path=path, passport=passport)


def read_passport(path: Path) -> Passport:
    """Read the passport beside `path`. Raises NotFoundError or CorruptError in words."""
    beside = sidecar(path)
    try:
        return Passport.from_json(json.loads(beside.read_text("utf-8")))
    except FileNotFoundError:
        raise NotFoundError(
            f"{path} has no passport ({beside.name} is not beside it); `cnnkit import {path} "
            "--model NAME` makes one for weights, `cnnkit export FILE.onnx` for an ONNX file"
        ) from None
    except OSError as error:
        raise CorruptError(f"{beside} cannot be read: {error.strerror or error}") from None
    except KeyError as error:
        raise CorruptError(f"{beside} is no passport: it lacks {error}; make the artifact again") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptError(f"{beside} is damaged: {error}; make the artifact again") from None


def open_artifact(path: Path) -> Artifact:
    """Open a file with its passport and check its hash. Raises NotFoundError or CorruptError."""
    if not path.exists():
        raise NotFoundError(f"no file {path}")
    passport = read_passport(path)
    if hash_file(path) != passport.sha256:
        raise CorruptError(
            f"{path} is not the file that its passport describes (its SHA-256 differs): it was "
            "altered or cut short; make it again, or copy both files anew"
        )
    return Artifact(path=path, passport=passport)


SHIPPED = "shipped"


def artifacts_root(given: Path | None = None) -> Path:
    """Return the artifacts folder: as given, else $CNNKIT_ARTIFACTS, else ./artifacts."""
    return given or Path(os.environ.get("CNNKIT_ARTIFACTS") or "artifacts")


def cache_root() -> Path:
    """Return the folder of what is kept for later runs and can be made anew, $XDG_CACHE_HOME/cnnkit."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnkit"


def shipped_root() -> Path:
    """Return the folder of the artifacts that ship: inside the wheel, or in the source tree."""
    packaged = Path(__file__).parent / SHIPPED
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "artifacts" / SHIPPED


def artifact_path(root: Path, name: str, format: Format, precision: Precision = "fp32") -> Path:
    """Return where an artifact of that name, format and precision lies under `root`.

    A name that climbs or separates is refused with CnnkitError. One that a foreign file brought may
    otherwise be anything; for those that people choose, see `check_name`.
    """
    if not _plain(name):
        check_name(name)
    suffix = {kind: ending for ending, kind in SUFFIXES.items()}.get(format, ".triton")
    # every engine says its precision; of the others only those that are not the plain fp32 do
    middle = f".{precision}" if format == "trt" or precision != "fp32" else ""
    return root / name / f"{name}{middle}{suffix}"


def find_artifacts(root: Path, name: str | None = None) -> list[tuple[Path, Passport]]:
    """Return every artifact under `root` and among the shipped ones, newest first, by passport.

    Files whose passport cannot be read are left out here; opening one by its path says why.
    """
    found: list[tuple[Path, Passport]] = []
    for folder in (root, shipped_root()):
        pattern = f"{name}/{name}.*.json" if name else "*/*.json"
        for beside in sorted(folder.glob(pattern)) if _plain(name) else []:
            path = beside.with_suffix("")
            if path.suffix not in (*SUFFIXES, ".triton") or not path.exists():
                continue
            with contextlib.suppress(CorruptError, NotFoundError):
                found.append((path, read_passport(path)))
    return sorted(found, key=lambda entry: entry[1].created, reverse=True)


def _plain(name: str | None) -> bool:
    """Tell whether a name is one folder's name: nothing in it climbs, separates or globs."""
    return name is None or not (set(name) & set("/\\*?[]\0") or name in ("", ".", ".."))


def is_shipped(path: Path) -> bool:
    """Tell whether an artifact came with the installation."""
    return path.resolve().is_relative_to(shipped_root().resolve())


def as_precision(text: str) -> Precision:
    """Return the precision of that name. Raises ValueError for another word."""
    if text not in get_args(Precision):
        raise ValueError(f"no precision {text!r}; known: {', '.join(get_args(Precision))}")
    return cast(Precision, text)
