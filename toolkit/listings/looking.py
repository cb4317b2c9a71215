"""What a file is by its ending, and by its first bytes where the ending tells nothing."""

from __future__ import annotations

import os
from pathlib import Path

# what Pillow opens here, or names what opens it
ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "jif", "gif", "bmp", "dib", "webp", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "avif", "heic", "heif", "hif", "jxl"),
    )
)
# what lies beside pictures in every collection, and is none
OTHERS = frozenset(
    f".{ending}"
    for ending in (
        *(
            "txt",
            "csv",
            "tsv",
            "json",
            "jsonl",
            "xml",
            "yaml",
            "yml",
            "md",
            "html",
            "htm",
            "pdf",
            "db",
            "ini",
        ),
        *(
            "py",
            "ipynb",
            "zip",
            "tar",
            "gz",
            "mat",
            "npy",
            "npz",
            "parquet",
            "mp4",
            "avi",
            "mov",
            "mkv",
            "wav",
        ),
        *("mp3", "log", "lock", "doc", "docx", "xls", "xlsx", "h5", "pkl", "pt"),
    )
)
_STARTS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x0a"),
    *(b"\0\0\0\x0cJXL ", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)
_LOOKED_INTO = 16
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def is_text(name: str) -> bool:
    """Tell whether a file's name is text that can be written anywhere."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    """Return a file's name as text that can be written anywhere: bytes that are no UTF-8 as Latin-1."""
    return name if is_text(name) else os.fsencode(name).decode("latin-1")


def is_picture_name(name: str) -> bool | None:
    """Tell by a file's ending whether it is a picture; None where the ending does not tell."""
    ending = Path(name).suffix.lower()
    if ending in ENDINGS:
        return True
    return False if ending in OTHERS else None


def starts_like_a_picture(data: bytes) -> bool:
    """Tell by its first bytes, 16 or more, whether a file is a picture of a known kind."""
    riff = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    boxed = data[4:8] == b"ftyp" and data[8:12] in _BRANDS
    return riff or boxed or data.startswith(_STARTS)


def is_picture(path: Path) -> bool:
    """Tell whether a file is a picture: by its ending, by its first bytes where the ending does not tell."""
    known = is_picture_name(path.name)
    if known is not None:
        return known
    try:
        with path.open("rb") as file:
            return starts_like_a_picture(file.read(_LOOKED_INTO))
    except OSError:
        return False


def is_leftover(name: str) -> bool:
    """Tell whether a name is what archives and systems leave behind: neither a picture nor a class."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini", "@eadir")
