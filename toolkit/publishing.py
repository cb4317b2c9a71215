"""An artifact appears whole, with the passport and the proof that belong to it, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from toolkit.artifacts import (
    Artifact,
    cannot_write,
    hash_file,
    sidecar,
    write_bytes,
    write_json,
    writing,
    written_at,
)
from toolkit.errors import CnnkitError
from toolkit.locking import held
from toolkit.passports import Passport

# Writes a file at the path that it is given, and returns its passport as far as it is known.
Draft = Callable[[Path], Passport]
# Opens the file that was just written; returns its passport with what was measured, and its proof.
Prove = Callable[[Artifact], tuple[Passport, bytes | None]]


# as whoever sends a folder's files elsewhere knows what is held, and what is half-written
TURN, ASIDE = ".turn.lock", ".old.part"


def proof_path(path: Path) -> Path:
    """Return where the proof of a file lies: `<file>.proof.safetensors`."""
    return path.with_name(path.name + ".proof.safetensors")


def publish(path: Path, draft: Draft, prove: Prove | None = None) -> Artifact:
    """Write a file beside its place, prove it there, then move it in with its passport.

    `draft` writes it and returns its passport, so that nothing of a large graph is held while it is
    proven. Without `prove` it has no proof beside it. Whatever is raised leaves the older file, passport and
    proof as they were. Two that write one place at once take turns, so that a file never stands beside the
    other one's passport.
    """
    make_writable(path.parent)
    try:
        with contextlib.ExitStack() as turn:
            with writing(path) as part:
                drafted = dataclasses.replace(draft(part), sha256=hash_file(part), created=None)
                made, proof = drafted, None
                if prove is not None:
                    made, proof = prove(Artifact(path=part, passport=drafted))
                turn.enter_context(take_turn(path.parent))
                turn.enter_context(_older_kept(path, part.with_suffix(ASIDE)))
            return _described(path, dataclasses.replace(made, sha256=drafted.sha256), proof)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_artifact(path: Path) -> None:
    """Remove an artifact, file or folder, with its passport and its proof."""
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
    with held(folder / TURN):
        yield


def publish_folder(
    path: Path, fill: Callable[[Path], None], passport: Passport, prove: Prove | None = None
) -> Artifact:
    """Fill a folder beside its place, prove it there, then move it in with its passport.

    Whatever `fill` or `prove` raises leaves the older one. Without `prove` it has no proof beside it.
    """
    make_writable(path.parent)
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:  # a full disk
        raise cannot_write(path, error) from error
    try:
        fill(part)
        part.chmod(0o755)  # mkdtemp makes folders private; this one is an ordinary one
        made, proof = dataclasses.replace(passport, sha256=hash_file(part), created=None), None
        if prove is not None:
            made, proof = prove(Artifact(path=part, passport=made))
        with take_turn(path.parent), _older_kept(path, part.with_suffix(ASIDE)):
            part.rename(path)
            return _described(path, made, proof)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _described(path: Path, made: Passport, proof: bytes | None) -> Artifact:
    """Write the passport and the proof of what was just moved into its place; an older proof goes."""
    if proof is not None:
        made = dataclasses.replace(made, proof_sha256=hashlib.sha256(proof).hexdigest())
        write_bytes(proof_path(path), proof)
    else:
        proof_path(path).unlink(missing_ok=True)
    made = dataclasses.replace(made, created=made.created or written_at(datetime.now(UTC)))
    write_json(sidecar(path), made.to_json())
    return Artifact(path=path, passport=made)


@contextlib.contextmanager
def _older_kept(path: Path, aside: Path) -> Iterator[None]:
    """Lay what is older aside; where another cannot take its place whole, put it and what is beside it back.

    A file stays in its place meanwhile, for whoever opens it, and so does the passport: it is written last.
    """
    before = {beside: _content(beside) for beside in (proof_path(path), sidecar(path))}
    if path.is_dir():
        path.rename(aside)
    elif path.exists():
        _doubled(path, aside)
    try:
        yield
    except BaseException:
        if aside.exists():
            if aside.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            aside.replace(path)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        _put_back(before)
        raise
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _put_back(before: Mapping[Path, bytes | None]) -> None:
    """Have files hold what they held; those that there were none of go."""
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        elif _content(path) != content:
            write_bytes(path, content)


def _content(path: Path) -> bytes | None:
    """Return the bytes of a file; None where there is none."""
    return path.read_bytes() if path.exists() else None


def _doubled(path: Path, aside: Path) -> None:
    """Give a file a second name, or where the file system has no links a copy."""
    try:
        aside.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, aside)
