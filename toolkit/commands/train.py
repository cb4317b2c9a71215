"""`cnnkit train`: train a network and write its checkpoint."""

from __future__ import annotations

from typing import Any

import click

from toolkit import cli
from toolkit.commands._recipe_options import changes, recipe_options
from toolkit.commands._training_options import make_job, training_options


@click.command()
@click.argument("model")
@cli.name_option("Name of the artifact (default: the model's).")
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run of this command.")
@click.option(
    "--flip-test", is_flag=True, help="Also test with mirror images averaged in: a separate figure."
)
@click.option(
    "--save-every",
    "save_every_s",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the state is saved within an epoch.",
)
@click.option(
    "--stall-limit",
    "stall_limit_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Give up when no step was made for so long (default: only say where it hangs).",
)
@click.option(
    "--pretrained",
    is_flag=False,
    flag_value="imagenet",
    metavar="[FILE]",
    help="Start from torchvision's ImageNet weights (resnets), or from a file of weights.",
)
@click.option("--freeze", is_flag=True, help="Only the head learns; all other layers stay as they start.")
@training_options
@cli.json_option
@recipe_options
@click.pass_context
def train(context: click.Context, /, *, model: str, as_json: bool, **options: Any) -> None:
    """Train MODEL, a network of the zoo, and write artifacts/MODEL/MODEL.safetensors.

    The best epoch is chosen on images held out from the training set; the test set is read once, at
    the end. A run that was stopped or killed goes on with --resume, to the same weights bit for bit.
    """
    from toolkit.allocation import reuse_freed_memory
    from toolkit.commands._training_screen import Screen, show_outcome
    from toolkit.training.recipes import summary
    from toolkit.training.record.recorder import report
    from toolkit.training.run import train as run

    job = make_job(model, changes(context), options)
    cli.say(f"training {job.model.name}, recipe {summary(job.recipe)}")
    if job.freeze and not job.pretrained:
        cli.say(
            "note: --freeze without --pretrained keeps random weights in all layers but the last; "
            "--pretrained FILE starts from trained ones"
        )
    reuse_freed_memory()
    with Screen() as screen:
        outcome = run(job, screen)
    if as_json:
        cli.emit(report(job, outcome))
    else:
        show_outcome(outcome)


COMMAND = train
