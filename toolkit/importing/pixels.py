"""How pixels become an imported network's input: as somebody said, else as its source says, else assumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.errors import CnnkitError, ShapeError
from toolkit.figures import shape_text
from toolkit.graphs.ordering import rename_in_node
from toolkit.importing import KnownFacts, PixelWishes
from toolkit.importing.inputs import PictureInput, inputs_of_graph
from toolkit.passports import TensorSpec
from toolkit.preprocessing import Preprocessing
from toolkit.telling import Tell

# means beyond it are those of pixels from 0 to 255, not of shares
LARGEST_SHARE = 2.0


@dataclass(frozen=True, kw_only=True)
class SettledPixels:
    """A preprocessing, where it comes from in words, and whether its scaling is only assumed."""

    preprocessing: Preprocessing
    origin: str
    assumed: bool = False


def settle_pixels(
    wishes: PixelWishes, known: KnownFacts | None, taken: PictureInput, tell: Tell
) -> SettledPixels:
    """Decide how pixels become the input; what is not said is told. Raises CnnkitError where it cannot be."""
    if wishes.whole is not None:
        _refuse_other_shape(wishes.whole, taken)
        return SettledPixels(preprocessing=wishes.whole, origin="as given")
    _refuse_scaling_of_whole(wishes, taken)
    refuse_unscaled(wishes)
    said = {name: value for name, value in wishes.said.items() if name != "size"}
    if known is not None and known.preprocessing is not None:
        own = known.preprocessing
        if own.channels == taken.channels:
            fitting = dataclasses.replace(own, size=taken.size)
            tell(f"pixels are prepared as {known.origin} says: {in_words(fitting)}")
            return SettledPixels(preprocessing=replaced(fitting, said), origin=known.origin)
        tell(
            f"{known.origin} prepares {own.channels} channels and the graph takes {taken.channels}: not used"
        )
    assumed = not (said.keys() & {"scale", "mean", "std"}) and not _is_whole(taken)
    found = replaced(assumed_pixels(taken), said)
    kept = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(said))
    tell(
        f"pixels are taken to be prepared as: {in_words(found)}"
        f" ({kept + ' said so, all else is' if kept else 'all of it'} assumed; --scale, --mean, --std, "
        "--order, --resize say otherwise, and --find-preprocessing looks for it on labelled pictures)"
    )
    return SettledPixels(preprocessing=found, origin="assumed" if assumed else "as given", assumed=assumed)


def assumed_pixels(taken: PictureInput) -> Preprocessing:
    """Return what is taken where nothing is known: pixels / 255, whole pixels for an input of integers."""
    return Preprocessing(
        size=taken.size,
        channels=taken.channels,
        resize="crop",
        interpolation="bilinear",
        scale=1.0 if _is_whole(taken) else 1 / 255,
        mean=(0.0,) * taken.channels,
        std=(1.0,) * taken.channels,
        # nobody knows on which ground it learned, so nothing is inverted
        ground="mixed" if taken.channels == 1 else None,
        formula="divide",
    )


def in_words(one: Preprocessing) -> str:
    """Say a preprocessing in one line."""
    scale = "pixel / 255" if one.scale == 1 / 255 else "pixel" if one.scale == 1 else f"pixel × {one.scale:g}"
    plain = not any(one.mean) and set(one.std) == {1.0}
    mean, std = (_few(figures) for figures in (one.mean, one.std))
    figures = scale if plain else f"({scale} − {mean}) / {std}"
    share = f" {one.crop_share:g}" if one.resize != "pad" and one.crop_share != 1 else ""
    order = f", {one.order}" if one.channels == 3 else ""
    size = f"{one.size[0]}×{one.size[1]}"
    return f"{figures}{order}, {one.resize}{share} to {size}, {one.interpolation}"


def _few(figures: tuple[float, ...]) -> str:
    told = [f"{figure:.4g}" for figure in figures]
    return told[0] if len(set(told)) == 1 else f"({', '.join(told)})"


def _is_whole(taken: PictureInput) -> bool:
    return np.dtype(taken.spec.dtype).kind in "iu"


def replaced(base: Preprocessing, said: Mapping[str, Any]) -> Preprocessing:
    """Return a preprocessing as it is said to be. Raises CnnkitError for what cannot be."""
    figures: dict[str, Any] = {name: tuple(said[name]) for name in ("mean", "std") if name in said}
    for name, given in figures.items():
        if len(given) not in (1, base.channels):
            raise CnnkitError(f"--{name} takes one figure, or one for each of the {base.channels} channels")
        figures[name] = given if len(given) == base.channels else given * base.channels
    try:
        made = dataclasses.replace(base, **{**said, **figures})
    except ValueError as error:
        raise CnnkitError(f"pixels cannot be prepared so: {error}") from None
    _refuse_unheeded(made, said)
    return made


def _refuse_unheeded(made: Preprocessing, said: Mapping[str, Any]) -> None:
    """Raise CnnkitError for what was said and would change no pixel."""
    if said.get("order") == "bgr" and made.channels == 1:
        raise CnnkitError(
            "--order bgr is the order of three channels, and the network takes one: leave it away"
        )
    if made.resize == "pad" and said.get("crop_share", 1) != 1:
        raise CnnkitError(
            "--crop-share is of what is cut out of a picture, and --resize pad keeps all of it: add --resize "
            "crop or squash, or leave it away"
        )


def _refuse_scaling_of_whole(wishes: PixelWishes, taken: PictureInput) -> None:
    if _is_whole(taken) and (wishes.mean or wishes.std or wishes.scale not in (None, 1.0)):
        raise CnnkitError(
            f"the input {taken.spec.name!r} is {taken.spec.dtype}: whole pixels go in, and --scale, --mean "
            "and --std have no place"
        )


def refuse_unscaled(wishes: PixelWishes) -> None:
    """Raise CnnkitError for a mean in other units than the scale's."""
    if wishes.scale is None and any(abs(figure) > LARGEST_SHARE for figure in wishes.mean or ()):
        shown = ",".join(f"{figure:g}" for figure in wishes.mean or ())
        raise CnnkitError(
            f"--mean {shown} is of pixels from 0 to 255: add --scale 1, or give it in units of pixel / 255"
        )


def _refuse_other_shape(whole: Preprocessing, taken: PictureInput) -> None:
    if (whole.channels, whole.size) != (taken.channels, taken.size):
        raise ShapeError(
            f"the preprocessing makes {shape_text((whole.channels, *whole.size))} and the network takes "
            f"{shape_text((taken.channels, *taken.size))}"
        )


def turn_channels(model: Any, takes: TensorSpec) -> None:
    """Make a graph of raw uint8 pixels take them as RGB, in place, and turn them to BGR itself.

    Graphs that hold their preprocessing get pixels as pictures have them. Raises CnnkitError for an input
    without an axis of channels.
    """
    from onnx import helper, numpy_helper

    if len(takes.shape) != 4:
        raise CnnkitError(f"--order bgr needs an axis of channels, which {takes.name!r} has not")
    axis = 3 if takes.layout == "NHWC" else 1
    turned, order = f"{takes.name}/bgr", f"{takes.name}/order"
    for node in model.graph.node:
        rename_in_node(node, lambda name: turned if name == takes.name else name)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), order))
    node = helper.make_node("Gather", [inputs_of_graph(model)[0].name, order], [turned], axis=axis)
    node.name = f"{takes.name}/Gather"
    model.graph.node.insert(0, node)
