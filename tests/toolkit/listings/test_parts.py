"""Which part a picture belongs to depends on it alone; lists of what was trained on say what changed."""

from __future__ import annotations

import os
import sqlite3
import string
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import CorruptError
from toolkit.listings import Entry, Listing
from toolkit.listings import kept as kept_files
from toolkit.listings.hashing import content_hash, hash_entries
from toolkit.listings.looking import is_leftover, is_picture_name, starts_like_a_picture
from toolkit.listings.parts import Member, fingerprint, members, part_of_word, settled
from toolkit.listings.places import FileBytes
from toolkit.listings.records import Record, find_record, read_record, record_of

CLASSES = ("a", "b")


@dataclass(frozen=True)
class Bytes:
    """A place in memory."""

    data: bytes
    path: Path = Path("nowhere")

    @property
    def within(self) -> str:
        return self.data.hex()

    def read(self) -> bytes:
        return self.data


def listing(pictures: dict[str, bytes], group: str | None = None) -> Listing:
    entries = [
        Entry(name=name, place=Bytes(data), label=data[0] % 2, group=group) for name, data in pictures.items()
    ]
    return Listing(word="test:x", root=Path("x"), classes=CLASSES, entries=tuple(entries))


def parts(pictures: dict[str, bytes]) -> dict[str, tuple[str, float]]:
    return {one.entry.name: (one.part, one.validation_share) for one in members(listing(pictures))}


NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=4)
PICTURES = st.dictionaries(NAMES, st.binary(min_size=1, max_size=6), max_size=12)


@settings(max_examples=40, deadline=None)
@given(PICTURES, PICTURES)
def test_pictures_that_are_added_or_removed_move_no_other(
    some: dict[str, bytes], more: dict[str, bytes]
) -> None:
    alone = parts(some)
    together = parts({**more, **some})
    assert {name: together[name] for name in some} == alone


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=9), NAMES, NAMES)
def test_a_name_decides_nothing(data: bytes, one: str, other: str) -> None:
    assert parts({one: data})[one] == parts({other: data})[other]
    held = members(listing({one: data})), members(listing({other: data}))
    assert fingerprint(CLASSES, held[0]) == fingerprint(CLASSES, held[1])


def test_about_a_fifth_is_for_the_test_and_a_group_stays_together() -> None:
    pictures = {str(n): n.to_bytes(4) for n in range(2000)}
    tested = sum(one.part == "test" for one in members(listing(pictures)))
    assert 340 < tested < 460
    assert len({one.part for one in members(listing(pictures, group="clip 1"))}) == 1


def test_usual_spellings_of_parts_are_understood_and_others_are_not() -> None:
    for word in ("train", "Training", "TRAIN_SET", "train2017", "train-images", "trainset"):
        assert part_of_word(word) == "train", word
    for word in ("val", "Valid", "validation", "dev", "val_set", "VAL2017"):
        assert part_of_word(word) == "validation", word
    for word in ("test", "Testing", "test-set", "Tests", "test_data"):
        assert part_of_word(word) == "test", word
    for word in ("cat", "trains", "training day", "tester", "value", "set", "", "2017"):
        assert part_of_word(word) is None, word


def test_a_lone_validation_part_is_the_test_and_a_lone_training_part_none() -> None:
    def named(*names: str | None) -> list[str | None]:
        made = [Entry(name="x", place=Bytes(b"x"), label=0, part=name) for name in names]  # type: ignore[arg-type]
        return [entry.part for entry in settled(made)]

    assert named("train", "validation") == ["train", "test"]
    assert named("train", "validation", "test") == ["train", "validation", "test"]
    assert named("train", "train") == [None, None]
    assert named("train", None) == [None, None]


