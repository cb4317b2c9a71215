"""An export appears whole with its passport or not at all, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporters.proving.proof import read_proof
from tests.exporters.conftest import cnnkit_run
from toolkit.artifacts import Artifact, open_artifact, sidecar, write_json
from toolkit.errors import CnnkitError, GateError
from toolkit.passports import Passport
from toolkit.publishing import TURN, make_writable, publish, publish_folder


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {TURN}


def test_a_failed_check_leaves_the_older_file_and_passport(root: Path) -> None:
    old = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")
    before = {name: (old.path.parent / name).read_bytes() for name in files(old.path.parent)}

    def fail(drafted: Artifact) -> tuple[object, bytes | None]:
        assert drafted.path.read_bytes() == b"new"
        raise GateError("not near enough")

    def draft(part: Path) -> Passport:
        part.write_bytes(b"new")
        return old.passport

    with pytest.raises(GateError, match="not near enough"):
        publish(old.path, draft, fail)  # type: ignore[arg-type]
    assert {name: (old.path.parent / name).read_bytes() for name in files(old.path.parent)} == before


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_has_a_passport_that_cannot_be_written_leaves_what_was_there(
    kind: str, older: bool, written: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passport = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx").passport
    path = tmp_path / "made" / "net.triton"

    def made(text: str) -> Artifact:
        def fill(part: Path) -> Passport:
            (part / "model" if kind == "folder" else part).write_text(text)
            return passport

        def proved(drafted: Artifact) -> tuple[Passport, bytes]:
            return drafted.passport, text.encode()

        if kind == "file":
            return publish(path, fill, proved)
        return publish_folder(path, lambda part: fill(part) and None, passport, proved)

    def full(beside: Path, data: dict[str, object]) -> None:
        if written:  # as where it is interrupted at once
            write_json(beside, data)
        raise OSError(28, "No space left on device")

    first = made("old") if older else None
    kept = {one.name: one.read_bytes() for one in path.parent.glob("*") if one.is_file()}
    monkeypatch.setattr("toolkit.publishing.write_json", full)
    with pytest.raises(CnnkitError, match=r"net\.triton: No space left on device; free some space"):
        made("new")
    assert {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()} | {
        TURN: b""
    } == kept | {TURN: b""}
    assert path.exists() is older
    if first is not None:
        assert open_artifact(path).passport == first.passport
    assert files(path.parent) == {*(kept.keys() - {TURN}), *(["net.triton"] if older else [])}


def test_a_gate_that_nothing_can_judge_exits_1_and_announces_nothing(root: Path) -> None:
    result = cnnkit_run(
        *("export", "lenet-maxpool", "--format", "onnx", "--int8", "--max-accuracy-drop", "0"),
        *("--images", "64", "--artifacts", root, "--json"),
    )
    assert result.exit_code == 1
    payload = json.loads(result.stdout)
    assert [entry["precision"] for entry in payload["artifacts"]] == ["fp32"]
    assert payload["failed"][0]["precision"] == "int8"
    assert "points allowed" in result.stderr
    assert not [name for name in files(root / "lenet-maxpool") if "int8" in name]


def test_a_full_disk_is_told_in_words_and_leaves_the_older_file(root: Path) -> None:
    graph = root / "lenet-maxpool" / "lenet-maxpool.onnx"
    arguments = [
        "export",
        str(graph),
        "--fp16",
        "--format",
        "onnx",
        "--images",
        "64",
        "--artifacts",
        str(root),
    ]
    assert cnnkit_run(*arguments).exit_code == 0
    target = root / "lenet-maxpool" / "lenet-maxpool.fp16.onnx"
    before = target.read_bytes(), sidecar(target).read_bytes()

    def small_files() -> None:
        # a real limit of the kernel: writing beyond it fails as it does on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "cnnkit", *arguments, "--fresh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=small_files)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert (target.read_bytes(), sidecar(target).read_bytes()) == before
    assert not [name for name in files(target.parent) if ".part" in name]


def test_a_read_only_folder_is_told_before_any_work() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # root may write anywhere, so an ordinary user looks
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                make_writable(Path(name))
            except BaseException as error:  # whatever it is, it must not run on into the other tests
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        said = os.read(reader, 1000).decode()
        os.close(reader)
        Path(name).chmod(0o755)
    assert said == f"{name} is read-only; name another place with --artifacts DIR"


def test_a_folder_that_cannot_be_begun_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 245}.triton"  # a name that leaves no room for what is written beside it
    with pytest.raises(CnnkitError, match=r"cannot write .*triton: File name too long; name another"):
        publish_folder(path, lambda part: None, None)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_told_in_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    source = root / "lenet-maxpool" / "lenet-maxpool.safetensors"
    result = cnnkit_run(
        "export", source, "--format", "onnx", "--images", "64", "--artifacts", tmp_path / "taken" / "x"
    )
    assert result.exit_code == 1
    assert "cannot make" in result.stderr


def test_two_exports_at_once_leave_a_file_that_fits_its_passport(root: Path) -> None:
    graph = root / "lenet-maxpool" / "lenet-maxpool.onnx"

    def run(images: int) -> int:
        command = [
            sys.executable,
            "-m",
            "cnnkit",
            "export",
            str(graph),
            "--int8",
            "--format",
            "onnx",
            "--fresh",
        ]
        more = ["--artifacts", str(root), "--max-accuracy-drop", "50", "--calibration-images", str(images)]
        return subprocess.run([*command, *more], capture_output=True, check=False).returncode

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, (4, 5))) == [0, 0]
    made = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.int8.onnx")  # checks the hash
    assert made.passport.calibration is not None
    assert made.passport.calibration.images in (4, 5)
    assert read_proof(made).logits.shape == (64, 10)


def test_an_interrupted_export_leaves_the_older_file(root: Path) -> None:
    old = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")

    def draft(part: Path) -> Passport:
        part.write_bytes(b"half of")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(old.path, draft, lambda drafted: (drafted.passport, None))
    assert open_artifact(old.path).passport == old.passport
    assert not [name for name in files(old.path.parent) if ".part" in name]
