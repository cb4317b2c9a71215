"""`export` and `verify` in Python: what a command would make, and its failures as results."""

from __future__ import annotations

from pathlib import Path

import pytest

import cnnkit
from exporters.run.report import Missed, Report
from tests.toolkit.profiling.reports.test_notebook import Read
from toolkit.errors import CnnkitError, GateError, NotFoundError, UnavailableError
from toolkit.exporting import ExportOptions


def test_export_and_verify_in_python_are_what_the_commands_do(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    told: list[str] = []
    options = ExportOptions(images=20, root=tmp_path)
    report = cnnkit.export("lenet-maxpool", formats=["onnx"], options=options, tell=told.append).require()
    (made,) = report.artifacts
    assert made.artifact.path == tmp_path / "lenet-maxpool" / "lenet-maxpool.onnx"
    assert told[0].startswith("opened ")
    assert {"file", "lenet-maxpool.onnx"} <= set(Read(report._repr_html_()).texts)
    verdict = cnnkit.verify(made.artifact.path)
    assert verdict.require() is verdict
    assert verdict.agree == verdict.images == 20
    assert "20 of 20 agree" in verdict._repr_html_()
    again = cnnkit.export("lenet-maxpool", formats=["onnx"], options=options)
    assert again.artifacts[0].cached


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["onx"]}, r"no format 'onx'; .*Did you mean 'onnx'\?"),
        ({"options": {"trtt": {}}}, r"no format 'trtt'; .*Did you mean 'trt'\?"),
        ({"options": {"trt": {"flavor": "rtx"}}}, r"no option of trt 'flavor'; .*Did you mean 'flavour'\?"),
        ({"options": {"trt": {"flavour": "clasic"}}}, r"no flavour of trt 'clasic'; .*'classic'\?"),
        (
            {"options": {"trt": {"flavour": "rtx"}, "triton": {"flavour": "classic"}}},
            r"flavour is one option for all exporters: 'rtx' or 'classic'\?",
        ),
    ],
)
def test_what_no_exporter_has_is_refused_with_the_nearest_match(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CnnkitError, match=message):
        cnnkit.export("lenet-maxpool", root=tmp_path, **arguments)  # type: ignore[arg-type]


def test_what_was_missed_is_in_the_report_and_raised_when_it_is_required() -> None:
    lacking = Missed(format="trt", precision="fp32", reason="<no GPU>")
    failed = Missed(format="onnx", precision="fp16", reason="it drifts", exit_status=4)
    with pytest.raises(CnnkitError, match="nothing could be exported: <no GPU>"):
        Report(skipped=[lacking]).require()
    with pytest.raises(UnavailableError, match="trt fp32: <no GPU>"):
        Report(skipped=[lacking], named=frozenset({"trt"})).require()
    with pytest.raises(GateError, match="onnx fp16: it drifts"):
        Report(skipped=[lacking], failed=[failed]).require()
    assert Read(Report(skipped=[lacking], failed=[failed])._repr_html_()).texts == [
        "failed: onnx fp16: it drifts",
        "skipped: trt fp32: <no GPU>",
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        cnnkit.verify(str(tmp_path / "gone.onnx"))
