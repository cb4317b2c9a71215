"""What a sweep consists of, and its folder, in which it can be gone on with. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from toolkit import schema
from toolkit.artifacts import write_json
from toolkit.clusters import Demand, Workplace
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.models import Recipe
from toolkit.presence import matching
from toolkit.schema import Positive
from toolkit.telling import Tell, silent
from toolkit.training import recipes
from toolkit.training.cells import CellPlan
from toolkit.training.planned import Planned
from toolkit.training.record.folder import dated_folder
from toolkit.training.search_plan import SearchPlan
from toolkit.training.sending import ReadFiles

_PLAN = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep consists of: options of `cnnkit train`, those with several values being varied.

    `axes` maps an option's word to its values as text; `fixed` are further arguments of every cell;
    `recipes` holds each recipe whole, since a name stays the same when a recipe is edited, and `hashes` the
    SHA-256 of each other file that is named. `threads` is
    what every cell computes with unless they are an axis: fixed at the start, so that no cell differs by
    what else the machine has to do, or by the machine that it runs on. `tools` are the releases that the
    sweep was begun with, by package; plans of older releases tell none.
    """

    model: str
    axes: Mapping[str, tuple[str, ...]]
    fixed: tuple[str, ...] = ()
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    threads: Positive | None = None
    search: SearchPlan | None = None
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return what every cell's command line holds beside its values."""
        return (*self.fixed, *(("--threads", str(self.threads)) if self.threads else ()))

    @property
    def freeze(self) -> bool:
        """Tell whether every cell is trained with --freeze."""
        return "--freeze" in self.fixed

    @property
    def need(self) -> Demand:
        """Return what a machine must have for any cell."""
        threads = self.axes.get("threads", (str(self.threads or 1),))
        gpus = any(device.startswith("cuda") for device in self.axes.get("device", ()))
        return Demand(cpus=max(map(int, threads)), gpus=int(gpus))

    def on(
        self,
        place: Workplace,
        timeout_s: float | None = None,
        read: Callable[[], ReadFiles] | None = None,
        memory_bytes: int | None = None,
    ) -> CellPlan:
        """Return the plan of the cells as they run at some place."""
        return CellPlan(
            model=self.model,
            arguments=self.arguments,
            place=place,
            timeout_s=timeout_s,
            read=read,
            memory_bytes=memory_bytes,
            planned=Planned(self.recipe_of, self.hashes),
            heeded=self.heeded,
        )

    def recipe_of(self, values: Mapping[str, str]) -> Recipe | None:
        """Return the recipe that a cell of these values is trained by; None where the plan has none of it."""
        recipe = self.recipes.get(values.get("recipe", "default"))
        if recipe is None:
            return None
        return recipes.override(recipe, recipes.heeded(recipe, _fields(values), freeze=self.freeze))

    def heeded(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Return those of a cell's values that do something together; all where they are no recipe."""
        recipe, fields = self.recipes.get(values.get("recipe", "default")), _fields(values)
        if recipe is None:
            return values
        try:
            kept = recipes.heeded(recipe, fields, freeze=self.freeze)
        except CnnkitError:  # which the cell says
            return values
        return {word: text for word, text in values.items() if word not in fields or word in kept}

    def cells(self) -> list[dict[str, str]]:
        """Return every combination of the axes' values, the last axis changing fastest."""
        return [
            dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())
        ]


def _fields(values: Mapping[str, str]) -> dict[str, str]:
    """Return those of a cell's values that are fields of a recipe."""
    fields = {setting.word for setting in recipes.settings().values()}
    return {word: text for word, text in values.items() if word in fields}


def begin_folder(sweeps: Path, plan: SweepPlan) -> Path:
    """Make the folder of a new sweep."""
    folder = dated_folder(sweeps)
    write_json(folder / _PLAN, asdict(plan))
    return folder


def _other_tools(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which releases are others now, of packages of which both are known; "" for none."""
    both = [name for name in then if name in now and now[name] != then[name]]
    return "; ".join(f"{name} {then[name]}, now {now[name]}" for name in both)


def find_begun(sweeps: Path, plan: SweepPlan, tell: Tell = silent) -> tuple[Path, SweepPlan]:
    """Return the folder of the newest sweep of the same plan, and its own plan: its threads are kept.

    Told is which newer ones cannot be read and are passed over, and which releases are others now. Raises
    NotFoundError where there is none, CorruptError for a folder that may not be read, or where only one that
    cannot be read may be it.
    """
    damaged: list[CnnkitError] = []
    for found in reversed(matching(sweeps, "*", _PLAN)):
        again = f"remove {found.parent}, or start without --resume"
        try:
            begun = schema.convert(SweepPlan, schema.read_json(found), what=str(found), again=again)
        except CnnkitError as error:
            damaged.append(error)
            continue
        if replace(begun, threads=plan.threads, tools=plan.tools) == plan:
            for newer in damaged:
                tell(f"note: passed over, as it cannot be read: {newer}")
            others = _other_tools(begun.tools, plan.tools)
            if others:
                tell(f"note: the sweep was begun with {others}: one table holds cells of both")
            return found.parent, begun
    if damaged:
        raise damaged[0]
    raise NotFoundError(
        f"no sweep of this command, with its recipes and files as they are now, in {sweeps} to resume; "
        "without --resume one starts"
    )
