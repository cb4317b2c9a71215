"""Where an export goes, and whose place it would take there: never that of another network's artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toolkit.artifacts import (
    CHECKPOINT,
    Artifact,
    artifact_path,
    find_artifacts,
    is_shipped,
    read_passport,
    sidecar,
)
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.exporting import Exporter, ExportOptions
from toolkit.graphs import GRAPH
from toolkit.passports import Passport
from toolkit.telling import Tell

KEEP_OR_REPLACE = "`--name OTHER` keeps both, `--fresh` replaces what is there"


def export_name(source: Artifact, options: ExportOptions) -> str:
    """Return the artifact's name: the one typed, else the source's (`…-uint8` where it takes raw pixels).

    An artifact's name ends at its file's first dot. A file from elsewhere may have dots anywhere, and
    what tells `net1.0` from `net1.1` comes behind one, so its dots become dashes.
    """
    if options.name:
        return options.name
    # every graph that was exported here names its source
    known = source.passport
    elsewhere = known.format == GRAPH and known.source_sha256 is None
    name = source.path.stem.replace(".", "-") if elsewhere else source.name
    raw = options.pixels and not name.endswith("-uint8")
    return f"{name}-uint8" if raw else name


def export_path(source: Artifact, options: ExportOptions, exporter: Exporter) -> Path:
    """Return where an exporter's result goes: `options.path`, else under the name by its own ending."""
    return options.path or artifact_path(options.root, export_name(source, options), exporter.ending(options))


def refuse_another_network(source: Artifact, options: ExportOptions) -> None:
    """Raise CnnkitError where the artifacts of that name are another network's.

    A typed name is meant, but that one file from elsewhere takes another one's place is never.
    """
    name = export_name(source, options)
    for path, placed in others_of(source, options):
        if options.name and not both_elsewhere(placed, source.passport):
            continue
        whose = "made of another file" if both_elsewhere(placed, source.passport) else "another network"
        about = f"{placed.model}, {'from elsewhere' if placed.trained is None else 'of a checkpoint'}"
        raise CnnkitError(
            f"{source.path} would be exported as {name}, and {path} is {whose} ({about}): "
            "of `cnnkit export`, `--name OTHER` keeps both, `--fresh` replaces what is there"
        )


def refuse_unknown(
    path: Path, source: Path, *, fresh: bool, tell: Tell, advice: str = KEEP_OR_REPLACE
) -> None:
    """Raise CnnkitError where a file of no readable passport lies in a place, unless `fresh` replaces it.

    Whose it is nobody can tell, and it may be the only copy. That `source` itself is replaced is told.
    `advice` is what to type, for commands that have other options.
    """
    if path.resolve() == source.resolve():
        if not sidecar(path).exists():
            tell(f"{path} lies where it goes itself: it is replaced by the graph as cnnkit writes it")
        return
    if fresh or not path.exists():
        return
    try:
        read_passport(path)
    except CorruptError as error:
        why = f"its passport cannot be read ({error})"
    except NotFoundError:
        why = f"it has no passport ({sidecar(path).name} is not beside it)"
    else:
        return
    raise CnnkitError(f"{path} is there already, and {why}: {advice}")


def others_of(source: Artifact, options: ExportOptions) -> Iterator[tuple[Path, Passport]]:
    """Yield the artifacts under an export's name that are another network's."""
    for path, placed in find_artifacts(options.root, export_name(source, options)):
        if not is_shipped(path) and not _same_origin(placed, source):
            yield path, placed


def _same_origin(placed: Passport, source: Artifact) -> bool:
    """Tell whether an artifact is of the same network: by its content where both came as files."""
    known = source.passport
    if not both_elsewhere(placed, known):
        return (placed.model, placed.trained is None) == (known.model, known.trained is None)
    theirs, ours = (one.imported_sha256 or _first_sha256(one) for one in (placed, known))
    # an older release's passport of a lower precision does not say what file it came of
    return theirs == ours if theirs and ours else placed.model == known.model


def _first_sha256(known: Passport) -> str | None:
    if known.format != GRAPH or known.precision != "fp32":
        return None
    return known.source_sha256 or known.sha256


def both_elsewhere(placed: Passport, known: Passport) -> bool:
    """Tell whether both came as files: their content tells them apart, not their model's name."""
    return all(
        one.format != CHECKPOINT and (one.trained is None or one.imported_sha256 is not None)
        for one in (placed, known)
    )
