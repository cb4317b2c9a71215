"""What a training reads of this machine goes along to others, or is refused in words."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from toolkit.artifacts import shipped_root
from toolkit.clusters import Cluster, Demand, Ended, Sent, Work, Workplace
from toolkit.errors import CnnkitError
from toolkit.recipes import Recipe
from toolkit.telling import Tell
from toolkit.training import Watcher
from toolkit.training.elsewhere import train_elsewhere
from toolkit.training.jobs import make_job
from toolkit.training.sending import insist_that_weights_are_typed, read_files, rooted

ROOT = "/elsewhere"


class Told(Workplace):
    """Takes note of what it is told, and fails."""

    def __init__(self) -> None:
        self.words: Sequence[str] = ()

    def run(self, work: Work) -> Ended:
        raise NotImplementedError

    def run_together(self, works: Sequence[Work]) -> list[Ended | None]:
        self.words = works[0].words(ROOT)
        works[0].log.parent.mkdir(parents=True, exist_ok=True)
        works[0].log.write_text("error: noted\n")
        return [Ended(status=1, output=b"", where="there", wall_s=0.0)]


class Noting(Cluster):
    """Machines that run nothing."""

    name, summary, address = "noting", "nothing", "HOST"

    def __init__(self) -> None:
        self.place, self.sent = Told(), set[Path]()

    @contextlib.contextmanager
    def open(
        self, address: str | None, sent: Sent, need: Demand, *, tell: Tell, verbose: bool
    ) -> Iterator[Workplace]:
        self.sent = set(sent())
        yield self.place


def test_class_weights_and_passports_go_along_and_words_stay_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.json", "start.safetensors", "start.safetensors.json", "balanced", "imagenet"):
        Path(name).write_text("{}")
    files = ["--class-weights", "w.json", "--pretrained", "start.safetensors"]
    found = read_files("fashion-mnist-sample", None, None, files).paths
    assert {path.name for path in found} == {"w.json", "start.safetensors", "start.safetensors.json"}
    told = rooted(files, ROOT)
    assert told[1::2] == [f"{ROOT}{tmp_path}/w.json", f"{ROOT}{tmp_path}/start.safetensors"]
    words = ["--class-weights", "balanced", "--pretrained", "imagenet"]
    assert rooted(words, ROOT) == words
    assert not read_files("fashion-mnist-sample", None, None, words).paths
    insist_that_weights_are_typed([Recipe(name="own", class_weights="w.json")], files)
    with pytest.raises(CnnkitError, match=r"recipe own names .* `--class-weights w.json` sends it along"):
        insist_that_weights_are_typed([Recipe(name="own", class_weights="w.json")], [])


def test_a_teacher_goes_along_by_its_file_when_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wise" / "wise.safetensors"
    shutil.copytree(shipped_root() / "lenet-maxpool", path.parent)
    for file in path.parent.glob("lenet-maxpool.safetensors*"):
        file.rename(path.parent / file.name.replace("lenet-maxpool", "wise"))
    job = make_job("lenet-relu", root=tmp_path, teacher="wise", threads=1)
    cluster = Noting()
    with pytest.raises(CnnkitError, match="noted"):
        train_elsewhere(cluster, None, job, ["--teacher", "wise"], watcher=Watcher(), verbose=False)
    assert {path, Path(f"{path}.json")} <= cluster.sent
    assert f"--teacher {ROOT}{path}" in " ".join(cluster.place.words)
