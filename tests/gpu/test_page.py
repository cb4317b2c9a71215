"""What the page tells."""

from __future__ import annotations

from pathlib import Path

from tests.gpu.page import Page
from tests.gpu.plan import NETWORKS, Equipment, Tour
from tests.gpu.running import Result, Step


def result(name: str, **known: object) -> Result:
    step = Step(name=name, words=("-m", "cnnkit"), limit_s=1, answers=name != "tests marked gpu")
    return Result(**{"step": step, "status": "passed", "seconds": 1.0, **known})  # type: ignore[arg-type]


def page(*results: Result) -> str:
    tour = Tour(machine=Equipment(base=(), versions={}), device="cuda", folder=Path(), networks=NETWORKS[:2])
    told = Page(
        started="now", machine={"GPU": "H100 | one"}, notes=(), results=results, verdict="Fine.", tour=tour
    )
    return told.text()


def test_a_failure_stands_with_its_command_and_last_lines() -> None:
    text = page(result("train alexnet28", status="failed", why="exit status 1", last_lines=("why",)))
    assert "| train alexnet28 | **FAILED** | 1.0 | exit status 1 |" in text
    assert "### train alexnet28: exit status 1\n\n`python -m cnnkit`\n\n```text\nwhy\n```" in text


def test_what_was_skipped_stands_by_name_with_its_reason() -> None:
    text = page(
        result("export alexnet28", status="skipped", why="not installed: onnx", seconds=None),
        result(
            "tests marked gpu", output="SKIPPED [1] ../../x/tests/a.py:3: no TensorRT\n1 skipped in 2 s\n"
        ),
    )
    assert "- export alexnet28: not installed: onnx" in text
    assert "- SKIPPED [1] tests/a.py:3: no TensorRT" in text
    assert "| tests marked gpu | passed | 1.0 | 1 skipped in 2 s |" in text


def test_key_figures_have_a_column_for_each_network_and_no_row_that_nobody_measured() -> None:
    answer = {"ok": True, "images": 500, "agree": 499, "max_abs_diff": 2e-6, "tolerance": 1e-4}
    text = page(
        result("train lenet-maxpool", answer={"test_accuracy": 0.8312, "images_per_second": 50123.0}),
        result("verify alexnet28 on PyTorch", answer=answer),
    )
    assert "|  | lenet-maxpool | alexnet28 |" in text
    assert "| test accuracy | 0.831 |  |" in text
    assert "| training, pictures a second | 50,123 |  |" in text
    assert "|  | 499 of 500 alike, largest difference 2e-06 (allowed 0.0001) |" in text
    assert "ONNX Runtime, a batch of 1" not in text


def test_a_cell_cannot_break_the_table() -> None:
    assert "| GPU | H100 \\| one |" in page()
