"""What can be tried: backends that run here × files of a network, made where they are missing × settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from toolkit.artifacts import Artifact, find_artifacts, open_artifact
from toolkit.backends import BACKENDS, Backend, backend_names
from toolkit.choices import Budget, Contender
from toolkit.choosing import Candidate, ChooseSettings, Rejection
from toolkit.errors import CnnkitError, unknown_name
from toolkit.exporting import EXPORTERS, ExportOptions, Need, make, reaches
from toolkit.machine.cpu import cpu
from toolkit.opening import Selection, as_asked
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Passport, Precision
from toolkit.telling import Tell

# pictures on which a file that is made in passing is held against its source; all of it is judged again here
PARITY_IMAGES = 64


@dataclass(kw_only=True)
class CandidateFiles:
    """A candidate with its defaults for each file that a backend runs, and what could not be had, and why."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def reject(self, backend: str, precision: Precision, why: str) -> None:
        """Note a file that cannot be had."""
        contender = Contender(backend=backend, artifact="", precision=precision)
        self.rejected.append(Rejection(contender=contender, why=why))


def backends_asked(settings: ChooseSettings) -> tuple[str, ...]:
    """Return the backends to try. Raises NotFoundError with the nearest match, UnavailableError."""
    for name in settings.backends or ():
        if name not in BACKENDS.names():
            raise unknown_name("backend", name, BACKENDS.names())
        BACKENDS.load(name).require()
    return settings.backends or tuple(backend_names())


def find_files(
    source: Artifact,
    root: Path,
    settings: ChooseSettings,
    budget: Budget,
    tell: Tell,
    *,
    judged: bool,
    makes: bool = True,
) -> CandidateFiles:
    """Find, or make, what each backend runs of a network. `judged` tells whether pictures can judge int8.

    Without `makes` only what lies there is taken.
    """
    finder = FileFinder(source, root, settings, budget, tell, judged=judged, makes=makes)
    found = CandidateFiles()
    for name in backends_asked(settings):
        backend = BACKENDS.load(name)
        state = backend.availability()
        if not state.available:
            found.reject(name, "fp32", f"{state.why_not}")
            continue
        for precision in get_args(Precision):
            finder.add(found, backend, precision)
    return found


class FileFinder:
    """Finds or makes one file after the other, each once. Without `makes` only what lies there is found."""

    def __init__(
        self,
        source: Artifact,
        root: Path,
        settings: ChooseSettings,
        budget: Budget,
        tell: Tell,
        *,
        judged: bool,
        makes: bool = True,
    ) -> None:
        self.source, self.root, self.settings, self.tell = source, root, settings, tell
        self.makes = makes
        self.most_drop = budget.points if judged else None
        self.known: dict[tuple[str, Precision, Dialect | None], Artifact | str] = {}

    def add(self, found: CandidateFiles, backend: Backend, precision: Precision) -> None:
        """Add the candidates of a backend in a precision, or note why there is none."""
        stored = backend.computes.get(precision, precision)
        why = backend.lacks(precision)
        if self.source.passport.format in backend.formats and self.source.passport.precision == stored:
            if why is None:
                self._append(found, backend, self.source, precision)
            else:
                found.reject(backend.name, precision, why)
            return
        words = [word for word in backend.formats.values() if word and self._can(word, stored)]
        if not words:
            return
        if why is not None:
            found.reject(backend.name, precision, why)
            return
        dialects: tuple[Dialect | None, ...] = (UNSIGNED, SYMMETRIC) if stored == "int8" else (None,)
        for dialect in dialects:
            file = self.file(words[0], stored, dialect)
            if isinstance(file, Artifact):
                self._append(found, backend, file, precision)
            else:
                found.reject(backend.name, precision, file)

    def _append(self, found: CandidateFiles, backend: Backend, file: Artifact, precision: Precision) -> None:
        selection = backend.opens(Selection(root=self.root, precision=precision))
        candidate = Candidate(
            backend=backend.name,
            artifact=as_asked(file, selection),
            threads=self.settings.threads[0] if self.settings.threads else None,
        )
        if candidate.key not in {one.key for one in found.candidates}:
            found.candidates.append(candidate)

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
        )

    def _can(self, word: str, precision: Precision) -> bool:
        exporter = EXPORTERS.load(word)
        return precision in exporter.precisions and reaches(self.source, word, self._options(precision))

    def file(self, word: str, precision: Precision, dialect: Dialect | None) -> Artifact | str:
        """Return a file, or in words why it cannot be had."""
        key = (word, precision, dialect)
        if key not in self.known:
            self.known[key] = self._lying(word, precision, dialect) or self._made(word, precision, dialect)
        return self.known[key]

    def _made(self, word: str, precision: Precision, dialect: Dialect | None) -> Artifact | str:
        if not self.makes:
            return "no such file came with it"
        self.tell(f"making {self.source.name} {precision} ({word}{f', {dialect}' if dialect else ''}) …")
        try:
            return make(self.source, word, self._options(precision, dialect), self.tell, self._needed)
        except CnnkitError as error:
            return str(error)

    def _needed(self, need: Need) -> Artifact | None:
        found = self.file(need.exporter, need.precision, need.dialect)
        return found if isinstance(found, Artifact) else None

    def _lying(self, word: str, precision: Precision, dialect: Dialect | None) -> Artifact | None:
        """Return the newest file of these very weights that lies in the folder; None where there is none."""
        kind = EXPORTERS.load(word).format
        for path, known in find_artifacts(self.root, self.source.name):
            fits = known.format == kind and known.precision == precision
            fits = fits and (known.trained is False) == (self.source.passport.trained is False)
            if precision == "int8" and known.int8_dialect not in (dialect, None):
                continue
            if fits and self._descends(known):
                with contextlib.suppress(CnnkitError):
                    return open_artifact(path)
        return None

    def _descends(self, known: Passport) -> bool:
        """Tell whether a file was made of the source, or of a graph that was."""
        own = self.source.passport.sha256
        if own in (known.sha256, known.source_sha256):
            return True
        return any(
            graph.sha256 == known.source_sha256 and graph.source_sha256 == own
            for _, graph in find_artifacts(self.root, self.source.name)
        )


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
