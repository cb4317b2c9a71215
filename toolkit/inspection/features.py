"""What a network's layers make of one picture: their output channels, drawn as grey tiles in a PNG."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toolkit.answering import Picture, preprocessing_of, read_picture
from toolkit.artifacts import CHECKPOINT, Artifact, artifacts_root, path_of
from toolkit.checkpoints import load_module
from toolkit.errors import CnnkitError, unknown_name
from toolkit.figures import shape_text
from toolkit.images import Pixels
from toolkit.inspection.sheet import INK, MARGIN, PAPER, inline, tile
from toolkit.modules import ModuleRow, visit
from toolkit.opening import Selection, describe, is_path, open_model, require_torch, take_weights
from toolkit.preprocessing import normalise
from toolkit.seeding import refuse_seeding
from toolkit.telling import Tell, silent

if TYPE_CHECKING:
    import torch

ACTIVATIONS = {
    "relu",
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "elu",
    "leakyrelu",
    "leaky_relu",
    "hardswish",
    "mish",
}
# More tiles than this are no longer seen one by one.
MOST_CHANNELS = 64
TILE = 56


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """One layer's output for one picture: `maps` (C, H, W) float32."""

    name: str
    type: str
    maps: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one network saw and made of a picture."""

    title: str
    pixels: Pixels
    inverted: bool
    layers: tuple[LayerMaps, ...]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What networks made of one picture, one after the other."""

    seen: tuple[Seen, ...]

    def image(self) -> Image.Image:
        """Draw one column for each network: the picture, then each layer's channels on one grey scale."""
        columns = [_column(entry) for entry in self.seen]
        width = sum(column.width for column in columns) + MARGIN * (len(columns) - 1)
        page = Image.new("RGB", (width, max(column.height for column in columns)), PAPER)
        left = 0
        for column in columns:
            page.paste(column, (left, 0))
            left += column.width + MARGIN
        return page

    def _repr_html_(self) -> str:
        return inline(self.image())


def features(
    models: str | Path | Sequence[str | Path],
    picture: Path | str,
    *,
    layers: Sequence[str] = (),
    pretrained: Path | str | None = None,
    untrained: bool = False,
    seed: int = 0,
    root: Path | str | None = None,
    model_file: Path | str | None = None,
    tell: Tell = silent,
) -> Features:
    """Look through the checkpoints of networks, names or files, one or several, at one picture's file.

    `layers` none are the first two activations that still are pictures. `pretrained` is a file of published
    weights of the package's network that the first model names. Raises NotFoundError for an unknown
    network or layer, CnnkitError for a layer whose output is no picture, MissingExtraError without PyTorch.
    """
    require_torch()
    named = [models] if isinstance(models, (str, os.PathLike)) else list(models)
    for what, given in (("a network's name or file", named), ("a picture's file", [picture])):
        for one in given:
            if not isinstance(one, (str, os.PathLike)):
                raise CnnkitError(f"features takes {what}, a text or a path, and no {type(one).__name__}")
    picture, model_file = Path(picture), path_of(model_file)
    selection = Selection(
        root=artifacts_root(root),
        formats=(CHECKPOINT,),
        untrained=untrained,
        seed=seed,
        model_file=model_file,
    )
    if untrained:
        refuse_seeding(named, seed)
    seen = []
    for index, model in enumerate(map(str, named)):
        asked = model if index else str(take_weights(model, pretrained, selection.root))
        artifact = open_model(asked, selection)
        tell(f"opened {describe(artifact)}")
        seen.append(look(artifact, picture, layers=layers, title=_title(model), model_file=model_file))
        if seen[-1].inverted:
            tell(f"{picture} is inverted for {artifact.name}, whose training set has another ground")
    return Features(seen=tuple(seen))


def _title(model: str) -> str:
    """Return what heads a network's column: a name as typed; of a path so much that runs are told apart."""
    return "/".join(Path(model).with_suffix("").parts[-2:]) if is_path(model) else model


def look(
    artifact: Artifact,
    picture: Path,
    *,
    layers: Sequence[str] = (),
    title: str | None = None,
    model_file: Path | None = None,
) -> Seen:
    """Run a checkpoint on a picture and keep what the named layers put out.

    Without names: the first two activations that still are pictures. Raises NotFoundError for an
    unknown layer and CnnkitError for one whose output is no picture.
    """
    import torch

    preprocessing = preprocessing_of(artifact)
    shown: Picture = read_picture(picture, preprocessing)
    module = load_module(artifact, model_file=model_file)
    kept: dict[str, LayerMaps] = {}

    def keep(row: ModuleRow, output: torch.Tensor) -> None:
        # a copy, because the next layer may work in place
        kept[row.name] = LayerMaps(name=row.name, type=row.type, maps=output[0].numpy().copy())

    visit(module, torch.from_numpy(normalise(shown.pixels, preprocessing)[None]), keep)
    names = list(layers) or _first_activations(kept)
    for name in names:
        if name not in kept:
            raise unknown_name(f"layer of {artifact.passport.model}", name, kept)
        if kept[name].maps.ndim != 3:
            raise CnnkitError(
                f"layer {name} of {artifact.passport.model} puts out {shape_text(kept[name].maps.shape)} "
                f"figures, no pictures; "
                f"these do: {', '.join(key for key, entry in kept.items() if entry.maps.ndim == 3)}"
            )
    return Seen(
        title=title or artifact.name,
        pixels=shown.pixels,
        inverted=shown.inverted,
        layers=tuple(kept[name] for name in names),
    )


def _first_activations(kept: dict[str, LayerMaps]) -> list[str]:
    pictures = [entry for entry in kept.values() if entry.maps.ndim == 3]
    found = [entry.name for entry in pictures if entry.type.lower() in ACTIVATIONS]
    return (found or [entry.name for entry in pictures])[:2]


def _column(seen: Seen) -> Image.Image:
    blocks = [(seen.title, tile(seen.pixels, 2 * TILE))]
    blocks += [(_caption(layer), _grid(layer.maps)) for layer in seen.layers]
    font = ImageFont.load_default(12)
    width = max(max(image.width, int(font.getlength(text))) for text, image in blocks) + 2 * MARGIN
    page = Image.new("RGB", (width, sum(image.height + 32 for _, image in blocks) + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    top = MARGIN
    for text, image in blocks:
        pen.text((MARGIN, top), text, INK, font)
        page.paste(image, (MARGIN, top + 18))
        top += image.height + 32
    return page


def _caption(layer: LayerMaps) -> str:
    count, height, width = layer.maps.shape
    shown = f"{count} channels" if count <= MOST_CHANNELS else f"first {MOST_CHANNELS} of {count} channels"
    low, high = float(layer.maps.min()), float(layer.maps.max())
    return f"{layer.name} ({layer.type}), {shown} of {height} by {width}, black {low:.2f} to white {high:.2f}"


def _grid(maps: NDArray[np.float32]) -> Image.Image:
    """Lay out channels side by side; one scale for all, so that a weak channel looks weak."""
    low, high = float(maps.min()), float(maps.max())
    grey = ((maps - low) * (255 / (high - low or 1.0))).round().astype(np.uint8)[:MOST_CHANNELS]
    columns = min(8, len(grey)) if len(grey) > 6 else len(grey)
    rows = math.ceil(len(grey) / columns)
    step = TILE + 4
    page = Image.new("RGB", (columns * step - 4, rows * step - 4), PAPER)
    for index, channel in enumerate(grey):
        row, column = divmod(index, columns)
        page.paste(tile(channel[None], TILE), (column * step, row * step))
    return page
