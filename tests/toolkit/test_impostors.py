"""A file that is not what its name says is called what it is, whoever opens it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from PIL import Image

import cnnkit
from toolkit.artifacts import hash_file
from toolkit.errors import CorruptError
from toolkit.profiling.comparing.reading import kind_of


def picture(kind: str) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 8)).save(held, kind)
    return held.getvalue()


IMPOSTORS = {
    "is a PNG picture": picture("PNG"),
    "is a JPEG picture": picture("JPEG"),
    "is packed by gzip: `gunzip` it first": gzip.compress(b"weights"),
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
    "is an HTML page": b"\n<!DOCTYPE html><html>404</html>",
    "is empty": b"",
}


@pytest.mark.parametrize("what", IMPOSTORS)
@pytest.mark.parametrize("name", ["net.onnx", "net.pth", "net.safetensors"])
def test_an_impostor_is_named_as_what_it_is(what: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(IMPOSTORS[what])
    model = None if name == "net.onnx" else "lenet"
    with pytest.raises(CorruptError, match=f"{name} {what}"):
        cnnkit.import_(path, model=model, root=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    """The memory of a process opens, and cannot be read at its start, for root, too."""
    for name, read in (
        ("net.onnx", lambda path: cnnkit.import_(path, root=tmp_path / "out")),
        ("net.pth", lambda path: cnnkit.import_(path, model="lenet", root=tmp_path / "out")),
        ("net.bin", kind_of),
        ("net.dat", hash_file),
    ):
        path = tmp_path / name
        path.symlink_to("/proc/self/mem")
        with pytest.raises(CorruptError, match=rf"{name} cannot be read: Input/output error"):
            read(path)


OTHERS = {
    "a zip archive": b"PK\x03\x04" + bytes(40),
    "a pickle": b"\x80\x02}q",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "a TensorFlow Lite network": b"\x1c\0\0\0TFL3" + bytes(40),
    "a safetensors file": (64).to_bytes(8, "little") + b'{"a": 1}' + bytes(56),
    "a TensorRT engine": b"ptrt" + bytes(40),
    "a text file": b"no network, but a sentence\n",
    "truncated": b"\x08\x08\x3a\xff\xff\x01",
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_format_by_the_name_of_onnx_is_called_by_its_own(what: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(OTHERS[what])
    with pytest.raises(CorruptError, match=f"no readable ONNX file: it is {what}"):
        cnnkit.import_(path, root=tmp_path / "out")
