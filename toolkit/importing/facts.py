"""What an ONNX file says of itself: cnnkit's own metadata and Ultralytics'."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit import schema
from toolkit.artifacts import read_passport, sidecar
from toolkit.errors import CnnkitError, CorruptError
from toolkit.graphs.reading import hash_graph
from toolkit.importing import KnownFacts
from toolkit.passports import DatasetRef, Metrics, Passport
from toolkit.preprocessing import Preprocessing
from toolkit.presence import is_there
from toolkit.telling import Tell

_AGAIN = "say it with --classes, --mean and --std"


def known_facts(path: Path, model: Any, tell: Tell) -> KnownFacts | None:
    """Return what a file says of its pixels and classes: its passport, else its metadata; None if nothing.

    What cannot be read of it is told and not used. Raises CnnkitError for a network that is no classifier
    by its own words.
    """
    beside = _passport_facts(path, tell)
    if beside is not None:
        return beside
    props = {entry.key: entry.value for entry in model.metadata_props}
    try:
        if any(key.startswith("cnnkit.") for key in props):
            return _own(props)
        if "names" in props and ("imgsz" in props or "stride" in props):
            return _ultralytics(path, props)
    except CorruptError as error:
        tell(f"the file's own metadata is not used: {error}")
    return None


def facts_of_passport(passport: Passport, origin: str) -> KnownFacts:
    """Return what a passport says of pixels and classes."""
    return KnownFacts(
        origin=origin,
        preprocessing=passport.preprocessing,
        classes=passport.classes or None,
        dataset=passport.dataset,
        trained=passport.trained,
        metrics=passport.metrics,
    )


def _passport_facts(path: Path, tell: Tell) -> KnownFacts | None:
    beside = sidecar(path)
    if not is_there(beside):
        return None
    try:
        passport = read_passport(path)
    except CorruptError as error:
        tell(f"the passport beside the file is not used: {error}")
        return None
    if passport.sha256 != hash_graph(path):
        tell(f"{beside} is not used: it is the passport of another file")
        return None
    return facts_of_passport(passport, f"its passport, {beside}")


def _own(props: Mapping[str, str]) -> KnownFacts:
    found = {key.removeprefix("cnnkit."): value for key, value in props.items() if key.startswith("cnnkit.")}

    def read(name: str, kind: Any) -> Any:
        text = found.get(name)
        if text is None or text == "null":
            return None
        what = f"cnnkit.{name} in the file's metadata"
        try:
            data = json.loads(text)
        except ValueError:
            raise CorruptError(f"{what} is no JSON; {_AGAIN}") from None
        return schema.convert(kind, data, what=what, again=_AGAIN)

    classes = read("classes", tuple[str, ...])
    return KnownFacts(
        origin="cnnkit's metadata in the file",
        preprocessing=read("preprocessing", Preprocessing),
        classes=classes or None,
        dataset=read("dataset", DatasetRef),
        trained=read("trained", bool),
        metrics=read("metrics", Metrics) or Metrics(),
    )


def _ultralytics(path: Path, props: Mapping[str, str]) -> KnownFacts:
    """Read `names`, `imgsz` and `task`, which Ultralytics writes as Python's own literals."""
    task = props.get("task", "classify")
    if task != "classify":
        raise CnnkitError(
            f"{path} is an Ultralytics network for {task!r}; cnnkit takes classifiers (task classify)"
        )
    names, size = _literal(props["names"]), _literal(props.get("imgsz", "None"))
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=_place)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorruptError(f"Ultralytics' names are no list of names; {_AGAIN}")
    sides = [size, size] if isinstance(size, int) else size
    fits = isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(s, int) for s in sides)
    height, width = (int(sides[0]), int(sides[1])) if fits and sides else (224, 224)
    # ultralytics.data.augment.classify_transforms: shorter side to size, centre cut out, pixels / 255
    preprocessing = Preprocessing(
        size=(height, width),
        channels=3,
        resize="crop",
        interpolation="bilinear",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        formula="divide",
    )
    return KnownFacts(
        origin="Ultralytics' metadata in the file",
        preprocessing=preprocessing,
        size=(height, width) if fits else None,
        classes=tuple(names),
        trained=True,
    )


def _place(key: Any) -> tuple[int, str]:
    """Order class numbers as numbers, be they written as text or not; what is none comes last."""
    text = str(key).strip()
    return (int(text), "") if text.isdecimal() else (1 << 62, text)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise CorruptError(f"Ultralytics' metadata cannot be read: {text[:40]!r}; {_AGAIN}") from None
