"""Files that are not what their name says: a page, a pointer or an error message in place of the content.

A download that went wrong leaves such a file, and so does a checkout without its large files.
"""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import CorruptError

_READ_BYTES = 1024
# how files begin that are neither networks nor weights, though they may be called so
_MAGIC = {
    b"\x89png\r\n": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "packed by gzip: `gunzip` it first",
}
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def refuse_impostor(path: Path) -> None:
    """Raise CorruptError where a file is a page, a pointer, an error message or empty, and say which."""
    with path.open("rb") as stream:
        start = stream.read(_READ_BYTES)
    why = _impostor(start)
    if why:
        raise CorruptError(f"{path} is {why}")


def _impostor(start: bytes) -> str | None:
    """Say what a file that begins so is, and what to do about it; None where it may be what it is called."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text:
        return "empty; copy it anew"
    for magic, what in _MAGIC.items():
        if start.lower().startswith(magic):
            return what
    if text.startswith(b"version https://git-lfs.github.com/spec"):
        return "a Git LFS pointer and not the file itself; `git lfs pull` in its repository fetches that"
    if text.startswith((b"/annex/objects/", b"../.git/annex/", b".git/annex/")):
        return "a git-annex pointer and not the file itself; `git annex get` in its repository fetches that"
    if text.startswith(_PAGES) or (text.startswith((b"<?xml", b"<!--")) and b"<html" in text):
        return "an HTML page and not the file itself; fetch it by its download link"
    if text.startswith((b"<?xml", b"<error")):
        return "an XML message of a web server and not the file itself; fetch it anew"
    if text.startswith((b'{"error', b'{"message', b'{"detail')):
        return "a message of a web server in JSON and not the file itself; fetch it anew"
    return None
