"""Where an imported network goes: a name that no other content has, and its files, whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from toolkit.artifacts import (
    CHECKPOINT,
    LONGEST_NAME,
    Artifact,
    artifact_path,
    check_name,
    find_artifacts,
    is_shipped,
)
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH
from toolkit.graphs.facts import write_facts
from toolkit.passports import Passport
from toolkit.publishing import publish, remove_artifact
from toolkit.telling import Tell


def name_for(path: Path, given: str | None) -> str:
    """Return an artifact's name: as given, else the file's, with dashes for what no name can hold."""
    if given is not None:
        return check_name(given)
    name = "".join(letter if letter.isalnum() or letter in " -_" else "-" for letter in path.stem)
    return check_name(name.strip(" -")[:LONGEST_NAME].strip() or "network")


def refuse_taken(root: Path, name: str, imported_sha256: str, *, fresh: bool) -> None:
    """Raise CnnkitError where other content has the name and nothing says to replace it, or nothing may."""
    others = [entry for entry in _own(root, name) if entry[1].imported_sha256 != imported_sha256]
    kept = next((path for path, found in others if found.format == CHECKPOINT), None)
    if kept is not None:
        raise CnnkitError(f"{kept} is a checkpoint, which no file can make again: --name OTHER keeps both")
    if others and not fresh:
        raise CnnkitError(
            f"{others[0][0]} is another network by the name of {name}: --name OTHER keeps both, --fresh "
            "replaces what is there"
        )


def refuse_taken_checkpoint(root: Path, name: str, imported_sha256: str) -> None:
    """Raise CnnkitError where a checkpoint would take the place of another one."""
    path = artifact_path(root, name)
    known = next((found for beside, found in _own(root, name) if beside == path), None)
    if known is not None and known.imported_sha256 == imported_sha256:
        return  # the same file again: what was made of it goes where it is read otherwise now
    if path.exists():
        raise CnnkitError(f"{path} is there already; add --name OTHER to keep both, or --replace")
    refuse_taken(root, name, imported_sha256, fresh=False)


def write_imported(root: Path, name: str, model: Any, passport: Passport, tell: Tell) -> Artifact:
    """Write the graph with its passport, and take away what was made of another network of that name."""
    path = artifact_path(root, name, f".{GRAPH}")
    before = next((found for beside, found in _own(root, name) if beside == path), None)
    # one file gives other graphs with other --logits or --fix, and is fed otherwise with another layout
    same = before is not None and before.input == passport.input and _holds_graph(path, model)
    write_facts(model, passport)

    def draft(part: Path) -> Passport:
        part.write_bytes(model.SerializeToString(deterministic=True))
        return passport

    made = publish(path, draft)
    remove_outdated(root, name, made, tell, same=same)
    return made


def remove_outdated(root: Path, name: str, made: Artifact, tell: Tell, *, same: bool) -> None:
    """Take away what is beside a new import and was made of another one; `same` is what was imported before.

    All of it was, unless that is the same as now.
    """
    for beside, found in _own(root, name):
        if beside != made.path and not (same and _still_holds(found, made.passport)):
            remove_artifact(beside)
            tell(f"removed {beside}: it was made of what had the name {name} before")


def _holds_graph(path: Path, model: Any) -> bool:
    """Tell whether a file computes what a graph does, whatever facts and inferred shapes stand in it."""
    import onnx

    try:
        held = onnx.load(path)
    except Exception:  # protobuf, OS and onnx errors share no base class; what cannot be read is another
        return False
    return _computed(held.graph) == _computed(model.graph)


def _computed(graph: Any) -> str:
    """Return the hash of a graph's outputs, nodes and weights."""
    found = hashlib.sha256(repr([value.name for value in graph.output]).encode())
    for part in (*graph.node, *graph.initializer):
        found.update(part.SerializeToString(deterministic=True))
    return found.hexdigest()


def _own(root: Path, name: str) -> list[tuple[Path, Passport]]:
    return [(path, found) for path, found in find_artifacts(root, name) if not is_shipped(path)]


def _still_holds(made: Passport, now: Passport) -> bool:
    """Tell whether an export of an earlier import says what the new one says, too."""
    facts = ["preprocessing", "classes", "dataset"]
    if now.format == GRAPH:  # what is made of a checkpoint does not say which file that came from
        facts.append("imported_sha256")
    return all(getattr(made, fact) == getattr(now, fact) for fact in facts)
