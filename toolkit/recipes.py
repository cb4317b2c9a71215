"""Recipe: how a model is trained; each field with what it means and the values that it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "step", "cosine", "one-cycle"]
Init = Literal["default", "xavier-uniform", "kaiming-uniform"]
Pixels = Literal["standardise", "unit", "half", "published"]
Select = Literal["best", "last"]

# Of what moves or blanks a picture: memory grows with the square. A run's own pictures bound it further.
MOST_PIXELS = 128


@dataclass(frozen=True)
class About:
    """What a recipe's field means, the least and greatest value that it may have, and what it stays below.

    The command line, TOML files and sweeps are made from these. `word` is the option's, where it is not
    the field's name with dashes.
    """

    help: str
    low: float | None = None
    high: float | None = None
    below: float | None = None
    word: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained. Every field can be set on the command line or in a TOML file.

    `assumed` names the fields that a textbook recipe's source does not state, `changed` those that
    a run set otherwise than the recipe of that name.
    """

    name: str
    epochs: Annotated[int, About("Passes over the training images.", 1, 100_000)] = 10
    batch: Annotated[int, About("Images a step.", 1)] = 64
    optimizer: Annotated[Optimizer, About("Optimizer.")] = "adamw"
    lr: Annotated[float, About("Learning rate; its peak, where the schedule has one.", 0)] = 1e-3
    momentum: Annotated[float, About("Momentum of SGD.", 0, below=1)] = 0.0
    nesterov: Annotated[bool, About("Nesterov's momentum, for SGD.")] = False
    weight_decay: Annotated[float, About("Weight decay; for sgd and adam L2 in the gradient.", 0)] = 0.0
    schedule: Annotated[Schedule, About("How the rate changes over the run.")] = "constant"
    step_epochs: Annotated[int, About("Schedule step: epochs between drops.", 1)] = 5
    step_gamma: Annotated[float, About("Schedule step: factor of each drop.", 0, 1)] = 0.5
    warmup_epochs: Annotated[float, About("Epochs of linear warm-up (one-cycle has its own).", 0)] = 0.0
    label_smoothing: Annotated[float, About("Share of a label spread over all classes.", 0, below=1)] = 0.0
    clip_norm: Annotated[float | None, About("Largest joint 2-norm of the gradients.", 0)] = None
    ema_decay: Annotated[
        float | None,
        About("Keep an average of the weights that decays so each step, and use it.", 0, below=1),
    ] = None
    patience_epochs: Annotated[int | None, About("Stop after so many epochs without a better one.", 1)] = None
    init: Annotated[Init, About("Starting weights; default is PyTorch's own.")] = "default"
    pixels: Annotated[
        Pixels,
        About(
            "standardise: minus the training set's mean, over its deviation; unit: / 255; "
            "half: (/ 255 - 0.5) / 0.5; published: as the network's published weights have it."
        ),
    ] = "standardise"
    flip: Annotated[bool, About("Mirror half of the images.")] = False
    shift_pixels: Annotated[int, About("Move images by up to so many pixels each way.", 0, MOST_PIXELS)] = 0
    crop_padding: Annotated[
        int, About("Crop the original size out of images padded by so many pixels.", 0, MOST_PIXELS)
    ] = 0
    rotate_degrees: Annotated[float, About("Turn images by up to so many degrees.", 0, 180)] = 0.0
    colour: Annotated[
        float, About("Change brightness, contrast and saturation by up to this share.", 0, 1)
    ] = 0.0
    cutout_pixels: Annotated[int, About("Blank a random square of that side.", 0, MOST_PIXELS)] = 0
    augmix: Annotated[float, About("Share of images given to AugMix.", 0, 1)] = 0.0
    validation_fraction: Annotated[
        float, About("Share of the training images held out to choose the best epoch on.", 0, 0.9)
    ] = 0.1
    select: Annotated[Select, About("Which epoch's weights become the checkpoint.")] = "best"
    guard: Annotated[bool, About("Notice a diverging run, go back and lower the rate.")] = True
    assumed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    source: str = ""
