"""Recipe: how a model is trained; each field with what it means and the values that it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "step", "cosine", "one-cycle"]
Init = Literal["default", "xavier-uniform", "kaiming-uniform"]
Pixels = Literal["standardise", "unit", "half", "published"]
Select = Literal["best", "last"]
Sampling = Literal["natural", "balanced"]
Metric = Literal["accuracy", "balanced-accuracy", "macro-f1", "loss"]

# what becomes of pixels whatever weights a training starts from
OWN_PIXELS: tuple[Pixels, ...] = ("unit", "half")

# Of what moves or blanks a picture: memory grows with the square. A run's own pictures bound it further.
MOST_PIXELS = 128


@dataclass(frozen=True)
class About:
    """What a field means, the least and greatest value that it may have, and what it stays above and below.

    The command line, TOML files and sweeps are made from these. `word` is the option's, where it is not
    the field's name with dashes. `tried` is the range that a search looks in, by orders of magnitude where
    `log`, in multiples of the recipe's own value where `relative`; None where a search leaves the field
    alone, and () where it tries every choice.
    """

    help: str
    low: float | None = None
    high: float | None = None
    below: float | None = None
    word: str | None = None
    tried: tuple[float, ...] | None = None
    log: bool = False
    relative: bool = False
    above: float | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained. Every field can be set on the command line or in a TOML file.

    `assumed` names the fields that a textbook recipe's source does not state, `changed` those that
    a run set otherwise than the recipe of that name. `own_pixels` tells that somebody asked for these
    `pixels`, which become so even where a training starts from weights that know others.
    """

    name: str
    epochs: Annotated[int, About("Passes over the training images.", 1, 100_000)] = 10
    batch: Annotated[int, About("Images a step.", 1, tried=(1 / 4, 4), log=True, relative=True)] = 64
    optimizer: Annotated[Optimizer, About("Optimizer.", tried=())] = "adamw"
    lr: Annotated[
        float,
        About(
            "Learning rate; its peak, where the schedule has one.",
            0,
            tried=(1 / 16, 16),
            log=True,
            relative=True,
        ),
    ] = 1e-3
    momentum: Annotated[float, About("Momentum of SGD.", 0, below=1, tried=(0.0, 0.95))] = 0.0
    nesterov: Annotated[bool, About("Nesterov's momentum, for SGD.")] = False
    weight_decay: Annotated[
        float, About("Weight decay; for sgd and adam L2 in the gradient.", 0, tried=(1e-5, 0.3), log=True)
    ] = 0.0
    schedule: Annotated[Schedule, About("How the rate changes over the run.", tried=())] = "constant"
    step_epochs: Annotated[int, About("Schedule step: epochs between drops.", 1)] = 5
    step_gamma: Annotated[float, About("Schedule step: factor of each drop.", 0, 1)] = 0.5
    cycles: Annotated[
        int, About("Schedule cosine and one-cycle: run so many times, one behind the other.", 1, 1000)
    ] = 1
    warmup_epochs: Annotated[float, About("Epochs of linear warm-up (one-cycle has its own).", 0)] = 0.0
    label_smoothing: Annotated[
        float, About("Share of a label spread over all classes.", 0, below=1, tried=(0.0, 0.2))
    ] = 0.0
    clip_norm: Annotated[float | None, About("Largest joint 2-norm of the gradients.", 0)] = None
    ema_decay: Annotated[
        float | None,
        About("Keep an average of the weights that decays so each step, and use it.", 0, below=1),
    ] = None
    average_from: Annotated[
        float | None,
        About(
            "Average the weights equally from this share of the run on, at the end of each epoch or, of "
            "several cycles, of each cycle, and use that.",
            0,
            below=1,
        ),
    ] = None
    patience_epochs: Annotated[int | None, About("Stop after so many epochs without a better one.", 1)] = None
    init: Annotated[Init, About("Starting weights; default is PyTorch's own.", tried=())] = "default"
    pixels: Annotated[
        Pixels,
        About(
            "standardise: minus the training set's mean, over its deviation; unit: / 255; "
            "half: (/ 255 - 0.5) / 0.5; published: as the network's published weights have it."
        ),
    ] = "standardise"
    flip: Annotated[bool, About("Mirror half of the images.", tried=())] = False
    shift_pixels: Annotated[
        int, About("Move images by up to so many pixels each way.", 0, MOST_PIXELS, tried=(0, 3))
    ] = 0
    crop_padding: Annotated[
        int, About("Crop the original size out of images padded by so many pixels.", 0, MOST_PIXELS)
    ] = 0
    rotate_degrees: Annotated[float, About("Turn images by up to so many degrees.", 0, 180)] = 0.0
    colour: Annotated[
        float, About("Change brightness, contrast and saturation by up to this share.", 0, 1)
    ] = 0.0
    cutout_pixels: Annotated[
        int, About("Blank a random square of that side.", 0, MOST_PIXELS, tried=(0, 8))
    ] = 0
    augmix: Annotated[float, About("Share of images given to AugMix.", 0, 1)] = 0.0
    crop_area: Annotated[
        float | None,
        About(
            "Cut out a part of at least this share of the area, of 3:4 to 4:3, and enlarge it to the whole.",
            0.01,
            1,
            tried=(0.25, 1.0),
        ),
    ] = None
    randaugment: Annotated[
        int, About("RandAugment: so many operations on each image, drawn of 14.", 0, 10, tried=(0, 3))
    ] = 0
    randaugment_level: Annotated[
        float, About("RandAugment: how strong they are, of 30.", 0, 30, tried=(3, 15))
    ] = 9.0
    erasing: Annotated[
        float, About("Share of images of which a rectangle is filled with noise.", 0, 1, tried=(0.0, 0.5))
    ] = 0.0
    mixup: Annotated[
        float,
        About("Mix pairs of images; alpha of the Beta distribution of the shares.", 0, 10, tried=(0.0, 0.5)),
    ] = 0.0
    cutmix: Annotated[
        float,
        About(
            "Paste parts of other images; alpha of the Beta distribution of the parts.",
            0,
            10,
            tried=(0.0, 1.0),
        ),
    ] = 0.0
    teacher_share: Annotated[
        float,
        About("With --teacher: share of the loss that is its answers'; the labels have what is left.", 0, 1),
    ] = 0.9
    teacher_temperature: Annotated[
        float, About("With --teacher: by how much both networks' answers are softened.", 0.1, 100)
    ] = 4.0
    class_weights: Annotated[
        str | None,
        About(
            "Weigh the loss by class: balanced (by 1 / frequency), effective (by the effective number of "
            "pictures), or a JSON file of weights by class name."
        ),
    ] = None
    sampling: Annotated[
        Sampling, About("balanced draws every class equally often; an epoch stays as long.")
    ] = "natural"
    validation_fraction: Annotated[
        float, About("Share of the training images held out to choose the best epoch on.", 0, 0.9)
    ] = 0.1
    select: Annotated[Select, About("Which epoch's weights become the checkpoint.")] = "best"
    metric: Annotated[
        Metric, About("What the best epoch is best in, on the held-out images; also for stopping early.")
    ] = "accuracy"
    unfreeze_at: Annotated[
        int | None, About("With --freeze: let all layers learn after so many epochs.", 1)
    ] = None
    layer_decay: Annotated[
        float,
        About(
            "Factor of the rate from each layer to the one before it, from the head down.",
            0.1,
            1,
            tried=(0.5, 1.0),
        ),
    ] = 1.0
    guard: Annotated[bool, About("Notice a diverging run, go back and lower the rate.")] = True
    own_pixels: bool = False
    assumed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    source: str = ""

    @property
    def keeps_pixels(self) -> bool:
        """Tell whether pixels become what the recipe says even where weights to start from know others."""
        return self.own_pixels or self.pixels in OWN_PIXELS
