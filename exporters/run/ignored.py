"""Options that an export would not heed: refused in words, as nobody would notice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.errors import CnnkitError
from toolkit.exporting import EXPORTERS, Exporter, ExportOptions, own_fields
from toolkit.graphs import GRAPH
from toolkit.graphs.source import is_bare_graph
from toolkit.passports import Precision


def refuse_unread(
    options: ExportOptions, formats: tuple[str, ...], precisions: tuple[Precision, ...]
) -> None:
    """Raise CnnkitError for an exporter's own option that none of what is made would read."""
    making = _needed(options, formats, precisions)
    known = {field for name in making for field in typed_fields(EXPORTERS.load(name), options)}
    for exporter in EXPORTERS.all():
        for field in typed_fields(exporter, options):
            if field not in known:
                having = [
                    one.name for one in EXPORTERS.all() if field in {own.name for own in own_fields(one)}
                ]
                raise CnnkitError(
                    f"--{field.replace('_', '-')} is for {' and '.join(having)} files, and --format "
                    f"{','.join(formats)} makes none: leave it away, or add --format {having[0]}"
                )


def typed_fields(exporter: Exporter, options: ExportOptions) -> Iterator[str]:
    """Yield the fields of an exporter's own options that are not at their defaults."""
    own = options.own_of(exporter.options)
    return (field.name for field in own_fields(exporter) if getattr(own, field.name) != field.default)


def _needed(
    options: ExportOptions, formats: tuple[str, ...], precisions: tuple[Precision, ...]
) -> frozenset[str]:
    """Return the words of the exporters that run for these formats, with those of what they are made from."""
    found: set[str] = set()
    for precision in precisions:
        todo = [(name, dataclasses.replace(options, precision=precision)) for name in formats]
        while todo:
            name, asked = todo.pop()
            found.add(name)
            need = EXPORTERS.load(name).needs(asked)
            if need is not None:
                todo.append((need.exporter, need.options(asked)))
    return frozenset(found)


def refuse_settled(source: Artifact, options: ExportOptions) -> None:
    """Raise CnnkitError for what only a file from elsewhere is asked that was not imported yet."""
    known, name = source.passport, source.path.name
    if is_bare_graph(source.path):
        return
    scores = known.outputs[:1] or (known.output.name,)
    if options.output is not None and options.output not in scores:
        raise CnnkitError(
            f"--output is for an .{GRAPH} file that was not imported yet; the scores of {name} are its "
            f"{scores[0]!r}: leave it away, or read the file anew with `cnnkit import FILE --logits "
            f"{options.output}`"
        )
    captured = known.format == CHECKPOINT or (known.source_sha256 and known.imported_sha256 is None)
    if options.size is not None and captured and options.size != known.input.shape[2:]:
        size = "x".join(map(str, known.input.shape[2:]))
        raise CnnkitError(
            f"--size closes an open height and width of an .{GRAPH} file from elsewhere, and {name} takes "
            f"{size}: leave it away; `cnnkit train --size` makes a network of another size"
        )
