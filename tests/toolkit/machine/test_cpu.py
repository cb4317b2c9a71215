"""Which int8 files are right on which processor."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from toolkit.artifacts import open_artifact, shipped_root
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.machine import cpu as _cpu
from toolkit.machine.cpu import Cpu, cpu, saturates
from toolkit.passports import Target

OLD = "model name\t: Old CPU\nflags\t\t: fpu sse4_2 avx2 fma\n"
NEW = "model name\t: New CPU\nflags\t\t: fpu avx2 avx512f avx_vnni avx512_vnni avx512_bf16\n"
ARM = "Features\t: fp asimd asimddp i8mm\n"


def written(folder: Path, text: str) -> Cpu:
    path = folder / "cpuinfo"
    path.write_text(text)
    return cpu(path)


def test_instruction_sets_are_read_from_the_kernel(tmp_path: Path) -> None:
    old, new, arm = (written(tmp_path, text) for text in (OLD, NEW, ARM))
    assert (old.name, old.instruction_sets, old.wide_int8, old.fast_bf16) == (
        "Old CPU",
        ("AVX2",),
        False,
        False,
    )
    assert (new.wide_int8, new.fast_bf16, new.int8_instructions) == (True, True, "AVX512-VNNI")
    assert (arm.wide_int8, arm.int8_instructions) == (True, "I8MM")


def test_without_the_kernels_file_nothing_is_claimed(tmp_path: Path) -> None:
    found = cpu(tmp_path / "none")
    assert found.instruction_sets == ()
    assert found.cores >= 1


def test_a_file_made_for_vnni_saturates_on_an_older_processor_only(tmp_path: Path) -> None:
    old, new = written(tmp_path, OLD), written(tmp_path, NEW)
    said = saturates("AVX512-VNNI", old)
    assert said is not None
    assert "made for processors with AVX512-VNNI, which this one (Old CPU) lacks" in said
    assert saturates("AVX512-VNNI", new) is None
    assert saturates(None, old) is None


def test_opening_such_a_file_on_an_older_processor_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(shipped_root().glob("*/*.onnx"))
    if not files:
        pytest.skip("no ONNX file ships with this tree yet")
    artifact = open_artifact(files[0])
    target = Target(instruction_set="AVX512-VNNI")
    made = dataclasses.replace(artifact, passport=dataclasses.replace(artifact.passport, target=target))
    old = tmp_path / "cpuinfo"
    old.write_text(OLD)
    monkeypatch.setattr(_cpu.cpu, "__defaults__", (old,))
    with pytest.warns(RuntimeWarning, match="its sums can saturate"):
        BACKENDS.load("ort").open(made, EngineOptions())
