"""Jobs made of plain arguments: a model's name, recipe fields and options; and a whole training of them.

Imports no torch, so that a command line can be made from the options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import zoo
from toolkit.artifacts import artifacts_root, open_artifact
from toolkit.clusters import DEFAULT_CLUSTER, cluster_of
from toolkit.errors import CnnkitError, NotFoundError, refuse_empty, unknown_name
from toolkit.models import FINETUNE, ModelSpec, Recipe
from toolkit.published import cached, where_to_bring
from toolkit.splits import Fold
from toolkit.training import Job, Outcome, TrainingFigures, TrainingReport, Watcher, recipes
from toolkit.training.compute.seats import insist_that_batches_suffice, seat_of
from toolkit.training.fields import FieldSpec, settings_of
from toolkit.transfer import IMAGENET, insist_on_source

if TYPE_CHECKING:
    from toolkit.training.finder import RateCurve

WORKERS_WITHOUT_LOADER = "--workers belong to --loader torch; the memory loader has none"
_SIZE = FieldSpec(
    name="size",
    word="size",
    of_recipe=False,
    kind=int,
    optional=False,
    choices=(),
    help="Side of the network's square input, in pixels.",
    low=1,
    high=None,
    below=None,
)


@cache
def options() -> Mapping[str, FieldSpec]:
    """Return what a job takes beside its model, data set and recipe, by name."""
    return {**settings_of(Job), _SIZE.name: _SIZE}


def find_option(word: str) -> FieldSpec:
    """Return a recipe's field or a job's option by name or word. Raises NotFoundError."""
    known = [*recipes.settings().values(), *options().values()]
    name = word.replace("_", "-")
    for setting in known:
        if name in (setting.word, setting.name.replace("_", "-")):
            return setting
    raise unknown_name("training option", name, [setting.word for setting in known])


def train(
    model: str,
    *,
    dataset: str | Path | None = None,
    recipe: str | Path = "default",
    watcher: Watcher | None = None,
    root: Path | str | None = None,
    on: str = DEFAULT_CLUSTER,
    verbose: bool = False,
    **fields: Any,
) -> Outcome:
    """Train a network of that name and write its checkpoint under `root`.

    `dataset` None is the model's own; `recipe` names one of the model's, or a TOML file; `fields` are
    recipe fields (epochs=3, lr=0.1) and options (seed=1, threads=2, device="cuda") by name. Nobody need
    watch. `on` is where ranks run: this machine, or a cluster of others, as `ray:HOST:6379`; with `verbose`
    it is shown what the cluster says itself. Raises CnnkitError for what can be foreseen.
    """
    job = make_job(model, dataset=dataset, recipe=recipe, root=root, **fields)
    cluster, address = cluster_of(on)
    told = {"dataset": dataset, "recipe": recipe, **fields}
    if job.ranks > 1 or cluster.address is not None:
        insist_that_batches_suffice(job.recipe.batch, job.ranks)
    if cluster.address is not None:
        from toolkit.training.elsewhere import train_elsewhere

        watcher = watcher or Watcher()
        report = train_elsewhere(cluster, address, job, _arguments(told), watcher=watcher, verbose=verbose)
        return _reported(job, report)
    if job.ranks > 1 and seat_of().alone:
        from toolkit.training.process.launching import train_on_ranks

        asked = {"model": model, "root": str(job.root), **told}
        limit_s = job.stall_limit_s
        return _reported(job, train_on_ranks(job.ranks, asked, watcher or Watcher(), stall_limit_s=limit_s))
    from toolkit.training.run import train as run

    return run(job, watcher)


def _arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the words of `cnnkit train` for arguments of `jobs.train`."""
    told: list[str] = []
    for name, value in given.items():
        if name in ("dataset", "recipe", "model_file"):
            told += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
            continue
        setting = find_option(name)
        if setting.name == "ranks" or (value is None and not setting.of_recipe):
            continue
        if isinstance(value, bool):
            no = [f"--no-{setting.word}"] if setting.of_recipe else []
            told += [f"--{setting.word}"] if value else no
        else:
            told += [f"--{setting.word}", str(value)]
    return told


def _reported(job: Job, report: TrainingReport) -> Outcome:
    """Return what other processes have made of a job, as they report it."""
    figures = {one.name: getattr(report, one.name) for one in dataclasses.fields(TrainingFigures)}
    return Outcome(
        job=job,
        checkpoint=open_artifact(Path(report.checkpoint)),
        folder=Path(report.run),
        records=report.history,
        **figures,
    )


def find_rate(
    model: str,
    *,
    dataset: str | Path | None = None,
    recipe: str | Path = "default",
    watcher: Watcher | None = None,
    root: Path | str | None = None,
    **fields: Any,
) -> RateCurve:
    """Try learning rates on a network's own pictures, in the words of `train`; nothing is trained.

    Raises what `train` raises before its first step, CnnkitError for several ranks.
    """
    from toolkit.training.finder import find_rate as run

    if fields.get("ranks", 1) not in (1, None) or not seat_of().alone:
        raise CnnkitError(
            "--find-lr tries rates in one process; leave out --ranks, and start without torchrun"
        )
    job = make_job(model, dataset=dataset, recipe=recipe, root=root, **fields)
    _refuse_options_of_runs(job)
    return run(job, watcher)


