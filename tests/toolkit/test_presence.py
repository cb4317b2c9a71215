"""What may not be looked at is told in one line, and never taken for not there."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.refusing import said_by_nobody
from tests.stamping import stamp
from toolkit.artifacts import Artifact, artifact_path, find_artifacts, open_artifact, write_bytes
from toolkit.caching import kept_things
from toolkit.datasets import cifar10, fashion_mnist
from toolkit.errors import CnnkitError
from toolkit.graphs.source import graph_of
from toolkit.inspection.folders import pictures_in
from toolkit.listings.patterns import files_meant
from toolkit.listings.records import find_record
from toolkit.opening import Selection, is_model_file, newest_name, open_model
from toolkit.passports import Passport, TensorSpec
from toolkit.presence import is_file, is_folder, is_there, matching, within
from toolkit.training.record.folder import unfinished_runs

TENSOR = TensorSpec(name="input", shape=(None, 1, 28, 28))
GRAPH = Passport(
    format="onnx",
    model="lenet-maxpool",
    precision="fp32",
    trained=True,
    input=TENSOR,
    output=TENSOR,
    classes=("a", "b"),
    preprocessing=None,
)
ENGINE = dataclasses.replace(GRAPH, format="engine", source_sha256="0")


def kept_things_in(folder: Path) -> object:
    os.environ["XDG_CACHE_HOME"] = str(folder)  # of a child process alone
    return kept_things()


CLOSED: dict[str, Callable[[Path], object]] = {
    "a name of artifacts": lambda root: find_artifacts(root, "lenet-maxpool"),
    "all artifacts": find_artifacts,
    # of which weights ship, too
    "MODEL": lambda root: open_model("lenet-maxpool", Selection(root=root, formats=("safetensors",))),
    "no MODEL": lambda root: newest_name(Selection(root=root)),
    "a file": lambda root: open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx"),
    "a picture": lambda root: is_model_file(root / "lenet-maxpool" / "one.png"),
    "a folder of pictures": pictures_in,
    "a folder of shards": lambda root: files_meant(root, ".tar"),
    "shards at any depth": lambda root: files_meant(root / "**" / "*.tar", ".tar"),
    "shards of each folder": lambda root: files_meant(root / "*" / "*.tar", ".tar"),
    "shards of some folders": lambda root: files_meant(root / "lenet-m*" / "*.tar", ".tar"),
    "a shard": lambda root: files_meant(root / "lenet-maxpool" / "one.tar", ".tar"),
    "runs": unfinished_runs,
    "pictures of a training": lambda root: find_record(root / "lenet-maxpool" / "one.safetensors", "0"),
    "an engine's graph": lambda root: graph_of(
        Artifact(path=root / "lenet-maxpool" / "lenet-maxpool.fp32.engine", passport=ENGINE)
    ),
    "IDX files": lambda root: fashion_mnist.DATASET.load("fashion-mnist", root / "lenet-maxpool"),
    "the cache": lambda root: kept_things_in(root / "lenet-maxpool"),
    "CIFAR-10": lambda root: cifar10.load(data_dir=root / "lenet-maxpool"),
}


@pytest.fixture
def root() -> Iterator[Path]:
    """Yield a folder, where everybody may look, with one in it where nobody but its owner may."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are for their owner alone
    folder.chmod(0o755)
    path = artifact_path(folder, "lenet-maxpool", ".onnx")
    write_bytes(path, b"weights")
    stamp(path, GRAPH)
    yield folder
    path.parent.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("act", CLOSED.values(), ids=CLOSED)
def test_a_folder_that_may_not_be_read_is_told(root: Path, act: Callable[[Path], object]) -> None:
    (root / "lenet-maxpool").chmod(0)
    said = said_by_nobody(lambda: act(root))
    assert said.startswith(f"CorruptError: {root / 'lenet-maxpool'}")
    assert said.endswith("cannot be read: Permission denied")


def test_what_is_there_and_what_is_not_are_told_apart(root: Path) -> None:
    path = root / "lenet-maxpool" / "lenet-maxpool.onnx"
    assert [one(path) for one in (is_there, is_file, is_folder)] == [True, True, False]
    assert [one(root) for one in (is_there, is_file, is_folder)] == [True, False, True]
    for gone in (root / "gone", path / "below", root / "a\0b"):
        assert not is_there(gone)
        assert within(gone) == []
    with pytest.raises(CnnkitError, match="cannot be read: File name too long"):
        is_there(root / ("x" * 300))


def test_what_a_file_system_keeps_for_root_alone_holds_nothing(root: Path) -> None:
    (root / "lost+found").mkdir(mode=0)
    assert said_by_nobody(lambda: find_artifacts(root)) == ""
    assert said_by_nobody(lambda: pictures_in(root)) == ""


def test_a_pattern_means_what_paths_and_folders_have_it(tmp_path: Path) -> None:
    for name in ("a/x.tar", "a/b/y.tar", "a/b/y.txt", "c/x.tar", ".d/z.tar"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for pattern in (
        "**/*.tar",
        "*/*.tar",
        "a/**/y.*",
        "[ac]/x.tar",
        "link/*.tar",
        "gone/*",
        "**/b",
        "**/**/?.tar",
    ):
        assert matching(tmp_path, *pattern.split("/")) == sorted(set(tmp_path.glob(pattern)))
