"""What a folder for everybody's browsers may tell: no path of the machine that made it, and not its name.

Only what the page and its classifier read, and what says which network it is, leaves the passport. Of data
sets that lie at a path the last part stays.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path, PurePath

from toolkit.artifacts import Artifact
from toolkit.graphs.facts import DATASET
from toolkit.graphs.reading import load_graph
from toolkit.passports import DatasetRef, Passport

# what ends a path in a sentence; folders hold blanks and apostrophes within their names
_ENDS = r'/"`;,:()\n'
_FOLDER = rf"[^\s'{_ENDS}](?:[^{_ENDS}]*[^\s'{_ENDS}])?/"
_START = r"(?<![\w./])"
_PATH = re.compile(rf"{_START}/(?:{_FOLDER})+(?=[^\s'{_ENDS}])")


def public_graph(source: Artifact) -> bytes:
    """Return an ONNX file as everybody may have it: its own bytes where it names no place of its data set."""
    known = source.passport.dataset
    if known is None or known == _public_dataset(known):
        return source.path.read_bytes()
    model = load_graph(source.path)
    for entry in model.metadata_props:
        if entry.key == DATASET:
            told = dataclasses.asdict(_public_dataset(known))
            entry.value = json.dumps(told, ensure_ascii=False)
    return bytes(model.SerializeToString(deterministic=True))


def public_passport(known: Passport, sha256: str) -> Passport:
    """Return what of a graph's passport everybody may read, for the graph with this hash."""
    return Passport(
        format=known.format,
        model=known.model,
        precision=known.precision,
        trained=known.trained,
        input=known.input,
        output=known.output,
        classes=known.classes,
        preprocessing=known.preprocessing,
        dataset=None if known.dataset is None else _public_dataset(known.dataset),
        sha256=sha256,
        metrics=known.metrics,
        created=known.created,
        opset=known.opset,
        softmax=known.softmax,
        proof_sha256=known.proof_sha256,
        int8_dialect=known.int8_dialect,
    )


def without_places(text: str, *known: Path) -> str:
    """Return a sentence with the last part of each absolute path in it, and of each below a known folder.

    The home and the working folder are known, whatever signs their names hold.
    """
    places = {str(form) for one in (*known, Path.home(), Path.cwd()) for form in (one, one.absolute())}
    for place in sorted(places - {"/", "."}, key=len, reverse=True):
        text = re.sub(rf"{_START}{re.escape(place)}/(?:{_FOLDER})*", "", text)
    return _PATH.sub("", text)


def _public_dataset(known: DatasetRef) -> DatasetRef:
    """Return a data set by its name and content; of a path its last part, and nothing of how it was read."""
    scheme, colon, place = known.name.partition(":")
    if "/" in scheme:  # a path alone
        scheme, colon, place = "", "", known.name
    name = f"{scheme}{colon}{PurePath(place).name}"
    if name == known.name and known.exclude is None:
        return known
    return DatasetRef(name=name, fingerprint=known.fingerprint, named=known.named, halved=known.halved)