def _refuse_options_of_runs(job: Job) -> None:
    """Raise CnnkitError for options that only a training has which is kept, resumed and tested."""
    typed = {
        "--resume": job.resume,
        "--flip-test": job.flip_test,
        "--stall-limit": job.stall_limit_s is not None,
        "--save-every": job.save_every_s != Job.save_every_s,
        "--sync-batch-norm": job.sync_batch_norm,
    }
    for option, given in typed.items():
        if given:
            raise CnnkitError(f"--find-lr trains nothing that {option} would change; leave out {option}")


def make_job(
    model: str,
    *,
    dataset: str | Path | None = None,
    recipe: str | Path = "default",
    root: Path | str | None = None,
    model_file: Path | str | None = None,
    **fields: Any,
) -> Job:
    """Return the job that plain arguments mean; an option that is None is left out. Raises CnnkitError."""
    for option, named in (("--dataset", dataset), ("--model-file", model_file)):
        refuse_empty(option, named)
    code = Path(model_file) if model_file else None
    spec = zoo.model(model, model_file=code)
    changes: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for word, given in fields.items():
        setting = find_option(word)
        if setting.of_recipe:
            changes[setting.name] = given
        elif given is not None:
            chosen[setting.name] = _parsed(setting, given)
    if "workers" in chosen and chosen.setdefault("loader", "torch") == "memory":
        raise CnnkitError(WORKERS_WITHOUT_LOADER)
    if "fold" in chosen:
        Fold.parse(chosen["fold"])
    if "size" in chosen:
        chosen["size"] = (chosen["size"],) * 2
    typed = [recipes.settings()[name].word for name, given in changes.items() if given is not None]
    pretrained = starting_weights(spec, chosen.get("pretrained"))
    if pretrained is not None:
        chosen["pretrained"] = pretrained
    freeze = chosen.get("freeze", False)
    beside = {name: (given,) for name, given in changes.items()}
    found = find_recipe(spec, str(recipe), pretrained, beside, freeze=freeze)
    made = recipes.override(found, changes)
    insist_that_all_is_heeded(made, typed, teacher=chosen.get("teacher"), freeze=freeze)
    return Job(
        model=spec,
        recipe=made,
        root=artifacts_root(Path(root) if root else None),
        dataset=None if dataset is None else str(dataset),
        model_file=code,
        **chosen,
    )


def find_recipe(
    spec: ModelSpec,
    named: str,
    pretrained: str | None,
    beside: Mapping[str, Sequence[Any]] | None = None,
    *,
    freeze: bool = False,
) -> Recipe:
    """Return a recipe as recipes.find; where there are weights the one for fine-tuning is the usual one."""
    usual = "default" if pretrained is None else FINETUNE
    word = usual if named == "default" else named
    return recipes.find(spec, word, usual=usual, beside=beside, freeze=freeze)


def starting_weights(spec: ModelSpec, pretrained: str | None) -> str | None:
    """Return what training starts from: a package's published weights as their file in this machine's caches.

    Raises NotFoundError where they are not there, CnnkitError for what is no such file.
    """
    if pretrained is None:
        return None
    refuse_empty("--pretrained", pretrained)
    if pretrained != IMAGENET or not zoo.library_of(spec.name):
        insist_on_source(spec.name, pretrained)
        return pretrained
    found = cached(spec)
    if found is None:
        raise NotFoundError(f"{where_to_bring(spec)}; without --pretrained training starts from scratch")
    return str(found)


def insist_that_all_is_heeded(
    recipe: Recipe,
    typed: Collection[str],
    *,
    teacher: str | None,
    freeze: bool,
    varied: Collection[str] = (),
) -> None:
    """Raise CnnkitError for fields, typed by their words or in a recipe file, that nothing would heed.

    One that is combined with `varied` values of another is heeded in some of these combinations.
    """
    recipes.insist_that_fields_are_heeded(recipe, typed, varied, freeze=freeze)
    changed = [recipes.settings()[name].word for name in recipe.changed]
    words = [word for word in (*typed, *changed) if word.startswith("teacher-")]
    if words and teacher is None:
        raise CnnkitError(f"--{words[0]} needs --teacher MODEL: without it the labels alone are learned from")
    if not freeze and ("unfreeze-at" in varied or recipe.unfreeze_at is not None):
        raise CnnkitError(recipes.NOTHING_THAWS)
    if teacher is not None and freeze:
        raise CnnkitError("--teacher and --freeze do not go together: a frozen body has nothing to be taught")


def _parsed(setting: FieldSpec, given: Any) -> Any:
    if setting.kind in (str, Path) and not setting.choices:
        refuse_empty(f"--{setting.word}", given)
    try:
        return setting.parse(given)
    except CnnkitError as error:
        raise CnnkitError(f"training option {setting.word}: {error}") from None