def test_a_list_of_pictures_is_read_as_it_was_written_and_found_by_its_hash(tmp_path: Path) -> None:
    held = members(listing({"one\ttab": b"1", "two": b"2", "ü": b"3"}))
    record = record_of(((one, "train") for one in held), CLASSES)
    record.write(tmp_path / "runs" / "1" / "pictures.trained-on.txt")
    record_of((), CLASSES).write(tmp_path / "net.trained-on.txt")
    assert find_record(tmp_path / "net.safetensors", record.sha256) == record
    assert find_record(tmp_path / "net.safetensors", "0" * 64) is None
    assert record.learned == {one.sha256 for one in held}
    (tmp_path / "bad.txt").write_text("# head\ntrain\tonly three\tfields\n")
    with pytest.raises(CorruptError, match=r"bad\.txt, line 2: .* is no part, hash, class and name"):
        read_record(tmp_path / "bad.txt")


def changes(before: dict[str, bytes], after: dict[str, bytes]) -> str | None:
    record: Record = record_of(((one, "train") for one in members(listing(before))), CLASSES)
    held: tuple[Member, ...] = members(listing(after))
    return record.changes(held, CLASSES).words()


def test_changes_are_told_apart() -> None:
    start = {"x": b"\2x", "y": b"\3y"}
    assert changes(start, start) is None
    assert changes(start, {"renamed": b"\2x", "y": b"\3y"}) is None
    assert changes(start, {**start, "copy": b"\2x", "new": b"\4"}) == "2 added"
    assert changes(start, {"x": b"\2x"}) == "1 removed"
    assert changes(start, {"x": b"\2z", "y": b"\3y"}) == "1 altered"
    assert changes(start, {"x": b"\2z", "w": b"\5"}) == "1 added, 1 removed, 1 altered"


def test_a_hash_is_kept_until_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "picture.png"
    path.write_bytes(b"first")
    monkeypatch.setattr(kept_files, "_SETTLED_NS", 0)
    entry = Entry(name="picture.png", place=FileBytes(path), label=0)
    database = tmp_path / "cache" / "cnnkit" / "hashes.sqlite"
    database.parent.mkdir(parents=True)
    with sqlite3.connect(database) as kept:
        kept.execute("CREATE TABLE hashes (path BLOB)")  # of an older release
        kept.commit()
        assert hash_entries([entry]) == (content_hash(b"first"),)
        assert kept.execute("SELECT count(*) FROM contents").fetchone() == (1,)
        assert kept.execute("SELECT name FROM sqlite_master").fetchall() == [("contents",)]
    kept.close()
    time.sleep(0.02)  # of a file system's clock some ticks
    written = path.stat().st_mtime
    path.write_bytes(b"other")  # of the same size, and made to look as old
    os.utime(path, (written, written))
    assert hash_entries([entry]) == (content_hash(b"other"),)
    path.unlink()
    assert hash_entries([entry])[0] not in (content_hash(b"first"), content_hash(b"other"))
    (tmp_path / "cache" / "cnnkit" / "hashes.sqlite").write_bytes(b"no database" * 100)
    path.write_bytes(b"third")
    assert hash_entries([entry]) == (content_hash(b"third"),)


def test_a_part_of_a_file_is_read_and_nothing_beyond_its_end(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(b"0123456789")
    assert FileBytes(path, 3, 4).read() == b"3456"
    assert FileBytes(path).read() == b"0123456789"
    with pytest.raises(EOFError, match="ends within the picture"):
        FileBytes(path, 8, 4).read()


def test_what_a_file_is_shows_in_its_ending_or_its_first_bytes() -> None:
    assert is_picture_name("a/B.JFIF")
    assert is_picture_name("b.txt") is False
    assert is_picture_name("b") is None
    assert starts_like_a_picture(b"\xff\xd8\xff\xe0" + bytes(12))
    assert starts_like_a_picture(b"RIFF\0\0\0\0WEBPVP8 ")
    assert not starts_like_a_picture(b"<html>404</html>")
    assert [is_leftover(name) for name in ("._a.png", "Thumbs.db", "__MACOSX", "a.png")] == [True] * 3 + [
        False
    ]
