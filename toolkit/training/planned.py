"""Whether a sweep's cells were trained as planned: by its recipes and files, all on the same pictures.

Each cell reads recipe files, other files and pictures anew, which may be edited while the sweep runs, or
before it is gone on with. Imports no torch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from toolkit.artifacts import CHECKPOINT_SUFFIX, hash_file, read_passport
from toolkit.errors import CnnkitError
from toolkit.recipes import Recipe
from toolkit.training import recipes
from toolkit.training.cell_results import CellResult
from toolkit.training.record.facts import RunFacts
from toolkit.training.record.folder import read_facts
from toolkit.training.sending import as_absolute

_BACK = "put it back and --resume, or start another sweep"
# axes by which a data set may come in other pixels, and those that say what each picture is used for
_PIXELS, _USES = ("size",), ("recipe", "validation-fraction", "fold", "images")


class Planned:
    """What the cells of a sweep are held to.

    `recipe_of` returns the recipe that a cell of some values was planned with, None where none was;
    `hashes` are the SHA-256 of the files that are named. The pictures are those of the first cell.
    """

    def __init__(
        self,
        recipe_of: Callable[[Mapping[str, str]], Recipe | None] = lambda values: None,
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        self._recipe_of, self._hashes = recipe_of, dict(hashes or {})
        self._lock = threading.Lock()
        self._first: dict[tuple[str, ...], tuple[str, Path]] = {}
        # what runs were begun with, as it was written down at some time
        self._read: dict[Path, tuple[int, RunFacts]] = {}

    def insist_on_known(self, values: Mapping[str, str], cell: Path) -> None:
        """Raise CnnkitError where a cell that was trained before had other pictures than others."""
        other = self._other_pictures(values, cell, counts=True)
        if other is not None:
            raise CnnkitError(
                f"{cell} was trained on other pictures than {other}: they were edited in between, and one "
                "table would mix both; remove the folders of one kind and --resume trains those again, or "
                "start another sweep without --resume"
            )

    def wrong(self, values: Mapping[str, str], cell: Path, *, counts: bool = False) -> str | None:
        """Say in what the newest run of a cell, at work or ended, is another one than was planned.

        Where it `counts`, later cells are held to its pictures.
        """
        facts = self._facts(cell)
        said = self._other_recipe(values, facts.recipe) if facts else None
        if said is not None:
            return said
        other = self._other_pictures(values, cell, counts=counts)
        if other is None:
            return None
        return (
            f"the pictures, or what each is used for, were edited since {other.name} was trained: put them "
            "back and --resume, or start another sweep"
        )

    def held(self, result: CellResult, cell: Path) -> CellResult:
        """Return a cell's result; it has failed where it was trained otherwise than was planned."""
        said = self._other_recipe(result.values, result.report.settings) if result.report else None
        if result.good:
            said = said or self._edited()
        said = said or self.wrong(result.values, cell, counts=result.good)
        if said is None:
            return result
        return replace(
            result, status="failed", error=said, report=None, by_epoch=(), exit_status=None, lost=False
        )

    def _other_recipe(self, values: Mapping[str, str], trained: Recipe) -> str | None:
        try:
            planned = self._recipe_of(values)
        except CnnkitError as error:  # no recipe came of these values then, and one does now
            return f"the recipe was edited while the sweep ran ({error} as planned); {_BACK}"
        if planned is None:
            return None
        words = {name: setting.word for name, setting in recipes.settings().items()}
        words["own_pixels"] = "own-pixels"
        # a file has its path from the root where a cell ran elsewhere
        pairs = {
            name: [as_absolute(f"--{word}", getattr(recipe, name)) for recipe in (trained, planned)]
            for name, word in words.items()
        }
        told = [f"{name} {now}, planned {then}" for name, (now, then) in pairs.items() if now != then]
        if not told:
            return None
        return (
            "the recipe was edited while the sweep ran, and this cell was trained by the new one "
            f"({'; '.join(told)}); {_BACK}"
        )

    def _other_pictures(self, values: Mapping[str, str], cell: Path, *, counts: bool) -> Path | None:
        """Return the first cell that was trained on other pictures than this one; None where none was."""
        told = tuple(_pictures(values, cell, self._facts(cell)))
        with self._lock:
            for key, digest in told:
                known, first = self._first.get(key, (digest, cell))
                if known != digest:
                    return first
            if counts:
                for key, digest in told:
                    self._first.setdefault(key, (digest, cell))
        return None

    def _facts(self, cell: Path) -> RunFacts | None:
        """Return what a cell's newest run was begun with; None where that is not there, or cannot be read."""
        run = max(cell.glob("*/runs/*/run.json"), default=None)
        if run is None:
            return None
        with contextlib.suppress(OSError, CnnkitError):
            when = run.stat().st_mtime_ns
            if self._read.get(run, (None,))[0] != when:
                self._read[run] = (when, read_facts(run.parent))
            return self._read[run][1]
        return None

    def _edited(self) -> str | None:
        """Say which of the files that are named is another one by now."""
        for name, digest in self._hashes.items():
            now = None
            with contextlib.suppress(OSError, CnnkitError):  # gone by now, or not to be read
                now = hash_file(Path(name))
            if now != digest:
                what = "removed" if now is None else "edited"
                return f"{name} was {what} while the sweep ran, maybe before this cell read it; {_BACK}"
        return None


def _pictures(
    values: Mapping[str, str], cell: Path, facts: RunFacts | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield hashes of what a cell was trained on, each with what decides it; without a run its passport's."""
    if facts is not None:
        yield ("pixels", *(values.get(axis, "") for axis in _PIXELS)), facts.fingerprint
        if facts.trained_on is not None:
            yield ("uses", *(values.get(axis, "") for axis in _USES)), facts.trained_on
        elif facts.fold is not None:
            yield ("folds",), f"carried on: {facts.folds_carry}"  # as releases deal them
        return
    for path in sorted(cell.glob(f"*/*{CHECKPOINT_SUFFIX}")):
        with contextlib.suppress(CnnkitError, FileNotFoundError):
            known = read_passport(path).dataset
            if known is not None and known.fingerprint is not None:
                yield ("pixels", *(values.get(axis, "") for axis in _PIXELS)), known.fingerprint
