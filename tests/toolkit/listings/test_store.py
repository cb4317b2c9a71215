"""The picture store: eval's exact pixels, decoded once, found by content, whole after a kill."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.refusing import full_disk
from toolkit import caching
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, CorruptError
from toolkit.images import read_image
from toolkit.listings import Reading, store
from toolkit.listings.parts import Member, members
from toolkit.listings.rows import DecodedRows, StoredRows
from toolkit.listings.store import Store, gather
from toolkit.preprocessing import Preprocessing, fit_pixels

TARGET = Preprocessing(size=(8, 10), channels=3)
OFF = Reading(store=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNKIT_CACHE_GB", raising=False)
    return tmp_path / "cache" / "cnnkit"


@pytest.fixture
def big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every data set be too large for memory, and a block hold four pictures."""
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(store, "_BLOCK_BYTES", 4 * 3 * 8 * 10)


def draw(folder: Path, count: int = 20, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    for index in range(count):
        path = folder / f"class {index % 2}" / f"{seed}-{index:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (int(random.integers(20, 60)), int(random.integers(20, 60)), 3)
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(path)
    return f"folder:{folder}"


def listed(word: str) -> tuple[Member, ...]:
    return members(dataset_of(word).listed(word))


def plainly(wanted: tuple[Member, ...]) -> NDArray[np.uint8]:
    return np.stack([fit_pixels(read_image(one.entry.place.path), TARGET) for one in wanted])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that fills with the names of pictures that are decoded."""
    names: list[str] = []
    decode_one = store.decode_one

    def counting(member: Member, *more: Any) -> Any:
        names.append(member.entry.name)
        return decode_one(member, *more)

    monkeypatch.setattr(store, "decode_one", counting)
    return names


@pytest.mark.usefixtures("big")
def test_stored_pictures_are_evals_pixels_in_any_order(tmp_path: Path) -> None:
    word = draw(tmp_path / "data")
    wanted = listed(word)
    for reading, kind in ((Reading(), StoredRows), (OFF, DecodedRows)):
        found = gather(word, wanted, TARGET, reading)
        assert isinstance(found.pixels, kind)
        whole = plainly(wanted)
        assert found.pixels.shape == whole.shape
        image = read_image(wanted[3].entry.place.path)
        assert found.shapes[3].tolist() == [3, image.height, image.width]
        order = np.array([7, 8, 9, 3, 3, 19, 0])
        assert (found.pixels[order] == whole[order]).all()
        assert (found.pixels[2:5] == whole[2:5]).all()
        assert (found.pixels[-1] == whole[-1]).all()
        part = found.pixels.take(order).take(slice(1, 4))
        assert (np.asarray(part) == whole[order[1:4]]).all()
        assert part.identities() == [wanted[at].sha256 for at in (8, 9, 3)]
        again = pickle.loads(pickle.dumps(part))
        assert (again[:] == whole[order[1:4]]).all()


def test_without_a_store_pictures_are_tried_once_and_damaged_ones_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = draw(tmp_path / "data")
    one, *others = sorted((tmp_path / "data").rglob("*.jpg"))
    one.write_bytes(one.read_bytes()[:60])
    names = counted(monkeypatch)
    first = store.gather(word, listed(word), TARGET, OFF)
    assert len(names) == len(others) + 1
    names.clear()
    again = store.gather(word, listed(word), TARGET, OFF)
    assert [Path(name).name for name in names] == [one.name]
    assert (again.members, again.damaged) == (first.members, first.damaged)
    assert np.array_equal(again.shapes, first.shapes)
    limited = store.gather(word, listed(word), TARGET, Reading(store=False, max_pixels=1))
    assert len(limited.damaged) == len(others) + 1


@pytest.mark.usefixtures("big")
def test_a_picture_that_is_added_is_the_only_one_that_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = draw(tmp_path / "data")
    gather(word, listed(word), TARGET, Reading())
    decoded = counted(monkeypatch)
    told: list[int] = []
    gather(word, listed(word), TARGET, Reading(), told.append)
    assert not decoded
    assert sum(told) == 20
    draw(tmp_path / "data", 2, seed=1)
    found = gather(word, listed(word), TARGET, Reading())
    assert sorted(decoded) == ["class 0/1-000.jpg", "class 1/1-001.jpg"]
    assert (found.pixels[:] == plainly(listed(word))).all()


@pytest.mark.usefixtures("big")
def test_pictures_that_lay_elsewhere_are_found_by_their_content(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = draw(tmp_path / "data")
    gather(word, listed(word), TARGET, Reading())
    decoded = counted(monkeypatch)
    moved = f"folder:{(tmp_path / 'data').rename(tmp_path / 'moved')}"
    found = gather(moved, listed(moved)[:5], TARGET, Reading(), whole=listed(moved))
    assert not decoded
    assert (found.pixels[:] == plainly(listed(moved)[:5])).all()
    other = draw(tmp_path / "other", seed=1)
    gather(other, listed(other), TARGET, Reading())
    assert len(decoded) == 20
    assert len(list((cache / "stores").iterdir())) == 2


def test_a_limit_of_pixels_holds_for_what_another_limit_let_into_a_store(tmp_path: Path) -> None:
    word = draw(tmp_path / "data")
    assert not gather(word, listed(word), TARGET, Reading()).damaged
    found = gather(word, listed(word), TARGET, Reading(max_pixels=1)).damaged
    assert len(found) == 20
    assert "over the limit of 1" in found[0].why


def test_few_pictures_lie_in_memory_and_are_stored_for_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = draw(tmp_path / "data")
    assert isinstance(gather(word, listed(word), TARGET, Reading()).pixels, np.ndarray)
    decoded = counted(monkeypatch)
    found = gather(word, listed(word), TARGET, Reading())
    assert not decoded
    assert (found.pixels[:] == plainly(listed(word))).all()


@pytest.mark.usefixtures("big")
def test_damaged_and_changed_pictures_are_all_named_and_the_others_there(tmp_path: Path) -> None:
    word = draw(tmp_path / "data")
    for name in ("class 0/0-000.jpg", "class 1/0-019.jpg"):
        path = tmp_path / "data" / name
        path.write_bytes(path.read_bytes()[:100])
    wanted = listed(word)
    (tmp_path / "data" / "class 0" / "0-004.jpg").write_bytes(b"another")
    for reading in (Reading(), OFF):
        found = gather(word, wanted, TARGET, reading)
        assert sorted(one.name for one in found.damaged) == [
            *("class 0/0-000.jpg", "class 0/0-004.jpg", "class 1/0-019.jpg")
        ]
        assert len(found.members) == len(found.pixels) == 17
        assert (found.pixels[:] == plainly(found.members)).all()
    folder = Store.of(word, TARGET).folder
    for _ in range(2):  # what is damaged takes no room, however often it is tried
        assert len(gather(word, wanted, TARGET, Reading()).damaged) == 3
        assert (folder / "pixels.rows").stat().st_size == 17 * 3 * 8 * 10
    decoded = gather(word, found.members, TARGET, OFF).pixels
    found.members[5].entry.place.path.write_bytes(b"another again")
    with pytest.raises(CorruptError, match=r"changed while it was read"):
        decoded[5]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from tests.toolkit.listings.test_store import TARGET, listed, store
from toolkit.listings import Reading
store.IN_MEMORY_BYTES, store._BLOCK_BYTES = 0, 4 * 3 * 8 * 10
left = [int(sys.argv[2])]
def decoded(count):
    left[0] -= count
    if left[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
store.gather(sys.argv[1], listed(sys.argv[1]), TARGET, Reading(), decoded)
"""


@pytest.mark.usefixtures("big")
def test_a_store_whose_filling_was_killed_keeps_the_blocks_that_were_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = draw(tmp_path / "data")
    code = KILLED.format(tests=str(Path(__file__).parents[3]))
    ended = subprocess.run([sys.executable, "-c", code, word, "11"], env=dict(os.environ), check=False)
    assert ended.returncode == -signal.SIGKILL
    decoded = counted(monkeypatch)
    found = gather(word, listed(word), TARGET, Reading())
    assert len(decoded) == 12  # two blocks of four were done
    assert (found.pixels[:] == plainly(listed(word))).all()


@pytest.mark.usefixtures("big")
def test_hashes_written_half_and_pixels_cut_off_are_decoded_again(tmp_path: Path) -> None:
    word = draw(tmp_path / "data")
    wanted = listed(word)
    rows = gather(word, wanted, TARGET, Reading()).pixels
    assert isinstance(rows, StoredRows)
    folder = Store.of(word, TARGET).folder
    os.truncate(folder / "rows.index", 44 * 9 + 5)
    assert (gather(word, wanted, TARGET, Reading()).pixels[:] == plainly(wanted)).all()
    os.truncate(folder / "pixels.rows", 3 * 8 * 10 * 6 + 1)
    with pytest.raises(
        CorruptError, match=r"too short; `cnnkit clean --free stores` makes way for a new one"
    ):
        rows[10]
    assert (gather(word, wanted, TARGET, Reading()).pixels[:] == plainly(wanted)).all()


def test_without_a_place_for_a_store_few_pictures_are_read_all_the_same_and_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = draw(tmp_path / "data", 4)
    wanted = listed(word)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert (gather(word, wanted, TARGET, Reading()).pixels[:] == plainly(wanted)).all()
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    with pytest.raises(CnnkitError, match="--store off decodes them each time"):
        gather(word, wanted, TARGET, Reading())


@pytest.mark.usefixtures("big")
def test_the_caches_limit_drops_what_was_used_longest_ago_but_no_downloads(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [draw(tmp_path / name, 4, seed) for seed, name in enumerate(("first", "second", "third"))]
    download = cache / "data" / "mnist.gz"
    download.parent.mkdir(parents=True)
    download.write_bytes(bytes(20_000))
    os.utime(download, (0, 0))
    folders = [Store.of(word, TARGET).folder for word in words]
    for age, word, folder in zip((30, 20), words, folders, strict=False):
        gather(word, listed(word), TARGET, Reading())
        os.utime(folder, (1e9 - age, 1e9 - age))
    there = sum(one.size_bytes for one in caching.kept_things())
    monkeypatch.setenv("CNNKIT_CACHE_GB", str(there / 1e9))
    gather(words[2], listed(words[2]), TARGET, Reading())
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert download.exists()
    monkeypatch.setenv("CNNKIT_CACHE_GB", "0.0000001")
    gather(words[2], listed(words[2]), TARGET, Reading())  # nothing is to be added
    with pytest.raises(CnnkitError, match=r"4 pictures need 960 B, and \$CNNKIT_CACHE_GB allows 100 B"):
        gather(words[0], listed(words[0]), TARGET, Reading())
    monkeypatch.setenv("CNNKIT_CACHE_GB", "many")
    with pytest.raises(CnnkitError, match=r"\$CNNKIT_CACHE_GB is 'many'; it takes a number of gigabytes"):
        caching.limit_bytes()


def test_a_store_that_cannot_be_begun_is_done_without(tmp_path: Path) -> None:
    word = draw(tmp_path / "photos", 4)
    wanted = listed(word)
    with full_disk(10):
        found = gather(word, wanted, TARGET, Reading())
    assert (found.pixels == plainly(wanted)).all()


@pytest.mark.usefixtures("big")
def test_a_store_that_cannot_be_begun_names_another_cache_and_the_way_without(tmp_path: Path) -> None:
    word = draw(tmp_path / "photos", 4)
    wanted = listed(word)
    said = r"cannot be stored in .*\(File too large\).*XDG_CACHE_HOME names another cache, and --store off"
    with full_disk(10), pytest.raises(CnnkitError, match=said):
        gather(word, wanted, TARGET, Reading())
