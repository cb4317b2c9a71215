"""What a training reads of this machine goes along to others, or is refused in words."""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from toolkit.artifacts import shipped_root
from toolkit.clusters import Cluster, Demand, Ended, Sent, Work, Workplace
from toolkit.clusters._ray_connection import RayMachine, unlike
from toolkit.errors import CnnkitError, CorruptError
from toolkit.machine.cpu import Cpu
from toolkit.recipes import Recipe
from toolkit.telling import Tell
from toolkit.training import Watcher, sending
from toolkit.training.elsewhere import _report, train_elsewhere
from toolkit.training.foreseen import insist_on_one_format
from toolkit.training.jobs import make_job, train
from toolkit.training.record.folder import RunFolder, trained_elsewhere
from toolkit.training.sending import insist_that_weights_are_typed, read_files, rooted

ROOT = "/elsewhere"


class Told(Workplace):
    """Takes note of what it is told, and fails, with `said` by each rank."""

    def __init__(self, *said: str) -> None:
        self.words: Sequence[str] = ()
        self.said = said or ("error: noted\n",)

    def run(self, work: Work) -> Ended:
        raise NotImplementedError

    def run_together(self, works: Sequence[Work]) -> list[Ended | None]:
        self.words = works[0].words(ROOT)
        for work, text in zip(works, self.said, strict=True):
            work.log.parent.mkdir(parents=True, exist_ok=True)
            work.log.write_text(text)
        return [Ended(status=1, output=b"", where="there", wall_s=0.0) for _ in works]


class Noting(Cluster):
    """Machines that run nothing."""

    name, summary, address = "noting", "nothing", "HOST"

    def __init__(self, *said: str) -> None:
        self.place, self.sent = Told(*said), set[Path]()

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
    names = ("w.json", "start.safetensors", "start.safetensors.json", "balanced", "imagenet", "paper")
    for name in names:
        Path(name).write_text("{}")
    files = ["--class-weights", "w.json", "--pretrained", "start.safetensors"]
    found = read_files("fashion-mnist-sample", None, None, files).paths
    assert {path.name for path in found} == {"w.json", "start.safetensors", "start.safetensors.json"}
    told = rooted(files, ROOT)
    assert told[1::2] == [f"{ROOT}{tmp_path}/w.json", f"{ROOT}{tmp_path}/start.safetensors"]
    words = ["--class-weights", "balanced", "--pretrained", "imagenet", "--recipe", "paper"]
    assert rooted(words, ROOT) == words
    others = [*words[:2], *words[4:]]  # ImageNet's weights have a test of their own
    assert not read_files("fashion-mnist-sample", None, None, others).paths
    insist_that_weights_are_typed([Recipe(name="own", class_weights="w.json")], files)
    with pytest.raises(CnnkitError, match=r"recipe own names .* `--class-weights w.json` sends it along"):
        insist_that_weights_are_typed([Recipe(name="own", class_weights="w.json")], [])


