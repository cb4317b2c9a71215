"""The combinations of preprocessing that are in use, as far as nobody has said otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from toolkit.importing import Order, PixelWishes
from toolkit.importing.inputs import PictureInput
from toolkit.passports import Layout
from toolkit.preprocessing import Interpolation, Preprocessing, Resize

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# with each way of covering the network's size, the share of the shorter side that is cut out
COVERS: tuple[tuple[Resize, float], ...] = (("pad", 1.0), ("crop", 0.875), ("crop", 1.0), ("squash", 1.0))
INTERPOLATIONS: tuple[Interpolation, ...] = ("box-bilinear", "bilinear", "bicubic", "nearest")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How pixels become figures: (pixel × scale − mean) / std, with the channels in the order RGB."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One preprocessing, and the layout in which its values go in."""

    preprocessing: Preprocessing
    layout: Layout

    @property
    def head(self) -> tuple[object, ...]:
        """Return all of it but the geometry."""
        one = self.preprocessing
        return (one.scale, one.mean, one.std, one.order, self.layout)


def geometries(base: Preprocessing, wishes: PixelWishes) -> list[Preprocessing]:
    """Return every way to bring pictures to the network's size that the wishes leave, the zoo's own first."""
    found: list[Preprocessing] = []
    for (resize, share), kind in product(COVERS, INTERPOLATIONS):
        one = dataclasses.replace(
            base,
            resize=wishes.resize or resize,
            crop_share=wishes.crop_share or (share if wishes.resize in (None, resize) else 1.0),
            interpolation=wishes.interpolation or kind,
        )
        if one.geometry not in [other.geometry for other in found]:
            found.append(one)
    return found


def scalings(
    base: Preprocessing, wishes: PixelWishes, own: tuple[Sequence[float], Sequence[float]], *, whole: bool
) -> list[Scaling]:
    """Return the scalings in use that the wishes leave; `own` are the pictures' mean and deviation.

    `whole` is an input of integers, which takes pixels as they are.
    """
    count = base.channels
    none, one = (0.0,) * count, (1.0,) * count
    raw = Scaling(scale=1.0, mean=none, std=one)
    if whole:
        return [raw]
    if wishes.mean is not None or wishes.std is not None:
        return [_own(base)]
    unit = 1 / 255
    mean, std = (tuple(round(float(figure), 4) for figure in figures) for figures in own)
    found = [
        Scaling(scale=unit, mean=none, std=one),
        Scaling(scale=unit, mean=(0.5,) * count, std=(0.5,) * count),
        raw,
        Scaling(scale=unit, mean=mean, std=tuple(figure or 1.0 for figure in std)),
    ]
    if count == 3:
        shades = tuple(255 * figure for figure in IMAGENET_MEAN)
        found += [
            Scaling(scale=unit, mean=IMAGENET_MEAN, std=IMAGENET_STD),
            # Caffe's and Keras's older networks: the mean is taken off whole pixels
            Scaling(scale=1.0, mean=shades, std=one),
        ]
    known = _own(base)
    found += [known] if known not in found else []
    return [one for one in found if wishes.scale in (None, one.scale)] or [known]


def _own(base: Preprocessing) -> Scaling:
    step = -1 if base.order == "bgr" else 1
    return Scaling(scale=base.scale, mean=base.mean[::step], std=base.std[::step])


def heads(
    base: Preprocessing,
    wishes: PixelWishes,
    taken: PictureInput,
    scaled: Sequence[Scaling],
    *,
    coloured: bool,
) -> Iterator[Combination]:
    """Yield every scaling, order of channels and layout in the geometry of `base`.

    The order is tried where pictures are coloured. What was said of means and deviations holds for the
    order that was said, or for RGB.
    """
    orders: tuple[Order, ...] = ("rgb", "bgr") if coloured and base.channels == 3 else ("rgb",)
    orders = (wishes.order,) if wishes.order is not None else orders
    for one, order, layout in product(scaled, orders, taken.layouts):
        step = -1 if order == "bgr" else 1
        mean, std = one.mean[::step], one.std[::step]
        made = dataclasses.replace(base, scale=one.scale, mean=mean, std=std, order=order)
        yield Combination(preprocessing=made, layout=layout)


def coloured(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
    """Tell whether (N, C, H, W) pictures have colours in which the order of channels shows."""
    return pixels.shape[1] == 3 and not np.array_equal(pixels[:, 0], pixels[:, 2])
