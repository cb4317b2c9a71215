"""`cnnkit eval`: accuracy on the test pictures of a data set, by any backend."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import Progress
from rich.table import Table

from toolkit import cli

if TYPE_CHECKING:
    from toolkit.training.scoring import Score


@click.command("eval")
@click.argument("model", required=False)
@cli.backend_option("[default: the usual one if it has a file here].")
@click.option("--first", type=click.IntRange(1), metavar="N", help="Only the first N test pictures.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True)
@click.option("--at-least", type=click.FloatRange(0, 1), help="Exit with 4 below this accuracy.")
@cli.options(
    cli.dataset_option,
    cli.data_dir_option,
    cli.precision_option,
    cli.device_option,
    cli.threads_option,
    cli.root_option,
    cli.model_file_option,
    cli.json_option,
)
def evaluate(
    *,
    model: str | None,
    backend: str | None,
    first: int | None,
    batch: int,
    at_least: float | None,
    dataset: str | None,
    data_dir: Path | None,
    precision: str,
    device: str | None,
    threads: int | None,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL, a name or a file, on test pictures: accuracy, its interval, who is taken for whom."""
    from toolkit import answering
    from toolkit.backends import EngineOptions
    from toolkit.errors import CnnkitError, GateError
    from toolkit.inspection import evaluation
    from toolkit.opening import Selection
    from toolkit.passports import as_precision
    from toolkit.resolving import resolve

    selection = Selection(root=root, precision=as_precision(precision), model_file=model_file)
    choice = resolve(model, backend=backend, selection=selection)
    cli.opened(choice.artifact)
    if choice.why:
        cli.say(choice.why)
    passport = choice.artifact.passport
    if passport.trained is False:
        raise CnnkitError(
            f"{choice.artifact.path} is untrained, so it has no accuracy: `cnnkit train {passport.model}`"
        )
    data = answering.load_for(passport, dataset, data_dir)
    answering.check_classes(passport, data)
    split = answering.first(data.test, first)
    cli.say(f"{len(split):,} test pictures of {data.name} from {data.source}")
    held = len(set(split.labels.tolist()))
    if held < len(data.classes):
        cli.say(f"note: they are of {held} of the {len(data.classes)} classes only")
    options = EngineOptions(device=device, threads=threads, model_file=model_file)
    with choice.open(options) as engine, _progress() as progress:
        task = progress.add_task("evaluating", total=len(split))
        start = time.perf_counter()
        score = evaluation.evaluate(
            engine, split, batch=batch, on_batch=lambda done: progress.advance(task, done)
        )
        seconds = time.perf_counter() - start
    if as_json:
        cli.emit(
            {
                "artifact": choice.artifact.path,
                "backend": choice.backend,
                "model": passport.model,
                "precision": passport.precision,
                "dataset": data.name,
                "images": score.images,
                "accuracy": score.accuracy,
                "accuracy_ci95": score.interval,
                "loss": score.loss,
                "classes": data.classes,
                "class_accuracy": score.class_accuracy,
                "confusion": score.confusion,
                "seconds": seconds,
            }
        )
    else:
        _show(score, data.classes, seconds)
    if at_least is not None and score.accuracy < at_least:
        raise GateError(
            f"{choice.artifact.path.name}: accuracy {score.accuracy:.4f} is below --at-least {at_least}"
        )


def _progress() -> Progress:
    return Progress(console=cli.stderr, transient=True, disable=not cli.stderr.is_terminal)


def _show(score: Score, classes: tuple[str, ...], seconds: float) -> None:
    from rich.markup import escape

    from toolkit.inspection.evaluation import confused

    low, high = score.interval
    right = int(score.confusion.trace())
    cli.stdout.print(
        f"accuracy {score.accuracy:.4f} ({right:,} of {score.images:,} right; "
        f"95 % interval {low:.4f} to {high:.4f}) in {seconds:.1f} s",
        soft_wrap=True,
    )
    table = Table("class", "pictures", "accuracy", "most often taken for")
    for index, name in enumerate(classes):
        row = score.confusion[index]
        share = score.class_accuracy[index]
        wrong = [
            escape(f"{classes[other]} ({row[other]})")
            for other in (-row).argsort(kind="stable")
            if other != index and row[other]
        ]
        shown = "no pictures" if share is None else f"{share:.3f}"
        table.add_row(escape(name), str(row.sum()), shown, ", ".join(wrong[:2]) or "–")
    cli.print_table(table)
    for true, answer, count in confused(score, 1):
        cli.stdout.print(
            f"most frequent mistake: {classes[true]} taken for {classes[answer]}, {count} times",
            markup=False,
        )


COMMAND = evaluate
