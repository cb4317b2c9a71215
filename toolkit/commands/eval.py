"""`cnnkit eval`: accuracy on the test pictures of a data set, by any backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    backend_option,
    columns_option,
    data_dir_option,
    dataset_option,
    device_option,
    json_option,
    model_file_option,
    precision_option,
    pretrained_option,
    root_option,
    threads_option,
)
from toolkit.cli.overruling import no_choice, takes_choice
from toolkit.cli.reports import refuse_overwriting, report_option, write_report

if TYPE_CHECKING:
    from toolkit.inspection.evaluation import Evaluation, Mistake
    from toolkit.inspection.network import Network
    from toolkit.passports import Precision


@click.command("eval")
@click.argument("model", required=False)
@backend_option("[default: the usual one if it has a file here].")
@click.option("--choice", is_flag=True, help="Measure what `cnnkit choose` chose for MODEL.")
@click.option("--first", type=click.IntRange(1), metavar="N", help="Only the first N test pictures.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True)
@click.option("--include-trained", is_flag=True, help="Measure all pictures, those trained on, too.")
@columns_option
@click.option("--at-least", type=parameters.FiniteRange(0, 1), help="Exit with 4 below this accuracy.")
@report_option("--html", "Write one HTML file with the mistakes.")
@parameters.options(
    dataset_option,
    data_dir_option,
    precision_option,
    device_option,
    threads_option,
    root_option,
    pretrained_option,
    model_file_option,
    json_option,
)
def evaluate(
    *,
    model: str | None,
    backend: str | None,
    choice: bool,
    first: int | None,
    batch: int,
    include_trained: bool,
    columns: str | None,
    at_least: float | None,
    html: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    precision: Precision | None,
    device: str | None,
    threads: int | None,
    root: Path,
    pretrained: Path | None,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL, a name or a file, on test pictures: accuracy, its interval, who is taken for whom."""
    from toolkit.inspection.network import load

    if choice and not takes_choice(backend=backend, device=device):
        raise click.UsageError("--choice names backend, precision and device: leave those out")
    refuse_overwriting(html, read=(model, dataset))
    opened = load(
        model,
        backend=backend,
        precision=precision,
        device=device,
        threads=threads,
        pretrained=pretrained,
        root=root,
        model_file=model_file,
        choice=choice,
        tell=printing.say,
    )
    if choice and opened.choice is None:
        opened.close()
        raise no_choice(opened.artifact.name)
    with opened as network, printing.progress() as progress:
        steps = printing.steps_on(progress)
        found = network.evaluate(
            dataset,
            data_dir=data_dir,
            first=first,
            batch=batch,
            include_trained=include_trained,
            columns=columns,
            tell=printing.say,
            on_batch=lambda done, of: steps("evaluating", done, of),
            on_step=steps,
        )
    if as_json:
        printing.emit(_payload(network, found))
    else:
        _show(found)
    if html is not None:
        from toolkit.inspection.mistakes_page import mistakes_page

        title = f"{network.artifact.path.name}, {network.backend}, on {found.dataset}"
        write_report(html, mistakes_page(found, title))
    if at_least is not None:
        found.require(at_least)


def _payload(network: Network, found: Evaluation) -> dict[str, Any]:
    return {
        "artifact": network.artifact.path,
        "backend": network.backend,
        "model": network.passport.model,
        "precision": network.passport.precision,
        "dataset": found.dataset,
        "images": found.images,
        "accuracy": found.accuracy,
        "accuracy_ci95": found.interval,
        "loss": found.loss,
        "classes": found.classes,
        "balanced_accuracy": found.balanced_accuracy,
        "class_accuracy": found.class_accuracy,
        "class_precision": found.class_precision,
        "class_f1": found.class_f1,
        "confusion": found.confusion,
        "mistakes": [_mistake(one, found.classes) for one in found.mistakes],
        "seconds": found.seconds,
    }


def _mistake(one: Mistake, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "picture": one.picture,
        "index": one.index,
        "truth": classes[one.truth],
        "answer": classes[one.answer],
        "probability": one.probability,
        "truth_probability": one.likelihood,
    }


def _show(found: Evaluation) -> None:
    from toolkit.training.scoring import confused

    printing.stdout.print(found.summary, soft_wrap=True)
    printing.print_table(printing.as_rich(found.table()))
    for true, answer, count in confused(found.confusion, 1):
        printing.stdout.print(
            f"most frequent mistake: {found.classes[true]} taken for {found.classes[answer]}, {count} times",
            markup=False,
        )
    if found.mistakes:
        printing.print_table(printing.as_rich(found.mistakes_table()))


ORDER = 20
COMMAND = evaluate
