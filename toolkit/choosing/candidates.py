"""What can be tried: backends that run here × files of a network, made where they are missing × settings."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from toolkit.artifacts import Artifact, artifact_path, find_artifacts, open_artifact
from toolkit.backends import ALL, BACKENDS, Backend, backend_names
from toolkit.choices import Budget, Contender, budget_root, find_choosable
from toolkit.choosing import Candidate, ChooseSettings, Rejection
from toolkit.choosing.unmade import recall, remember
from toolkit.errors import CnnkitError, GateError, UndecidedError, unknown_name
from toolkit.exporting import EXPORTERS, ExportOptions, Need, reaches
from toolkit.exporting.making import make
from toolkit.exporting.placing import refuse_another_network
from toolkit.graphs import GRAPH
from toolkit.machine.cpu import cpu
from toolkit.opening import Selection, as_asked
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Passport, Precision
from toolkit.telling import Tell

# pictures on which a file that is made in passing is held against its source; all of it is judged again here
PARITY_IMAGES = 64
# why files are not here, by precision and dialect
Lacking = Mapping[tuple[Precision, Dialect | None], str]


@dataclass(frozen=True, kw_only=True)
class LaterFile:
    """A file's other dialect, which is made only where the file, `beside`, is fast: it computes as much.

    `make` returns it, or why it cannot be had.
    """

    beside: Candidate
    dialect: Dialect
    make: Callable[[], Candidate | Rejection]

    def not_made(self, times: float) -> Rejection:
        """Say why it was not made: what it lies beside is so many times slower than the best."""
        known = self.beside.contender(1)
        slow = (
            f"{times:.1f} times slower than one that may be chosen" if math.isfinite(times) else "not running"
        )
        return rejected_file(
            self.beside.backend, known.precision, f"not made: {known.label} is {slow}", self.dialect
        )


def rejected_file(backend: str, precision: Precision, why: str, dialect: Dialect | None = None) -> Rejection:
    """Return a file that cannot be had as a rejection."""
    contender = Contender(backend=backend, artifact="", precision=precision, dialect=dialect)
    return Rejection(contender=contender, why=why)


@dataclass(kw_only=True)
class CandidateFiles:
    """A candidate with its defaults for each file that a backend runs, and what could not be had, and why.

    `later` are those that are made only where they may be worth it.
    """

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    later: list[LaterFile] = field(default_factory=list)

    def add(self, file: Candidate | Rejection) -> Candidate | None:
        """Add a file as a candidate, each once, or why it cannot be had; return the candidate."""
        if isinstance(file, Rejection):
            self.rejected.append(file)
            return None
        if file.key not in {one.key for one in self.candidates}:
            self.candidates.append(file)
        return file


def backends_asked(settings: ChooseSettings) -> tuple[str, ...]:
    """Return the backends to try. Raises NotFoundError with the nearest match, UnavailableError."""
    named = settings.backends or (ALL,)
    if named == (ALL,):
        return tuple(backend_names())
    for name in named:
        if name not in BACKENDS.names():
            raise unknown_name("backend", name, [*BACKENDS.names(), ALL])
        BACKENDS.load(name).require()
    return named


def find_files(
    source: Artifact,
    root: Path,
    settings: ChooseSettings,
    budget: Budget,
    tell: Tell,
    *,
    judged: bool,
    lacking: Lacking | None = None,
) -> CandidateFiles:
    """Find, or make, what each backend runs of a network. `judged` tells whether pictures can judge int8.

    With `lacking`, the reasons for graphs that are missing, none is made; what a runtime is given in their
    place, as engines, is made of those that lie there. Raises CnnkitError where what is made would take
    another network's place.
    """
    if lacking is None:
        refuse_another_network(source, ExportOptions(root=root))
    finder = FileFinder(source, root, settings, budget, tell, judged=judged, lacking=lacking)
    found = CandidateFiles()
    for name in backends_asked(settings):
        backend = BACKENDS.load(name)
        if not backend.installed():  # what is installed and does not run tells why when it is opened
            found.add(rejected_file(name, "fp32", f"{backend.availability().why_not}"))
            continue
        for precision in get_args(Precision):
            finder.add(found, backend, precision)
    return found


class FileFinder:
    """Finds or makes one file after the other, each once; with `lacking` no graph is made."""

    def __init__(
        self,
        source: Artifact,
        root: Path,
        settings: ChooseSettings,
        budget: Budget,
        tell: Tell,
        *,
        judged: bool,
        lacking: Lacking | None = None,
    ) -> None:
        self.source, self.root, self.settings, self.tell = source, root, settings, tell
        self.lacking = lacking
        self.most_drop = budget.points if judged else None
        self.known: dict[tuple[str, Precision, Dialect | None], Artifact | str] = {}
        self.lossy: set[tuple[str, Precision]] = set()

    def add(self, found: CandidateFiles, backend: Backend, precision: Precision) -> None:
        """Add the candidates of a backend in a precision, or note why there is none."""
        stored = backend.computes.get(precision, precision)
        why = backend.lacks(precision)
        own = self.source.passport.format in backend.formats and self.source.passport.precision == stored
        words = [word for word in backend.formats.values() if not own and word and self._can(word, stored)]
        if not (own or words):
            return
        if why is not None:
            found.add(rejected_file(backend.name, precision, why))
        elif own:
            found.add(self._candidate(backend, self.source, precision))
        else:
            self._add_dialects(found, backend, words[0], precision)

    def _add_dialects(self, found: CandidateFiles, backend: Backend, word: str, precision: Precision) -> None:
        """Add a file in each of its dialects; a second one that does not lie here is put off."""
        stored = backend.computes.get(precision, precision)
        several = stored == "int8" and "dialect" in EXPORTERS.load(word).reads
        dialects: tuple[Dialect | None, ...] = (UNSIGNED, SYMMETRIC) if several else (None,)
        beside: Candidate | None = None
        for dialect in dialects:

            def make(dialect: Dialect | None = dialect) -> Candidate | Rejection:
                file = self.file(word, stored, dialect)
                if isinstance(file, Artifact):
                    return self._candidate(backend, file, precision)
                return rejected_file(backend.name, precision, file, dialect)

            if beside and dialect and self.lacking is None and self._lying(word, stored, dialect) is None:
                found.later.append(LaterFile(beside=beside, dialect=dialect, make=make))
            else:
                beside = found.add(make())

    def _candidate(self, backend: Backend, file: Artifact, precision: Precision) -> Candidate:
        selection = backend.opens(Selection(root=self.root, precision=precision))
        return Candidate(
            backend=backend.name,
            artifact=as_asked(file, selection),
            threads=self.settings.threads[0] if self.settings.threads else None,
        )

    def _options(self, precision: Precision, dialect: Dialect | None = None) -> ExportOptions:
        return ExportOptions(
            root=self.root,
            precision=precision,
            dialect=dialect,
            images=PARITY_IMAGES,
            seed=self.settings.seed,
            data_dir=self.settings.data_dir,
            model_file=self.settings.model_file,
            max_accuracy_drop=self.most_drop,
            search_s=self.settings.search_s,
        )

    def _can(self, word: str, precision: Precision) -> bool:
        exporter = EXPORTERS.load(word)
        return precision in exporter.precisions and reaches(self.source, word, self._options(precision))

    def file(self, word: str, precision: Precision, dialect: Dialect | None) -> Artifact | str:
        """Return a file, or in words why it cannot be had."""
        key = (word, precision, dialect)
        if key not in self.known:
            found = self._lying(word, precision, dialect)
            if found and self.lacking is not None:
                self._say_packed_for(found.passport)
            self.known[key] = found or self._made(word, precision, dialect)
        return self.known[key]

    def _say_packed_for(self, known: Passport) -> None:
        """Say that a graph came for another budget, which may make it slower, or lossier, than need be."""
        if known.format == GRAPH and not self._for_budget(known):
            points = f"{self.most_drop:g}"
            again = f"`cnnkit export {self.source.name} --format pack --max-accuracy-drop {points}`"
            self.tell(
                f"its {known.precision} graph ({known.int8_dialect}) is one {searched(known)}: {again} packs "
                f"one for {points}"
            )

    def _made(self, word: str, precision: Precision, dialect: Dialect | None) -> Artifact | str:
        if self.lacking is not None and EXPORTERS.load(word).format == GRAPH:
            return self.lacking.get((precision, dialect), "no such file came with it")
        if precision != "fp32" and self.most_drop is None and not self.settings.unjudged:
            return "not made: no picture can judge it; --unjudged has it made and tried"
        other = self._of_another_budget(precision)
        options = self._options(precision, dialect)
        if other:
            options = replace(options, path=self._beside(word, options))
        if (word, precision) in self.lossy:  # the second one rounds more coarsely
            return "not made: its other dialect, which is the finer one, does not surely keep the accuracy"
        known = recall(self.source, word, options)
        if known is not None:
            self.lossy.add((word, precision))
            return known.words()
        beside = f" beside {other[0].name}, {searched(other[1])}" if other else ""
        kind = f"{precision} ({word}{f', {dialect}' if dialect else ''})"
        self.tell(f"making {self.source.name} {kind}{beside} …")
        try:
            return make(self.source, word, options, self.tell, self._needed)
        except (GateError, UndecidedError) as error:
            self.lossy.add((word, precision))
            remember(self.source, word, options, str(error))
            return str(error)
        except CnnkitError as error:
            return str(error)

    def _needed(self, need: Need) -> Artifact:
        """Return what a file is made of. Raises CnnkitError where that cannot be had, which is tried once."""
        found = self.file(need.exporter, need.precision, need.dialect)
        if isinstance(found, Artifact):
            return found
        raise CnnkitError(found)

    def _lying(self, word: str, precision: Precision, dialect: Dialect | None) -> Artifact | None:
        """Return the newest file of these very weights that lies here, int8 as the budget would have it.

        None where there is none. What came as it is, is taken as it is.
        """
        kind = EXPORTERS.load(word).format
        for path, known in find_choosable(self.root, self.source.name):
            fits = known.format == kind and known.precision == precision
            if precision == "int8" and known.int8_dialect not in (dialect, None):
                continue
            if fits and self._is_own(known) and (self.lacking is not None or self._for_budget(known)):
                with contextlib.suppress(CnnkitError):
                    return open_artifact(path)
        return None

    def _is_own(self, known: Passport) -> bool:
        """Tell whether a file was made of the source, or of a graph that was, trained or not as that is."""
        own, untrained = self.source.passport.sha256, self.source.passport.trained is False
        by_hash = {one.sha256: one for _, one in find_choosable(self.root, self.source.name)}
        above = known
        for _ in by_hash:
            if own in (above.sha256, above.source_sha256):
                return (known.trained is False) == untrained
            above = by_hash.get(above.source_sha256 or "", above)
        return False

    def _for_budget(self, known: Passport) -> bool:
        """Tell whether a file is as the budget would have it, as all but what int8 searches for are."""
        judged = known.precision == "int8" and known.quantised_by is None and self.most_drop is not None
        return not judged or made_for(known, self.source.passport, self.most_drop or 0.0)

    def _of_another_budget(self, precision: Precision) -> tuple[Path, Passport] | None:
        """Return a file of these weights that was not made for this budget: none may take its place."""
        if self.lacking is not None:
            return None
        for path, known in find_artifacts(self.root, self.source.name):
            if known.precision == precision and not self._for_budget(known) and self._is_own(known):
                return path, known
        return None

    def _beside(self, word: str, options: ExportOptions) -> Path:
        """Return where what is made for this budget, and for data that were named, goes beside another's."""
        name, data = self.source.name, self.source.passport.dataset
        of_data = f"-{hashlib.sha256(data.name.encode()).hexdigest()[:8]}" if data and data.named else ""
        ending = f".{self.most_drop:g}-points{of_data}{EXPORTERS.load(word).ending(options)}"
        return artifact_path(budget_root(self.root, name), name, ending)


