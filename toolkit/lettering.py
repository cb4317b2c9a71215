"""A font that has the letters of a text: Pillow's own, else one that is installed on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

# where Linux, macOS and Windows keep fonts
_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".fonts",
    Path.home() / ".local/share/fonts",
    Path("/System/Library/Fonts"),
    Path("/Library/Fonts"),
    Path("C:/Windows/Fonts"),
)
_NO_LETTER = "\uffff"  # never a letter, so every font draws its sign for a missing one


@cache
def font_file(word: str) -> tuple[Path | None, str]:
    """Return the font file that has most letters of a word, and the letters that it lacks.

    None is Pillow's own font, which is taken where no other has more.
    """
    letters = "".join(sorted({letter for letter in word if not letter.isspace()}))
    best: tuple[Path | None, str] = (None, _lacking(ImageFont.load_default(12), letters))
    for path in _installed() if best[1] else ():
        try:
            found = _lacking(ImageFont.truetype(path, 12), letters)
        except OSError:
            continue  # a file that FreeType cannot read is no font to us
        if len(found) < len(best[1]):
            best = (path, found)
        if not found:
            break
    return best


@cache
def font_for(word: str, size: int) -> Any:
    """Return the font to draw a word with, at a size in pixels."""
    path, _ = font_file(word)
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def complaint(texts: Iterable[str]) -> str | None:
    """Say which letters of the texts will be drawn as boxes; None when none will."""
    lacking = "".join(
        sorted({letter for text in texts for word in text.split() for letter in font_file(word)[1]})
    )
    if not lacking:
        return None
    shown = lacking[:10] + ("…" if len(lacking) > 10 else "")
    return f"no font on this machine has these letters, which are drawn as boxes: {shown}"


@cache
def _installed() -> tuple[Path, ...]:
    files = [
        path
        for folder in _FOLDERS
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".ttf", ".otf", ".ttc")
    ]
    # upright, of ordinary weight and without serifs first
    return tuple(
        sorted(files, key=lambda path: ("Sans" not in path.stem, "-" in path.stem.removesuffix("-Regular")))
    )


def _lacking(opened: Any, letters: str) -> str:
    missing = _drawn(opened, _NO_LETTER)
    return "".join(letter for letter in letters if _drawn(opened, letter) == missing)


def _drawn(opened: Any, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = opened.getmask(letter)
    return mask.size, bytes(mask)
