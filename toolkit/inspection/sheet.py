"""A sheet of pictures with what a network says of them and what they are, as a PNG. Pillow only."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from toolkit.errors import CnnkitError
from toolkit.images import Pixels, picture_of
from toolkit.lettering import complaint, font_for
from toolkit.listings.looking import readable
from toolkit.markup import Html
from toolkit.named_files import write_named

if TYPE_CHECKING:
    from toolkit.inspection.prediction import Prediction

TILE, MARGIN, LINE, SIZE = 112, 12, 15, 12
MOST_TILES = 1000  # a sheet of more could hardly be looked at
MAKER = "cnnkit"  # what a drawn picture says that it was made by
RIGHT, WRONG, PLAIN, INK, PAPER = "#1a7f37", "#cf222e", "#57606a", "#1f2328", "#ffffff"


def draw_sheet(predictions: Sequence[Prediction], title: str) -> Image.Image:
    """Draw every picture as the network saw it, framed green where it is right and red where wrong."""
    columns = min(10, max(1, math.ceil(math.sqrt(len(predictions) * 1.6))))
    rows = math.ceil(len(predictions) / columns)
    cell = (TILE + MARGIN, TILE + 2 * LINE + MARGIN + 6)
    font = ImageFont.load_default(SIZE)
    width = max(columns * cell[0] + MARGIN, int(font.getlength(title)) + 2 * MARGIN)
    page = Image.new("RGB", (width, rows * cell[1] + 2 * MARGIN + LINE), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 4), title, INK, font)
    for index, prediction in enumerate(predictions):
        row, column = divmod(index, columns)
        left, top = MARGIN + column * cell[0], MARGIN + LINE + row * cell[1]
        _draw_one(page, pen, prediction, left, top)
    return page


def _draw_one(
    page: Image.Image, pen: ImageDraw.ImageDraw, prediction: Prediction, left: int, top: int
) -> None:
    colour = {True: RIGHT, False: WRONG, None: PLAIN}[prediction.right]
    page.paste(tile(prediction.pixels, TILE), (left, top))
    pen.rectangle((left - 2, top - 2, left + TILE + 1, top + TILE + 1), outline=colour, width=2)
    label, probability = prediction.top[0]
    _text(pen, (left, top + TILE + 4), f"{probability:.0%} {label}", colour)
    _text(pen, (left, top + TILE + 4 + LINE), _below(prediction), INK)


def _below(prediction: Prediction) -> str:
    if isinstance(prediction.source, Path):
        return readable(prediction.source.name)
    return prediction.source if prediction.truth is None else f"is {prediction.truth}"


def tile(pixels: Pixels, side: int) -> Image.Image:
    """Return (C, H, W) uint8 pixels as an RGB picture that fits a square, pixels kept sharp."""
    image = picture_of(pixels).convert("RGB")
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)
    square = Image.new("RGB", (side, side), PAPER)
    square.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _text(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: str) -> None:
    """Write a line word by word, each in a font that has its letters; cut it where the tile ends."""
    left, top = float(place[0]), place[1]
    end = left + TILE + MARGIN - 4
    for word in text.split():
        font = font_for(word, SIZE)
        shown = word if left + font.getlength(word) <= end else _cut(font, word, end - left)
        # on one base line, whatever the fonts' heights
        pen.text((left, top + SIZE), shown, colour, font, anchor="ls")
        if shown != word:
            break
        left += font.getlength(f"{word} ")


def _cut(font: Any, word: str, room: float) -> str:
    """Return as much of a word as fits into so many pixels with an ellipsis."""
    while word and font.getlength(f"{word}…") > room:
        word = word[:-1]
    return f"{word}…"


def write_sheet(path: Path, predictions: Sequence[Prediction], title: str) -> str | None:
    """Write the sheet as a PNG, whole or not at all; return, in words, what could not be drawn well.

    Raises CnnkitError for another ending or no picture.
    """
    if not predictions:
        raise CnnkitError(f"no picture could be read, so there is nothing to draw in {path}")
    write_png(path, draw_sheet(predictions, title))
    return complaint(text for entry in predictions for text in (entry.top[0][0], _below(entry)))


def write_png(path: Path, image: Image.Image) -> None:
    """Write a picture as a PNG, whole or not at all. Raises CnnkitError for another ending."""
    if path.suffix.lower() != ".png":
        raise CnnkitError(f"{path} would be a PNG; name it {path.with_suffix('.png').name}")
    write_named(path, png_of(image))


def inline(image: Image.Image) -> Html:
    """Return a picture as HTML that holds it whole, for a notebook."""
    return Html(f"<img src='data:image/png;base64,{base64.b64encode(png_of(image)).decode()}'>")


def png_of(image: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    buffer, said = io.BytesIO(), PngImagePlugin.PngInfo()
    said.add_text("Software", MAKER)
    image.save(buffer, "PNG", optimize=True, pnginfo=said)
    return buffer.getvalue()


def drawn_here(path: Path) -> bool:
    """Tell whether a file is a picture that was drawn here, such as the sheet of an earlier run."""
    with contextlib.suppress(OSError):
        if path.is_file():  # a pipe would be waited for
            with Image.open(path) as image:
                return bool(image.info.get("Software") == MAKER)
    return False
