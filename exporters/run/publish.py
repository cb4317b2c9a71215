"""An export appears whole, with its passport, after it passed its checks; or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from exporters.proving.proof import proof_path
from toolkit.artifacts import Artifact, hash_file, now, sidecar, write_bytes, write_json, writing
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH
from toolkit.passports import Passport

# Writes a file at the path that it is given, and returns its passport as far as it is known.
Draft = Callable[[Path], Passport]
# Opens the file that was just written; returns its passport with what was measured, and its proof.
Prove = Callable[[Artifact], tuple[Passport, bytes | None]]

# what was left in float, and what is known of what int8 lost: as true of whatever is made of that file
LOSSES = ("kept_fp32", "kept_float", "calibration", "accuracy_drop", "accuracy_drop_why")


def publish(path: Path, draft: Draft, prove: Prove) -> Artifact:
    """Write a file beside its place, prove it there, then move it in with its passport.

    `draft` writes it and returns its passport, so that nothing of a large graph is held while it is
    proven. Whatever `prove` raises leaves the older file and passport as they were. Two exports of one model
    at once take turns, so that a file never stands beside the other one's passport.
    """
    make_writable(path.parent)
    with writing(path) as part:
        drafted = dataclasses.replace(draft(part), sha256=hash_file(part), created=None)
        proven, proof = prove(Artifact(path=part, passport=drafted))
        if proof is not None:
            proven = dataclasses.replace(proven, proof_sha256=hashlib.sha256(proof).hexdigest())
        turn = contextlib.ExitStack()
        turn.enter_context(take_turn(path.parent))
        if proof is not None:
            write_bytes(proof_path(path), proof)
    with turn:
        made = dataclasses.replace(proven, sha256=drafted.sha256, created=proven.created or now())
        write_json(sidecar(path), made.to_json())
    return Artifact(path=path, passport=made)


def inherited(source: Passport, *facts: str) -> Passport:
    """Return what an export's passport takes over from its source's; the rest is the export's own to say.

    That is all up to `created` but what was measured or made of the source alone; of the facts of some
    artifacts, the seed and the options of its training, the hash of a model file and those that are named.
    What is made of a graph from elsewhere says where that came from, too.
    """
    names = [f.name for f in dataclasses.fields(Passport)]
    later = names[names.index("created") :]
    kept = {"seed", "options", "model_file_sha256", "preprocessing_from", "quantised_by", *facts}
    if source.format == GRAPH:
        kept |= {"imported_from", "imported_sha256"}
    own = Passport(
        format=source.format,
        model=source.model,
        precision=source.precision,
        trained=source.trained,
        input=source.input,
        output=source.output,
        classes=source.classes,
        preprocessing=source.preprocessing,
    )
    alone = ["target", "parity", "parity_why", "source_parity"]
    dropped = {name: getattr(own, name) for name in [*later, *alone] if name not in kept}
    return dataclasses.replace(source, **dropped)


def remove_export(path: Path) -> None:
    """Remove an export, file or folder, with its passport and its proof."""
    with take_turn(path.parent):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for beside in (sidecar(path), proof_path(path)):
            beside.unlink(missing_ok=True)


def make_writable(folder: Path) -> None:
    """Make a folder. Raises CnnkitError where it cannot be made or written, before minutes of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CnnkitError(
            f"cannot make {folder}: {error.strerror}; name another place with --artifacts DIR"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CnnkitError(f"{folder} is read-only; name another place with --artifacts DIR")


@contextlib.contextmanager
def take_turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else moves files into this folder, or writes to a passport in it."""
    with (folder / ".turn").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish_folder(
    path: Path, fill: Callable[[Path], None], passport: Passport, prove: Prove | None = None
) -> Artifact:
    """Fill a folder beside its place, prove it there, then move it in with its passport.

    Whatever `fill` or `prove` raises leaves the older one. Without `prove` it has no proof beside it.
    """
    make_writable(path.parent)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        fill(part)
        part.chmod(0o755)  # mkdtemp makes folders private; this one is an ordinary one
        made, proof = dataclasses.replace(passport, sha256=hash_file(part), created=None), None
        if prove is not None:
            made, proof = prove(Artifact(path=part, passport=made))
        if proof is not None:
            made = dataclasses.replace(made, proof_sha256=hashlib.sha256(proof).hexdigest())
        made = dataclasses.replace(made, created=made.created or now())
        with take_turn(path.parent), _put_back(path, part.with_suffix(".old")):
            part.rename(path)
            if proof is not None:
                write_bytes(proof_path(path), proof)
            write_json(sidecar(path), made.to_json())
    except OSError as error:
        raise CnnkitError(f"cannot write {path}: {error.strerror or error}; free some space") from error
    finally:
        for leftover in (part, part.with_suffix(".old")):
            shutil.rmtree(leftover, ignore_errors=True)
    return Artifact(path=path, passport=made)


@contextlib.contextmanager
def _put_back(path: Path, aside: Path) -> Iterator[None]:
    """Lay an older folder aside; where another cannot take its place whole, put it back with its proof."""
    older = proof_path(path).read_bytes() if proof_path(path).exists() else None
    if path.exists():
        path.rename(aside)
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        if aside.exists():
            aside.rename(path)
            if older is not None and proof_path(path).read_bytes() != older:
                write_bytes(proof_path(path), older)
        raise
