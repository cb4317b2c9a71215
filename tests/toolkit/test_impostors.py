"""A file that is not what its name says is called what it is, whoever opens it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from PIL import Image

import cnnkit
from toolkit.errors import CorruptError


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
