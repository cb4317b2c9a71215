"""Shards of any make are read with the right labels and parts, and what is left out is told."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import Listing


def put(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def shard(folder: Path, *members: str) -> str:
    """Write members (`name`, or `name=text`) into a shard, and return its word."""
    with tarfile.open(folder / "one.tar", "w") as file:
        for at, member in enumerate(members):
            name, _, text = member.partition("=")
            put(file, name, text.encode() or b"%d" % at)
    return f"tar:{folder / 'one.tar'}"


def listed(word: str) -> Listing:
    return dataset_of(word).listed(word)


def test_shards_are_laid_out_as_folders_are_where_no_labels_lie_beside_their_pictures(tmp_path: Path) -> None:
    both = [f"{part}/{label}/1.png" for part in ("train", "test") for label in "ab"]
    found = listed(shard(tmp_path, *both, "logo.png"))
    assert [(one.name, one.part) for one in found.entries] == [
        (f"{part}/{label}/1.png", part) for label in "ab" for part in ("test", "train")
    ]
    assert [(one.name, one.why) for one in found.left_out] == [("logo.png", "beside the class folders")]
    found = listed(shard(tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png"))
    assert found.classes == ("a", "b")
    assert [(one.name, one.why) for one in found.left_out] == [
        ("test/1.png", "in a split without class folders")
    ]
    with pytest.raises(CnnkitError, match=r"test/ and train/ look like splits .*, and sample/ like none"):
        listed(shard(tmp_path, *both, "sample/1.png"))
    with pytest.raises(NotFoundError, match="no picture with a label beside it or in a"):
        listed(shard(tmp_path, "1.png", "2.png"))


def test_beside_labels_no_folder_is_a_class(tmp_path: Path) -> None:
    two = ("train/1.jpg", "train/1.cls=a", "train/2.jpg", "train/2.cls=b")
    for third in ("train/3.cls= ", 'train/3.json={"label": null}', "train/3.bin"):
        found = listed(shard(tmp_path, *two, "train/3.jpg", third))
        assert found.classes == ("a", "b")
        assert ("train/3.jpg", "no label") in [(one.name, one.why) for one in found.left_out]
    found = listed(shard(tmp_path, *two, "test/3.jpg", "test/3.cls=a", "more/4.jpg", "more/4.cls=a"))
    assert {one.name: one.part for one in found.entries} == {
        "train/1.jpg": "train",
        "train/2.jpg": "train",
        "test/3.jpg": "test",
    }
    assert [(one.name, one.why) for one in found.left_out] == [
        ("more/4.jpg", "beside the folders that name parts")
    ]
    captioned = []
    for at in range(12):
        captioned += [f"{at}.jpg", f"{at}.txt=a photo of {at}", f'{at}.json={{"label": {at % 2}}}']
    assert listed(shard(tmp_path, *captioned)).classes == ("0", "1")
    with pytest.raises(CorruptError, match="12 pictures have 12 labels, as 'a photo of 0'"):
        listed(shard(tmp_path, *(one for one in captioned if "json" not in one)))


def test_classes_of_one_name_are_told_apart_and_an_accent_is_one_letter(tmp_path: Path) -> None:
    names = ["crane", "cafe\u0301", "crane"]
    classes = ("crane (0)", "caf\xe9", "crane (2)")
    (tmp_path / "classes.txt").write_text("\n".join(names), encoding="utf-8-sig")
    members = [f"{at}.{ending}" for at in range(3) for ending in ("png", f"cls={at}")]
    found = listed(shard(tmp_path, *members))
    assert (found.classes, [one.label for one in found.entries]) == (classes, [0, 1, 2])
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\nb\nc\n")
    with pytest.raises(CorruptError, match=r"classes\.txt is no text in UTF-8"):
        listed(f"tar:{tmp_path / 'one.tar'}")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n\n \n")
    assert listed(f"tar:{tmp_path / 'one.tar'}").classes == ("a", "b", "c")
    (tmp_path / "classes.txt").write_text("a\n\nb\nc")  # is 2 b or c?
    with pytest.raises(CorruptError, match=r"classes\.txt: line 2 is blank, .* or take the line out"):
        listed(f"tar:{tmp_path / 'one.tar'}")
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
    import pyarrow.parquet as pq

    told = json.dumps({"info": {"features": {"label": {"names": names}}}})
    table = pa.table({"image": [b"0", b"1", b"2"], "label": [0, 1, 2]})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), tmp_path / "t.parquet")
    found = listed(f"parquet:{tmp_path / 't.parquet'}")
    assert (found.classes, [one.label for one in found.entries]) == (classes, [0, 1, 2])


def test_links_in_shards_are_followed_and_names_may_be_of_any_bytes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "one.tar", "w", encoding="utf-8", errors="surrogateescape") as file:
        put(file, "a/\udce9.png", b"one")
        put(file, "b/2.png", b"two")
        for name, kind, target in (
            ("a/hard.png", tarfile.LNKTYPE, "./a/\udce9.png"),
            ("b/soft.png", tarfile.SYMTYPE, "../a/hard.png"),
            ("b/gone.png", tarfile.SYMTYPE, "../../elsewhere.png"),
            ("b/round.png", tarfile.SYMTYPE, "round.png"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            file.addfile(link)
        sparse = tarfile.TarInfo("b/sparse.png")
        sparse.type, sparse.pax_headers = tarfile.REGTYPE, {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}
        file.addfile(sparse)
    found = listed(f"tar:{tmp_path / 'one.tar'}")
    assert {one.name: one.place.read() for one in found.entries} == {
        "a/\xe9.png": b"one",
        "a/hard.png": b"one",
        "b/2.png": b"two",
        "b/soft.png": b"one",
    }
    assert [(one.name, one.why) for one in found.left_out] == [
        ("one.tar/b/gone.png", "a link to no file of the shard"),
        ("one.tar/b/round.png", "a link to no file of the shard"),
        ("one.tar/b/sparse.png", "a sparse file"),
    ]


def test_of_folders_of_shards_what_archives_leave_behind_is_left_out(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        shard(tmp_path / part, "1.png", "1.cls=a", "2.png", "2.cls=b", "._1.png", "__MACOSX/3.png")
        (tmp_path / part / "._one.tar").write_bytes(b"\0\5\26\7")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "one.tar").write_bytes(b"none")
    (tmp_path / "test" / "more.tar").mkdir()
    (tmp_path / "train" / "one.tar").rename(tmp_path / "train" / os.fsdecode(b"caf\xe9.tar"))
    found = listed(f"tar:{tmp_path}")
    assert [(one.name, one.part) for one in found.entries] == [
        (f"{place}/{number}.png", place.split("/")[0])
        for number in (1, 2)
        for place in ("test/one.tar", "train/caf\xe9.tar")
    ]
    assert [(one.name, one.why) for one in found.left_out] == [
        (f"{place}/{name}", "a leftover of an archive or a system")
        for place in ("test/one.tar", "train/caf\xe9.tar")
        for name in ("._1.png", "__MACOSX/3.png")
    ]
    assert listed(f"tar:{tmp_path}/*/*.tar").entries == found.entries
    assert listed(f"tar:{tmp_path}/**/*.tar").entries == found.entries
    with pytest.raises(CnnkitError, match=r"\*\*\.tar is no pattern: .* as in .*/\*\*/\*\.tar"):
        listed(f"tar:{tmp_path}/**.tar")
