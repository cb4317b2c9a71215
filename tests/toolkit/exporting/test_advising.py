"""A precision that is not here is asked for: what is named next is what has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toolkit.artifacts import shipped_root
from toolkit.backends import BACKENDS
from toolkit.errors import OtherPrecisionError
from toolkit.exporting.advising import advising
from toolkit.opening import Selection, open_model
from toolkit.passports import Precision

NAME = "lenet-maxpool"
SHIPPED = shipped_root() / NAME


def said(model: str, root: Path, precision: Precision, backend: str = "ort") -> str:
    asked = BACKENDS.load(backend).opens(Selection(root=root, precision=precision, insists=True))
    with pytest.raises(OtherPrecisionError) as caught, advising(model, asked):
        open_model(model, asked)
    return str(caught.value)


def test_a_backend_that_computes_it_of_a_file_that_is_here_is_named(tmp_path: Path) -> None:
    graph = f"{NAME}.onnx"
    advice = f"`--backend openvino` computes bf16 of {graph}"
    assert said(NAME, tmp_path, "bf16").endswith(f"not as onnx bf16: {advice}")
    assert said(str(SHIPPED / graph), tmp_path, "bf16") == f"{graph} is fp32, not bf16: {advice}"


def test_an_export_is_named_where_it_makes_what_the_backend_opens_or_for_one_that_does(
    tmp_path: Path,
) -> None:
    assert f"`cnnkit export {NAME} --precision fp16` makes it" in said(NAME, tmp_path, "fp16")
    other = said(NAME, tmp_path, "fp16", backend="pytorch")
    assert f"`cnnkit export {NAME} --format onnx --precision fp16` makes one for `--backend ort`" in other
    graph, weights = (SHIPPED / f"{NAME}.{ending}" for ending in ("onnx", "safetensors"))
    assert said(str(graph), tmp_path, "fp16").endswith(
        f"or `cnnkit export {graph} --precision fp16` makes one"
    )
    assert f"{weights} --format onnx --precision fp16`" in said(str(weights), tmp_path, "fp16", "pytorch")
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in SHIPPED.glob(f"{NAME}.safetensors*"):
        shutil.copy(path, folder / path.name.replace(NAME, "mine"))
    advice = said("mine", tmp_path, "bf16").partition(": ")[2]
    assert advice in (
        f"`cnnkit export mine --format {word} --precision bf16` makes one for `--backend {word}`"
        for word in ("openvino", "trt")
    )
