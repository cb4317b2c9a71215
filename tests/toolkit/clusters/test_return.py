"""What a command writes on another machine comes back whole, or not yet."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.clusters import Work
from toolkit.clusters import _ray_pieces as pieces
from toolkit.clusters._ray_pieces import SiteNews, Written
from toolkit.clusters._ray_return import Return
from toolkit.clusters._ray_site import interface_of
from toolkit.publishing import take_turn

FILES = ("log.txt", "runs/epochs.csv", "net.safetensors", "net.safetensors.json", "net.trained-on.txt")
STATE = "runs/good.state"
# what is held, or being written, on one machine stays there
OWN = (".turn.lock", ".net.onnx.old.part", ".net.triton.old.part/model")


class Machine:
    """A folder that stands for another machine's, on which a command works that ends when told."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "work"
        for path in (self.folder, self.folder / "runs"):
            path.mkdir(parents=True)
        waits = [sys.executable, "-ISc", "input()"]
        self.command = subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        (root / "output").write_bytes(b"printed")
        self.written = Written(self.folder, self.folder / "log.txt")

    def write(self, text: str, *names: str) -> None:
        for name in names:
            (self.folder / name).write_text(f"{self.root} {text}")

    def look(self) -> SiteNews:
        return self.written.look(self.command, self.root / "output")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 64)
    made = Machine(tmp_path / "there")
    yield made
    made.command.kill()
    made.command.communicate()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    here = tmp_path / "here"
    return Work(label="cell", folder=here, log=here / "log.txt", words=lambda root: [])


def test_what_is_of_one_machine_is_not_sent_to_another(machine: Machine, work: Work) -> None:
    own = dataclasses.replace(work, folder=machine.folder)
    (machine.folder / OWN[-1]).parent.mkdir()
    machine.write("1", *OWN, STATE)
    assert own.kept() == [machine.folder / STATE]


def texts(work: Work) -> dict[str, str]:
    return {
        path.relative_to(work.folder).as_posix(): path.read_text("utf-8")
        for path in work.folder.rglob("*")
        if path.is_file() and not path.name.startswith(".turn")
    }


def test_between_whole_looks_only_what_grows_comes_and_a_whole_look_comes_at_once(
    machine: Machine, work: Work
) -> None:
    with Return(work, str(machine.root)) as back:
        assert not machine.look().more  # nothing is there yet, and the next whole look is due in a while
        (machine.folder / OWN[-1]).parent.mkdir()
        machine.write("1", *FILES, *OWN, STATE)  # which the first state brings forward
        looks = [machine.look()]
        while looks[-1].more:
            back.take(looks[-1])
            assert not [path for path in work.kept() if path.suffix != ".part"]
            looks.append(machine.look())
        with take_turn(work.folder):  # as whoever publishes a network here
            last = threading.Thread(target=back.take, args=looks[-1:])
            last.start()
            last.join(0.05)
            assert not (work.folder / "net.safetensors").exists()
        last.join()
        assert len(looks) > 2
        assert looks[0].pieces[0].path == STATE  # read first, so that nothing that belongs to it is older
        assert texts(work) == {
            **dict.fromkeys(FILES, " 1"),
            **dict.fromkeys((STATE, "net.safetensors"), f"{machine.root} 1"),
        }
        machine.write("2", *FILES, STATE)
        (machine.folder / STATE).unlink()
        news = machine.look()
        while news.more:
            back.take(news)
            news = machine.look()
        back.take(news)
        grown = {"log.txt": " 2", "runs/epochs.csv": " 2"}
        assert texts(work) == {
            **dict.fromkeys(FILES, " 1"),
            **grown,
            **dict.fromkeys((STATE, "net.safetensors"), f"{machine.root} 1"),
        }


def test_a_machine_that_is_lost_within_a_look_leaves_the_older_files(machine: Machine, work: Work) -> None:
    with Return(work, str(machine.root)) as back:
        machine.write("1", *FILES, STATE)
        while (news := machine.look()).more:
            back.take(news)
        back.take(news)
        before = texts(work)
        machine.write("2", *FILES, STATE)
        machine.command.communicate(b"\n")
        news = machine.look()
        assert news.more
        back.take(news)
        assert news.status is None
    assert texts(work) == before


def test_the_end_of_a_command_is_told_with_its_last_piece(machine: Machine, work: Work) -> None:
    with Return(work, str(machine.root)) as back:
        machine.write("1", *FILES, STATE)
        while (news := machine.look()).more:
            back.take(news)
        back.take(news)
        (machine.folder / STATE).unlink()
        machine.write("2", *FILES)
        machine.command.communicate(b"\n")
        while (news := machine.look()).more:
            back.take(news)
        back.take(news)
        assert (news.status, news.output) == (0, b"printed")
        assert texts(work).keys() == set(FILES)
        assert texts(work)["net.safetensors"] == f"{machine.root} 2"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked for the address of an interface")
def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.1") is None
