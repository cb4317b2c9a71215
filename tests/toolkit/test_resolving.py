"""Which backend opens a file: the one that was named, where it opens the format; else the usual one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import toolkit.backends
from serve.lineup import line_up
from serve.settings import OpeningSettings
from tests.stamping import stamp
from toolkit.artifacts import read_passport
from toolkit.backends import BACKENDS
from toolkit.errors import CnnkitError, NotFoundError, OtherPrecisionError
from toolkit.opening import Selection
from toolkit.passports import Passport, TensorSpec, as_precision
from toolkit.resolving import resolve

PLUGIN = """
from toolkit.backends.ort import Ort


class Another(Ort):
    name = "{word}"


BACKEND = Another()
"""
# before and behind ONNX Runtime in the alphabet
WORDS = ("another", "zeta")


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[None]:
    """Add two backends that open ONNX files, each as one file in a folder that the catalog lists."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for word in WORDS:
        (folder / f"{word}.py").write_text(PLUGIN.format(word=word))
    toolkit.backends.__path__.append(str(folder))
    yield
    toolkit.backends.__path__.remove(str(folder))
    for word in WORDS:
        sys.modules.pop(f"toolkit.backends.{word}", None)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"a graph")
    spec = TensorSpec(name="x", shape=(None, 1, 28, 28))
    passport = Passport(
        format="onnx",
        model="net",
        precision="fp32",
        trained=None,
        input=spec,
        output=spec,
        classes=(),
        preprocessing=None,
    )
    return stamp(path, passport).path


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("backend", ["ort", *WORDS])
def test_a_file_is_opened_by_each_backend_of_its_format(backend: str, graph: Path, tmp_path: Path) -> None:
    assert set(WORDS) < set(BACKENDS.names())
    assert resolve(str(graph), backend=backend, selection=Selection(root=tmp_path)).backend == backend


@pytest.mark.usefixtures("plugins")
def test_an_added_backend_does_not_take_the_usual_ones_files(graph: Path, tmp_path: Path) -> None:
    assert resolve(str(graph), backend=None, selection=Selection(root=tmp_path)).backend == "ort"


def test_a_backend_of_another_format_or_none_at_all_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(CnnkitError, match=r"backend 'pytorch' cannot open .*`--backend ort` does"):
        resolve(str(graph), backend="pytorch", selection=Selection(root=tmp_path))
    with pytest.raises(NotFoundError, match="Did you mean 'pytorch'"):
        resolve(str(graph), backend="pytorh", selection=Selection(root=tmp_path))


def test_a_typed_precision_that_a_file_has_not_is_an_error_that_names_one_that_has_it(
    graph: Path, tmp_path: Path
) -> None:
    asked = Selection(root=tmp_path, precision="int8", insists=True)
    assert resolve(str(graph), backend=None, selection=replace(asked, insists=False)).artifact.path == graph
    makes = (
        rf"net\.onnx is fp32, not int8: leave --precision away, or `cnnkit export {graph} --precision int8`"
    )
    for backend in (None, "ort", "openvino"):
        with pytest.raises(OtherPrecisionError, match=makes):
            resolve(str(graph), backend=backend, selection=asked)
    (tmp_path / "net").mkdir()
    whole, small = (tmp_path / "net" / name for name in ("net.onnx", "net.int8.onnx"))
    for path, precision in ((whole, "fp32"), (small, "int8")):
        path.write_bytes(precision.encode())
        stamp(path, replace(read_passport(graph), precision=precision))
    with pytest.raises(
        OtherPrecisionError, match=r"net\.onnx is fp32, not int8: net\.int8\.onnx beside it is"
    ):
        resolve(str(whole), backend="ort", selection=asked)
    with pytest.raises(OtherPrecisionError, match=r"int8\.onnx is int8, not fp32: net\.onnx beside it is"):
        resolve(str(small), backend=None, selection=replace(asked, precision="fp32"))
    half = replace(asked, precision="bf16")  # computed of the fp32 file
    assert resolve(str(whole), backend="openvino", selection=half).artifact.passport.precision == "bf16"


def test_what_is_named_in_place_of_a_file_is_what_the_backend_opens_and_of_its_format_first(
    graph: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    kinds = {".onnx": "onnx", ".fp16.onnx": "onnx", ".openvino": "openvino", ".pack": "pack"}
    for hour, (ending, kind) in enumerate(kinds.items()):
        path = folder / f"net{ending}"
        path.write_bytes(ending.encode())
        precision = "fp16" if "fp16" in ending else "fp32"
        made = {"format": kind, "precision": precision, "created": f"2026-01-01T0{hour}:00:00+00:00"}
        stamp(path, replace(read_passport(graph), **made))
    half = folder / "net.fp16.onnx"
    whole = Selection(root=tmp_path, precision="fp32", insists=True)
    for backend in ("ort", None):
        with pytest.raises(
            OtherPrecisionError, match=r"fp16\.onnx is fp16, not fp32: net\.onnx beside it is"
        ):
            resolve(str(half), backend=backend, selection=whole)
    (folder / "net.onnx").unlink()
    with pytest.raises(OtherPrecisionError, match=r"not fp32: leave --precision away$"):
        resolve(str(half), backend="ort", selection=whole)
    with pytest.raises(OtherPrecisionError, match=r"not fp32: net\.openvino beside it is"):
        resolve(str(half), backend=None, selection=whole)
    # exports start from no such file
    with pytest.raises(OtherPrecisionError, match=r"openvino is fp32, not int8: leave --precision away$"):
        resolve(str(folder / "net.openvino"), backend=None, selection=replace(whole, precision="int8"))


def test_a_name_whose_export_is_of_older_weights_says_so_and_what_to_type(
    graph: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    weights = folder / "net.safetensors"
    known, plain, made_of = read_passport(graph), folder / "net.onnx", ""
    for stem, precision, what in ((".onnx", "fp32", ""), (".fp16.onnx", "fp16", " --precision fp16")):
        weights.write_bytes(b"weights")
        of_weights = stamp(weights, replace(known, format="safetensors")).passport.sha256
        made_of = made_of or of_weights
        path = folder / f"net{stem}"
        path.write_bytes(stem.encode())
        made_of = stamp(path, replace(known, precision=precision, source_sha256=made_of)).passport.sha256
        selection = Selection(root=tmp_path, precision=as_precision(precision))
        assert resolve("net", backend="ort", selection=selection).why is None
        weights.write_bytes(b"newer weights")
        stamp(weights, replace(known, format="safetensors"))
        again = f"`cnnkit export net{what}` makes it anew"
        why = f"of other weights than the newest of net: {again}"
        assert why in (resolve("net", backend="ort", selection=selection).why or "")
        (served,) = line_up(["net"], "ort", OpeningSettings(**vars(selection)), others=False)
        assert why in served.said
        assert resolve(str(path), backend="ort", selection=selection).why is None
    # the graph that it was made of is another one, of the same weights, and then none
    plain.write_bytes(b"as probabilities")
    weights.write_bytes(b"weights")
    stamp(
        plain,
        replace(known, source_sha256=stamp(weights, replace(known, format="safetensors")).passport.sha256),
    )
    for _ in range(2):
        why = "net.fp16.onnx cannot be traced to the newest weights of net, as what it was made of is gone"
        assert f"{why}: {again}" in (resolve("net", backend="ort", selection=selection).why or "")
        plain.unlink(missing_ok=True)
