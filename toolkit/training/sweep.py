"""A sweep: one training for each combination of values, each in a process of its own, one after another.

A cell that fails, runs out of memory or hangs costs that cell; the others go on. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from toolkit import zoo
from toolkit.artifacts import artifact_name, artifacts_root, hash_file
from toolkit.checkpoints import tool_versions
from toolkit.clusters import DEFAULT_CLUSTER, cluster_of
from toolkit.clusters.local import LocalWorkplace
from toolkit.errors import CnnkitError, needs_extra
from toolkit.machine.cpu import usual_threads
from toolkit.models import Recipe
from toolkit.telling import Tell, silent
from toolkit.training import jobs
from toolkit.training.axes import recipe_fields
from toolkit.training.cell_results import CellResult, known_result, otherwise_computed
from toolkit.training.cells import CellPlan, cell_names, queue, run_cell
from toolkit.training.foreseen import (
    insist_on_a_cell,
    insist_on_devices,
    insist_on_one_format,
    insist_on_what_cells_share,
    of_a_cell,
    refuse_limits,
)
from toolkit.training.record import left_out
from toolkit.training.record.folder import locked
from toolkit.training.search import run_search
from toolkit.training.search_plan import SearchPlan, plan_search
from toolkit.training.sending import insist_that_weights_are_typed, named_files, read_files
from toolkit.training.sweep_arguments import (
    READING,
    axes_of,
    insist_on_switch,
    insist_that_axes_are_heeded,
    read_by,
    source_of_all,
    starting_with,
    weights_of,
    words_over,
)
from toolkit.training.sweep_plan import SweepPlan, begin_folder, find_begun
from toolkit.training.table import Table, cell_label

_LOCK = "sweep.lock"
# beside cnnkit: whose releases decide what a cell comes to, and what is drawn
_TOOLS = ("torch", "optuna")


def sweep(
    model: str,
    *,
    on: str = DEFAULT_CLUSTER,
    search: int | None = None,
    over: Sequence[str] | None = (),
    folds: int | None = None,
    search_seed: int = 0,
    search_ahead: int = 0,
    cell_memory_bytes: int | None = None,
    verbose: bool = False,
    root: Path | str | None = None,
    dataset: str | Path | None = None,
    data_dir: Path | str | None = None,
    model_file: Path | str | None = None,
    pretrained: Path | str | None = None,
    freeze: bool = False,
    teacher: Path | str | None = None,
    cell_timeout_s: float | None = None,
    resume: bool = False,
    tell: Tell = silent,
    **varied: Any,
) -> Table:
    """Train a network under every combination of the values given: lr=[0.1, 0.9], batch=64.

    `folds` varies the fold that is held out. `search` draws so many trials instead of trying every
    combination: of the recipe fields in `over`, in the ranges that they declare, and of options with several
    values; poor trials are given up early. `search_ahead` trials may run along with the newest one, drawn
    without each other's results. `on` is where cells run: this machine, or a cluster of others, as
    `ray:HOST:6379`, each cell on a machine with as many CPUs as it has threads and `cell_memory_bytes`; with
    `verbose` it is shown what the cluster says itself.
    `pretrained`, `freeze` and `teacher` are those of `train`, and so are
    `group`, `exclude`, `columns`, `skip_damaged`, `max_pixels`, `levels` and `grey`: the same
    in every cell. Cells that could not be trained are in the table with their errors. Raises CnnkitError
    for what would fail in every cell, and when stopped; `resume` goes on with the newest sweep of the same
    arguments.
    """
    cluster, address = cluster_of(on)
    refuse_limits(cluster, timeout_s=cell_timeout_s, memory_bytes=cell_memory_bytes)
    insist_on_switch("freeze", freeze)
    teacher = source_of_all("teacher", teacher)
    over = words_over(over)
    wanted = {"--dataset": dataset, "--data-dir": data_dir, "--model-file": model_file}
    fixed = tuple(part for word, value in wanted.items() if value is not None for part in (word, str(value)))
    columns = varied.get("columns")
    reading = {name: varied.pop(name) for name in READING if name in varied}
    fixed += read_by(reading)
    chosen = axes_of(varied, folds)
    spec = zoo.model(model, model_file=Path(model_file) if model_file else None)
    pretrained = jobs.starting_weights(spec, source_of_all("pretrained", pretrained))
    beside: dict[str, tuple[str, ...]] = {**dict.fromkeys(over, ()), **recipe_fields(chosen)}
    names = chosen.get("recipe", ("default",))
    found = {name: jobs.find_recipe(spec, name, pretrained, beside, freeze=freeze) for name in names}
    insist_that_axes_are_heeded(found.values(), chosen, over, teacher=teacher, freeze=freeze)
    artifacts = artifacts_root(Path(root) if root else None)
    fixed += starting_with(pretrained, freeze=freeze, teacher=teacher, artifacts=artifacts)
    # what would fail in every cell is told before the first one starts
    shared = {"data_dir": data_dir, "pretrained": pretrained, "freeze": freeze, "teacher": teacher, **reading}
    shared |= of_a_cell(found, chosen, freeze=freeze)
    job = jobs.make_job(model, dataset=dataset, root=root, model_file=model_file, **shared)
    named = job.dataset_name
    holds_out = insist_on_what_cells_share(job, chosen)
    insist_on_devices(chosen.get("device", ("cpu",)), cluster)
    threads = None if "threads" in chosen else usual_threads()
    looked = _search(
        search,
        over,
        next(iter(found.values())),
        chosen,
        seed=search_seed,
        ahead=search_ahead,
        holds_out=holds_out,
        freeze=freeze,
    )
    varying = (part for word, texts in chosen.items() for text in texts for part in (f"--{word}", text))
    typed = (*fixed, *varying)
    hashes = {
        name: hash_file(path)
        for name, path in named_files((*typed, *weights_of(found.values()))).items()
        if name not in found
    }
    plan = SweepPlan(
        tools=tool_versions(*_TOOLS),
        model=model,
        axes=chosen,
        fixed=fixed,
        recipes=found,
        hashes=hashes,
        threads=threads,
        search=looked,
    )
    insist_on_a_cell(plan, holds_out=holds_out)
    if cluster.address is not None:
        insist_that_weights_are_typed(found.values(), typed)
    sweeps = artifacts / artifact_name(spec.name) / "sweeps"
    files = cache(
        partial(
            read_files,
            named,
            Path(data_dir) if data_dir else None,
            str(columns) if columns else None,
            typed,
        )
    )
    folder: Path | None = None
    if resume:  # by the threads that it was begun with is asked for room
        folder, plan = find_begun(sweeps, plan, tell)
    need = replace(plan.need, memory_bytes=cell_memory_bytes)
    with cluster.open(address, lambda: files().paths, need, tell=tell, verbose=verbose) as place:
        insist_on_one_format(place, typed)
        folder = folder or begin_folder(sweeps, plan)
        cells = plan.on(place, cell_timeout_s, files, cell_memory_bytes)
        results = _results(plan, cells, folder, tell)
    table = Table(model=model, folder=folder, axes=_tried(plan, results), results=tuple(results))
    if plan.search is not None:
        table = replace(table, metric=plan.search.metric)
    return replace(table, files=table.write())


def _search(
    trials: int | None,
    over: tuple[str, ...],
    recipe: Recipe,
    chosen: Mapping[str, tuple[str, ...]],
    *,
    seed: int,
    ahead: int,
    holds_out: bool,
    freeze: bool,
) -> SearchPlan | None:
    """Return what a search draws; None for a sweep of every combination."""
    if trials is None:
        if over:
            raise CnnkitError("--over goes with --search N; without it, give the values: --lr 0.1,0.9")
        for option, given in (("--search-seed", seed), ("--search-ahead", ahead)):
            if given:
                raise CnnkitError(f"{option} goes with --search N; without it, nothing is drawn")
        return None
    with needs_extra("search"):
        import optuna  # noqa: F401  (only to name the extra when it is missing)
    asked = (trials, recipe, chosen, over)
    return plan_search(*asked, seed=seed, ahead=ahead, holds_out=holds_out, freeze=freeze)


def _tried(plan: SweepPlan, results: Sequence[CellResult]) -> Mapping[str, tuple[str, ...]]:
    """Return the values that each axis came to have."""
    if plan.search is None:
        return plan.axes
    words = dict.fromkeys((*plan.axes, *(one.word for one in plan.search.ranges)))
    return {word: tuple(dict.fromkeys(result.values[word] for result in results)) for word in words}


def _results(plan: SweepPlan, cells: CellPlan, folder: Path, tell: Tell) -> list[CellResult]:
    """Run the cells to the last one, telling of each."""
    count = plan.search.trials if plan.search else len(plan.cells())
    tell(f"{count} {'trial' if plan.search else 'cell'}{'s' if count > 1 else ''}, results in {folder}")
    for one in plan.search.ranges if plan.search else ():
        tell(f"{one.word}: {one.words}")
    missing = left_out()
    if missing:
        tell(missing)
    results: list[CellResult] = []
    try:
        for result, known in run_sweep(plan, folder, cells):
            results.append(result)
            place = f"{len(results)} of {count}: {_label(plan, result)}"
            tell(f"{place}: {result.sentence}{', from before' if known else ''}")
    except KeyboardInterrupt:
        raise CnnkitError(f"stopped after {len(results)} of {count} cells; --resume goes on") from None
    for first, other in otherwise_computed(results):
        tell(
            f"note: {_label(plan, other)} was computed in {other.format}, and {_label(plan, first)} in "
            f"{first.format}, which no axis says: `--precision fp32` is the same for all"
        )
    return results


def _label(plan: SweepPlan, result: CellResult) -> str:
    if plan.search is None:
        return cell_label(result.values, plan.axes)
    return ", ".join(f"{one.word} {result.values[one.word]}" for one in plan.search.ranges)


def run_sweep(
    plan: SweepPlan, folder: Path, cells: CellPlan | None = None
) -> Iterator[tuple[CellResult, bool]]:
    """Run the cells that have no good result yet; yield every cell's, and whether it was there already.

    They run where `cells` says, else here. Raises CnnkitError where another process is at work in the folder,
    or it cannot be locked, and KeyboardInterrupt when stopped.
    """
    held = locked(folder / _LOCK, f"works on the sweep in {folder}")
    cells = cells or plan.on(LocalWorkplace())
    with held:
        if plan.search is not None:
            fixed = {word: values[0] for word, values in plan.axes.items() if len(values) == 1}
            yield from run_search(cells, fixed, plan.search, folder)
            return
        planned = plan.cells()
        places = [folder / "cells" / name for name in cell_names(planned)]
        before = [known_result(cell) for cell in places]
        for values, cell, known in zip(planned, places, before, strict=True):
            if known is not None:
                cells.planned.insist_on_known(values, cell)
        with queue(cells.place) as put:
            awaited: list[tuple[Callable[[], CellResult], bool]] = []
            for values, cell, known in zip(planned, places, before, strict=True):
                run = partial(run_cell, cells, values, cell, label=cell_label(values, plan.axes))
                awaited.append((put(run) if known is None else partial(_same, known), known is not None))
            for result, was_there in awaited:
                yield result(), was_there


def _same(result: CellResult) -> CellResult:
    return result