def made_for(known: Passport, source: Passport, points: float) -> bool:
    """Tell whether an int8 file is what a search among a source's pictures under a budget would come to.

    Which layers stay in float depends on both. A file without any is the same under every budget that it
    surely keeps. With some, a laxer budget's are the fewest under a stricter one that it keeps, too; those of
    a stricter one may be more than need be.
    """
    drop, data = known.accuracy_drop, [one.dataset and one.dataset.name for one in (known, source)]
    if drop is None or data[0] != data[1]:
        return False
    return drop.allowed == points or (
        drop.ci95[1] <= points and (not known.kept_float or drop.allowed > points)
    )


def searched(known: Passport) -> str:
    """Say under which budget an int8 file was made, and on what pictures."""
    drop = known.accuracy_drop
    if drop is None:
        return f"that was not judged ({known.accuracy_drop_why or 'why is not known'})"
    return f"that was made for {drop.allowed:g} points on {drop.source or 'pictures that are not known'}"


def variants(candidate: Candidate, settings: ChooseSettings, batch: int) -> Iterator[Candidate]:
    """Yield other settings and numbers of threads of a candidate's file; not the candidate itself."""
    # not what $OMP_NUM_THREADS says: some runtimes heed it and some do not
    backend, usual = BACKENDS.load(candidate.backend), cpu().cores
    counts: tuple[int | None, ...] = settings.threads or ((None, 1) if usual > 1 else (None,))
    if settings.threads is None and usual > 3:
        counts = (None, usual // 2, 1)
    for threads in counts:
        for chosen in backend.variants(candidate.artifact, threads=threads or usual, batch=batch):
            found = Candidate(
                backend=candidate.backend,
                artifact=candidate.artifact,
                settings=dict(chosen),
                threads=threads,
            )
            if found.key != candidate.key:
                yield found