def test_all_that_a_listing_was_read_from_goes_along_under_its_own_path(tmp_path: Path) -> None:
    there = tmp_path / "there"
    png = io.BytesIO()
    Image.new("L", (4, 4)).save(png, "PNG")
    for name in ("a/1.png", "b/2.png"):
        (there / name).parent.mkdir(parents=True)
        (there / name).write_bytes(png.getvalue())
    (there / "t.csv").write_text("file,label\na/1.png,a\nb/2.png,b\n")
    with tarfile.open(there / "s.tar", "w") as shard:
        for number in (0, 1):
            for name, data in ((f"{number}.png", png.getvalue()), (f"{number}.cls", b"%d" % number)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
    (there / "classes.txt").write_text("a\nb\n")
    (tmp_path / "link").symlink_to(there)
    table, shards = {"1.png", "2.png", "t.csv"}, {"s.tar", "classes.txt"}
    for form, expected in (("csv:{}/t.csv", table), ("tar:{}", shards)):
        word = form.format(tmp_path / "link")
        read = read_files(word, None, None, [])
        assert {path.name for path in read.paths} == expected
        (_, told) = rooted(["--dataset", word], ROOT, read)
        place = Path(told.partition(":")[2].removeprefix(ROOT))
        assert all(path.is_relative_to(place if place.is_dir() else place.parent) for path in read.paths)
    (there / "t.csv").write_text(f"file,label\na/1.png,a\nb/2.png,b\n{there}/gone.png,b\n")
    with pytest.raises(CnnkitError, match=r"by absolute paths, as .*/gone.png, where other machines"):
        read_files(f"csv:{there}/t.csv", None, None, [])


def test_tables_of_paths_go_along_by_every_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
    import pyarrow.parquet as pq

    for at in (0, 1):
        pq.write_table(pa.table({"image": [f"{at}.png"], "label": [at]}), tmp_path / f"{at}.parquet")
    read = read_files(f"parquet:{tmp_path}", None, None, [])
    assert {path.name for path in read.paths} == {"0.png", "1.png", "0.parquet", "1.parquet"}
    pq.write_table(pa.table({"image": ["/0.png"], "label": [0]}), tmp_path / "0.parquet")
    with pytest.raises(CnnkitError, match=r"by absolute paths, as /0.png"):
        read_files(f"parquet:{tmp_path}", None, None, [])


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


def test_of_failed_ranks_the_one_whose_fault_it_is_is_named_and_its_log_kept(tmp_path: Path) -> None:
    job = make_job("lenet-relu", root=tmp_path, threads=1, ranks=2)
    cluster = Noting("error: rank 1 ended; the same command goes on\n", "Traceback\nValueError: odd\n")
    with pytest.raises(CnnkitError, match=r"^rank 1: exit status 1: ValueError: odd; see .*rank-1.txt"):
        train_elsewhere(cluster, None, job, [], watcher=Watcher(), verbose=False)
    assert "ValueError: odd" in (tmp_path / "lenet-relu" / "runs" / "rank-1.txt").read_text()


def test_imagenets_weights_go_along_and_are_looked_for_where_they_come_to_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(sending, "imagenet_file", lambda: file)
    words = ["--pretrained", "imagenet", "--freeze"]
    assert file in read_files("fashion-mnist-sample", None, None, words).paths
    assert rooted(words, ROOT) == words
    work = Work(
        label="x",
        folder=tmp_path,
        log=tmp_path / "log.txt",
        words=lambda root: [],
        environment={"RANK": "0"},
        folders=sending.cache_folders(words),
    )
    assert work.variables(ROOT) == {"RANK": "0", "TORCH_HOME": f"{ROOT}{tmp_path}/torch"}
    assert sending.cache_folders(["--pretrained", str(file)]) == {}


def test_a_training_that_reported_nothing_is_told_in_words(tmp_path: Path) -> None:
    ended = [Ended(status=0, output=b"hello\n", where="there", wall_s=0.0)]
    with pytest.raises(CorruptError, match=r"report of a training is not there; on stdout came 'hello'"):
        _report([], ended, tmp_path)


def test_runs_in_which_another_command_trains_are_left_to_it(tmp_path: Path) -> None:
    job = make_job("lenet-relu", root=tmp_path, threads=1)
    runs = tmp_path / "lenet-relu" / "runs"
    with trained_elsewhere(runs):
        with pytest.raises(CnnkitError, match=r"another process trains on a cluster for .*/runs; wait"):
            train_elsewhere(Noting(), None, job, [], watcher=Watcher(), verbose=False)
        given = {"dataset": "fashion-mnist-sample", "images": 20, "threads": 1}
        with pytest.raises(CnnkitError, match=r"another process trains on a cluster for .*/runs; wait"):
            train("lenet-relu", root=tmp_path, resume=True, **given)
    assert not list(runs.glob("*.lock"))
    (runs / "elsewhere.lock").mkdir()
    with pytest.raises(CnnkitError, match=r"elsewhere\.lock cannot be locked: Is a directory; name another"):
        train_elsewhere(Noting(), None, job, [], watcher=Watcher(), verbose=False)
    (runs / "elsewhere.lock").rmdir()
    (runs / "one").mkdir()
    (runs / "one" / "run.json").write_text("{}")
    held = RunFolder(runs / "one")
    again = make_job("lenet-relu", root=tmp_path, threads=1, resume=True)
    with pytest.raises(CnnkitError, match=r"another process is training in .*/one; wait"):
        train_elsewhere(Noting(), None, again, [], watcher=Watcher(), verbose=False)
    held.close()
    with pytest.raises(CnnkitError, match="noted"):
        train_elsewhere(Noting(), None, again, [], watcher=Watcher(), verbose=False)


def test_machines_that_would_choose_other_formats_are_refused_unless_one_is_typed() -> None:
    here = RayMachine(id="1", name="here", cpus=1.0, gpus=0.0, memory_bytes=0)
    old, new = (Cpu(name=name, cores=1, instruction_sets=(name,)) for name in ("AVX2", "AVX512-BF16"))
    place = Told()
    assert unlike({here: old, replace(here, id="2"): old}) is None
    insist_on_one_format(place, ["--batch", "64"])
    place.unlike = unlike({here: old, replace(here, name="there"): new})
    said = r"there \(AVX512-BF16\) computes bf16 itself, and here \(AVX2\) does not, so .* `--precision fp32`"
    for typed in (
        ["--batch", "64"],
        ["--precision", "fp32", "--precision", "auto"],
        ["--precision", "measured"],
    ):
        with pytest.raises(CnnkitError, match=said):
            insist_on_one_format(place, typed)
    insist_on_one_format(place, ["--precision", "fp32"])
    insist_on_one_format(place, ["--device", "cuda"])
