"""An export that another command makes on its way, with all that it is made from."""

from __future__ import annotations

from collections.abc import Callable

from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError
from toolkit.exporting import EXPORTERS, ExportOptions, Need, meets, need_of
from toolkit.exporting.placing import export_path, refuse_unknown
from toolkit.telling import Tell


def make(
    source: Artifact,
    word: str,
    options: ExportOptions,
    tell: Tell,
    find: Callable[[Need], Artifact | None] = lambda need: None,
) -> Artifact:
    """Make one artifact of a source in passing, with all that it needs on the way; say what was made.

    `find` returns what is here already of what is needed. Raises CnnkitError where the source cannot
    become it, or a file that nobody can tell the origin of lies in its place.
    """
    exporter = EXPORTERS.load(word)
    given = make_need(source, word, options, tell, find)
    if given.passport.format not in exporter.source_formats:
        able = " or ".join(exporter.source_formats)
        raise CnnkitError(f"{given.path.name} is {given.passport.format}, and {word} is made of {able}")
    place = export_path(given, options, exporter)
    again = f"cnnkit export {given.path} --format {word} --precision {options.precision} --fresh"
    advice = f"move it away to keep it, `{again}` replaces it"
    refuse_unknown(place, given.path, fresh=False, tell=tell, advice=advice)
    made = exporter.export(given, options).artifact
    tell(f"made {made.path} from {given.path.name} (checked on {options.images} images)")
    return made


def make_need(
    source: Artifact,
    word: str,
    options: ExportOptions,
    tell: Tell,
    find: Callable[[Need], Artifact | None] = lambda need: None,
) -> Artifact:
    """Make, or find, only what an exporter needs; the source itself where it needs nothing else."""
    need = need_of(EXPORTERS.load(word), source, options)
    if need is None or meets(source, need):
        return source
    return find(need) or make(source, need.exporter, need.options(options), tell, find)
