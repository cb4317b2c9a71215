"""A whole export in one call: the network is found, every format is made of it and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters.run.ignored import refuse_settled, refuse_unread
from exporters.run.plan import ExportRequest, ExportRun
from exporters.run.report import Report
from exporters.run.source import open_source
from toolkit.artifacts import CHECKPOINT, Artifact, artifacts_root
from toolkit.errors import CnnkitError
from toolkit.exporting import EXPORTERS, ExportOptions, default_formats, own_by_word
from toolkit.graphs import GRAPH
from toolkit.graphs.source import is_bare_graph
from toolkit.opening import Selection, describe, take_weights
from toolkit.passports import Precision
from toolkit.seeding import refuse_seeding
from toolkit.telling import Tell, silent


def export(
    model: str | Path | None = None,
    *,
    formats: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    options: Mapping[str, Mapping[str, Any]] | ExportOptions | None = None,
    untrained: bool = False,
    pretrained: Path | str | None = None,
    fresh: bool = False,
    dataset: str | None = None,
    classes: Sequence[str] | None = None,
    root: Path | str | None = None,
    tell: Tell = silent,
) -> Report:
    """Export a network and check what came of it: a name's checkpoint, else its fp32 graph, or a path's file.

    `model` None is the network that was trained or exported last; `formats` None are those that are made by
    default; `precisions` None are fp32, but for a format that chooses by what it measures. `pretrained`
    is a file of published weights of the package's network that `model` names.
    `options` holds exporters' own options by their words, {"trt": {"flavour": "classic"}}, or is
    all that an export is asked (batches, pictures for the proof, seed …). `fresh` makes again what
    an identical export has left. `dataset` and `classes` are of an .onnx file from elsewhere, which they
    are imported with first.

    What fails its checks or cannot be made here stands in the report, whose `require` raises it. Raises
    NotFoundError with the nearest match for a format, option or network that is not there, CnnkitError
    where another network has the name.
    """
    for name in formats or ():
        EXPORTERS.origin(name)  # an unknown word gets its nearest match
    asked = options if isinstance(options, ExportOptions) else ExportOptions(own=own_by_word(options or {}))
    asked = dataclasses.replace(asked, open_precision=precisions is None)
    if root is not None:
        asked = dataclasses.replace(asked, root=artifacts_root(root))
    selection = Selection(
        root=asked.root,
        formats=(CHECKPOINT,),
        untrained=untrained,
        seed=asked.seed,
        model_file=asked.model_file,
    )
    model = take_weights(model, pretrained, asked.root)
    if untrained and model is not None:
        refuse_seeding([model], asked.seed)
    wanted: tuple[Precision, ...] = ("fp32",) if precisions is None else tuple(precisions)
    refuse_unread(asked, tuple(formats or default_formats()), wanted)
    if dataset is not None or classes is not None:
        made = _imported(model, asked, dataset=dataset, classes=classes, fresh=fresh, tell=tell)
        model, fresh, asked = made.path, False, dataclasses.replace(asked, size=None, output=None)
    source = open_source(None if model is None else str(model), selection, asked, tell)
    tell(f"opened {describe(source)}")
    refuse_settled(source, asked)
    meant = {one.name for one in EXPORTERS.all() if asked.own_of(one.options) != one.options()}
    request = ExportRequest(
        formats=tuple(formats or default_formats()),
        precisions=wanted,
        options=asked,
        named=frozenset(formats or ()) | meant,
        fresh=fresh,
    )
    return ExportRun(source, request, tell).run()


def _imported(
    model: str | Path | None,
    asked: ExportOptions,
    *,
    dataset: str | None,
    classes: Sequence[str] | None,
    fresh: bool,
    tell: Tell,
) -> Artifact:
    """Import an .onnx file with what is said of it. Raises CnnkitError for anything else."""
    from toolkit.importing.importer import import_

    path = Path(model or "")
    if not is_bare_graph(path):
        raise CnnkitError(
            f"--dataset and --classes are for an .{GRAPH} file from elsewhere; those of "
            f"{model or 'the network that was made last'} stand in its passport"
        )
    return import_(
        path,
        name=asked.name,
        dataset=dataset,
        classes=classes,
        size=asked.size,
        logits=asked.output,
        seed=asked.seed,
        data_dir=asked.data_dir,
        fresh=fresh,
        root=asked.root,
        tell=tell,
    )
