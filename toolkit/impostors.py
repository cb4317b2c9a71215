"""Files that are not what their name says: a page, a pointer or an error message in place of the content.

A download that went wrong leaves such a file, and so does a checkout without its large files.
"""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import CorruptError, reading

_READ_BYTES = 1024
# how files begin that are neither networks nor weights, though they may be called so
_MAGIC = {
    b"\x89png\r\n": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "packed by gzip: `gunzip` it first",
}
_WHOSE = "say with --model NAME whose they are"
# what else may be called .onnx; some of it is right as weights
_OTHERS = {
    b"PK\x03\x04": f"a zip archive, as torch.save writes weights in: name it .pth, and {_WHOSE}",
    b"\x80": f"a pickle, as older torch.save writes weights in: name it .pth, and {_WHOSE}",
    b"\x89HDF": "an HDF5 file, as Keras saves: convert it with tf2onnx",
    b"\x93NUMPY": "a numpy array",
    b"%PDF": "a PDF document",
    b"GGUF": "a GGUF file of a language model",
    b"BZh": "packed by bzip2: `bunzip2` it first",
    b"\xfd7zXZ": "packed by xz: `unxz` it first",
    b"\x28\xb5\x2f\xfd": "packed by zstd: `unzstd` it first",
    **dict.fromkeys((b"ptrt", b"ftrt"), "a TensorRT engine: give the ONNX file that it was built of"),
}
# the same behind four bytes
_NETWORKS = {
    b"TFL3": "a TensorFlow Lite network: convert it with tf2onnx",
    b"ORTM": "in ONNX Runtime's own format: give the ONNX file that it was made of",
}
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def refuse_impostor(path: Path) -> None:
    """Raise CorruptError where a file is a page, a pointer, an error message or empty, or cannot be read."""
    with reading(path), path.open("rb") as stream:
        start = stream.read(_READ_BYTES)
    why = _impostor(start)
    if why:
        raise CorruptError(f"{path} is {why}")


def other_format(path: Path) -> str | None:
    """Say which other format of networks, weights or archives a file is in; None where that is not known."""
    with reading(path), path.open("rb") as stream:
        start = stream.read(_READ_BYTES)
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            return what
    if start[4:8] in _NETWORKS:
        return _NETWORKS[start[4:8]]
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 30:
        return f"a safetensors file of weights: name it .safetensors, and {_WHOSE}"
    # an ONNX file begins with its IR version, then a field of text or the graph
    if start[:1] == b"\x08" and start[1:2] < b"\x40" and start[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a"):
        return "an ONNX file: name it .onnx" if path.suffix != ".onnx" else None
    printable = start.decode("utf-8", "ignore").replace("\n", " ").replace("\r", " ").replace("\t", " ")
    return "a text file" if printable and printable.isprintable() else None


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
    if text.startswith(b"<?xml") and b"<net " in text:
        return "a network of OpenVINO (.xml): give the ONNX file that it was made of"
    if text.startswith((b"<?xml", b"<error")):
        return "an XML message of a web server and not the file itself; fetch it anew"
    if text.startswith((b'{"error', b'{"message', b'{"detail')):
        return "a message of a web server in JSON and not the file itself; fetch it anew"
    return None
