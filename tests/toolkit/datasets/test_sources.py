"""One data set as a folder, a table, Parquet and shards: equal pictures, equal parts, equal weights."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tarfile
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.checkpoints import load_state
from toolkit.datasets import Dataset, absolute_word, dataset_of
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import Listing, Place, Reading, kept
from toolkit.listings.hashing import content_hash
from toolkit.listings.parts import members
from toolkit.training.jobs import train

CLASSES = ("bag", "hat", "shirt")
COUNT = 30


def load(word: str, **reading: Any) -> Dataset:
    return dataset_of(word).load(word, size=(1, 12, 12), reading=Reading(**reading))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same files in four forms."""
    root = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for label in CLASSES:
        for number in range(COUNT):
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (14, 12), np.uint8)).save(buffer, "PNG")
            files[f"{label}/{number:03}.png"] = buffer.getvalue()
    for name, data in files.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "Class"])
        writer.writerows([f"folder/{name}", name.split("/")[0]] for name in reversed(files))
    shards(root, files)
    parquet(root, files)
    return root


def shards(root: Path, files: dict[str, bytes]) -> None:
    for shard in range(2):
        with tarfile.open(root / f"shard-{shard:02}.tar", "w") as file:
            for index, (name, data) in enumerate(files.items()):
                if index % 2 == shard:
                    put(file, f"{index:05}.png", data)
                    put(file, f"{index:05}.cls", str(CLASSES.index(name.split("/")[0])).encode())
    (root / "classes.txt").write_text("\n".join(CLASSES))


def put(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def parquet(root: Path, files: dict[str, bytes]) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
    import pyarrow.parquet as pq

    told = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    table = pa.table(
        {
            "image": [{"bytes": data, "path": name} for name, data in files.items()],
            "label": [CLASSES.index(name.split("/")[0]) for name in files],
        }
    ).replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(table, root / "table.parquet", row_group_size=7)


FORMS = ("folder:{}/folder", "csv:{}/table.csv", "parquet:{}/table.parquet", "tar:{}/shard-{{00..01}}.tar")


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.split(":")[0])
def form(request: pytest.FixtureRequest, root: Path) -> str:
    return str(request.param).format(root)


def test_each_form_gives_equal_pictures_in_equal_parts(root: Path, form: str) -> None:
    one, other = load(FORMS[0].format(root)), load(form)
    assert other.classes == CLASSES
    assert other.fingerprint == one.fingerprint
    assert other.name == form
    for part in ("train", "test"):
        mine, theirs = getattr(one, part), getattr(other, part)
        np.testing.assert_array_equal(mine.images, theirs.images)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
        assert [m.sha256 for m in mine.members] == [m.sha256 for m in theirs.members]


@pytest.fixture(scope="module")
def weights(root: Path) -> dict[str, bytes]:
    return weights_of(FORMS[0].format(root), root / "artifacts" / "one")


def weights_of(word: str, place: Path) -> dict[str, bytes]:
    fixed: dict[str, Any] = {"epochs": 1, "threads": 1, "arithmetic": "fp32", "layout": "contiguous"}
    done = train("lenet-maxpool", dataset=word, root=place, **fixed)
    return {name: value.numpy().tobytes() for name, value in load_state(done.checkpoint).items()}


def test_each_form_trains_to_equal_weights(form: str, weights: dict[str, bytes], tmp_path: Path) -> None:
    assert weights_of(form, tmp_path) == weights


def test_worker_processes_can_read_the_places(form: str) -> None:
    import pickle

    found = dataset_of(form).listed(form)
    entry = pickle.loads(pickle.dumps(found.entries[3]))
    assert entry.place.read() == found.entries[3].place.read()
    assert entry.place.read()[:4] == b"\x89PNG"


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines))
    return f"csv:{path}"


def test_a_table_may_name_parts_groups_and_columns_of_any_name(root: Path) -> None:
    rows = [
        f"folder/{label}/{n:03}.png;{label};{('training', 'VALID', 'test')[n % 3]};p{n // 4}"
        for label in CLASSES
        for n in range(12)
    ]
    word = write(root / "own.csv", "was;ist;teil;wer", *rows)
    data = load(word, columns="image=was,label=ist,part=teil,group=wer")
    assert data.validation is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 12, 12]
    assert data.listing is not None
    assert {entry.group for entry in data.listing.entries} == {"p0", "p1", "p2"}
    with pytest.raises(
        CnnkitError, match="has the columns was, ist, teil, wer, and which holds image and label"
    ):
        load(word)
    with pytest.raises(CnnkitError, match="has no column 'wo'; it has was, ist, teil, wer"):
        load(word, columns="image=wo,label=ist")
    with pytest.raises(CnnkitError, match=r"--columns 'was': wanted is image=NAME,label=NAME"):
        load(word, columns="was")


def test_a_table_says_what_is_wrong_with_it(root: Path) -> None:
    good = [f"folder/{label}/000.png,{label}" for label in CLASSES]
    lame = write(root / "lame.csv", "file,label", *good, "folder/bag/001", "gone.png,bag")
    with pytest.raises(CorruptError, match=r"lame\.csv, row 5: 1 values for 2 columns"):
        load(lame)
    left = write(root / "left.csv", "file,label", *good, "folder/bag/001,bag", "gone.png,bag", good[0])
    found = dataset_of(left).listed(left)
    assert len(found.entries) == 4  # one by its name without an ending
    assert [(one.name, one.why) for one in found.left_out] == [
        ("gone.png", "no such file"),
        ("folder/bag/000.png", "listed twice"),
    ]
    two = write(root / "two.csv", "file,label", *good, "folder/bag/000.png,hat")
    with pytest.raises(CorruptError, match=r"folder/bag/000\.png is 'bag' and 'hat'; leave one"):
        load(two)
    part = write(root / "part.csv", "file,label,split", *(f"{line},morgen" for line in good))
    with pytest.raises(CorruptError, match="in the part 'morgen'; known: train, val, test"):
        load(part)
    none = write(root / "none.csv", "file,label", "gone.png,bag")
    with pytest.raises(NotFoundError, match=r"names no picture that is there, as gone\.png: no such file"):
        load(none)


@pytest.mark.parametrize(
    ("column", "yes", "no"),
    [("is_train", "train", "test"), ("Is Valid", "test", "train"), ("is_test", "test", "train")],
)
def test_columns_of_yes_and_no_tell_parts(column: str, yes: str, no: str, root: Path) -> None:
    files = [f"folder/{label}/{number:03}.png" for label in CLASSES for number in range(4)]
    answers = ("True", "no", "1", "0")
    rows = [f"{file},{file[7:10]},{answers[at % 4]}" for at, file in enumerate(files)]
    word = write(root / "flag.csv", f"file,y,{column}", *rows)
    parts = {entry.name: entry.part for entry in listed(word).entries}
    assert [parts[file] for file in files] == [yes, no] * 6
    unread = dataset_of(word).listed(word, Reading(columns="part="))
    assert {entry.part for entry in unread.entries} == {None}
    both = write(root / "both.csv", "file,y,is_valid,is_test", f"{files[0]},bag,0,0", f"{files[4]},hat,1,0")
    with pytest.raises(CnnkitError, match=r"is_valid and is_test; --columns part=is_valid takes one of them"):
        listed(both)


def listed(word: str) -> Listing:
    return dataset_of(word).listed(word)


def test_a_table_is_read_as_other_programs_write_it(root: Path) -> None:
    rows = [f"folder/{label}/{n:03}.png" for label in CLASSES for n in range(4)]
    names = [
        entry.name
        for entry in listed(write(root / "plain.csv", "file,y", *(f"{r},{r[7:10]}" for r in rows))).entries
    ]
    forms = {
        "utf-16": "\n".join(["file\ty", *(f"{r}\t{r[7:10]}" for r in rows)]),
        "utf-8-sig": "\r\n".join(["file;y", *(f"{r};{r[7:10]}" for r in rows)]),
        "utf-8": "\n".join(["file|y", *(f".\\{r}|{r[7:10]}".replace("/", "\\") for r in rows)]),
    }
    for encoding, text in forms.items():
        (root / "other.csv").write_text(text, encoding=encoding)
        assert [entry.name for entry in listed(f"csv:{root}/other.csv").entries] == names, encoding
    with pytest.raises(CorruptError, match=r"folder/bag/000\.png is 'bag' and 'hat'"):
        listed(write(root / "twice.csv", "file,y", f"{rows[0]},bag", f"./{rows[0]},hat"))
    with pytest.raises(CnnkitError, match="has several columns 'y'"):
        listed(write(root / "same.csv", "file,y,y", f"{rows[0]},bag,1"))
    with pytest.raises(CorruptError, match="12 pictures have 12 labels, as '0'; those are no classes"):
        listed(write(root / "captions.csv", "file,y", *(f"{r},{at}" for at, r in enumerate(rows))))
    numbers = listed(write(root / "numbers.csv", "file,y", *(f"{r},{at % 6}" for at, r in enumerate(rows))))
    assert numbers.classes == tuple(map(str, range(6)))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [((-1, 0, 1), ("0", "1")), ((-1, 1), ("-1", "1")), ((-2, -1, 10), ("-2", "-1", "10")), ((-1, 0), None)],
)
@pytest.mark.parametrize("form", ["csv", "parquet", "tar"])
def test_minus_one_beside_numbers_from_0_on_is_no_label(
    form: str, labels: tuple[int, ...], classes: tuple[str, ...] | None, root: Path, tmp_path: Path
) -> None:
    given = {f"{number:03}": label for number, label in enumerate(labels * 4)}
    if form == "csv":
        rows = [f"{root}/folder/bag/{name}.png,{label}" for name, label in given.items()]
        word = write(tmp_path / "t.csv", "file,label", *rows)
    elif form == "tar":
        with tarfile.open(tmp_path / "t.tar", "w") as file:
            for name, label in given.items():
                put(file, f"{name}.png", b"")
                put(file, f"{name}.cls", str(label).encode())
        word = f"tar:{tmp_path / 't.tar'}"
    else:
        pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")
        import pyarrow as pa

        table = pa.table({"image": [b""] * len(given), "label": list(given.values())})
        pq.write_table(table, tmp_path / "t.parquet")
        word = f"parquet:{tmp_path / 't.parquet'}"
    if classes is None:
        with pytest.raises(NotFoundError, match=r"1 class, .* no label \(-1 beside numbers from 0 on\)"):
            listed(word)
        return
    found = listed(word)
    assert found.classes == classes
    assert len(found.left_out) == (0 if "-1" in classes else 4)


def test_rows_of_parquet_are_pictures_of_their_own_and_may_lie_beside_it(root: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
    import pyarrow.parquet as pq

    files = [root / "folder" / label / f"{n:03}.png" for label in CLASSES for n in range(4)]
    labels = [path.parent.name for path in files]

    def put_table(name: str, pictures: Any, label: Any) -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(pa.table({"image": pictures, "label": label}), tmp_path / name)
        return f"parquet:{tmp_path / name}"

    one_name = [{"bytes": path.read_bytes(), "path": "image.png"} for path in files]
    found = listed(put_table("same.parquet", one_name, labels))
    assert len(found.entries) == 12
    assert not found.left_out
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    beside = [{"bytes": None, "path": str(path)} for path in files]
    for pictures in ([str(path) for path in files], beside, pa.array(beside, kind)):
        data = load(put_table("beside.parquet", pictures, labels))
        assert len(data.train) + len(data.test) == 12
        assert len({m.sha256 for part in (data.train, data.test) for m in part.members or ()}) == 12
    for part in ("train", "test"):
        put_table(f"both/{part}/0000.parquet", one_name, labels)
    assert {(e.part, e.name.split("/")[0]) for e in listed(f"parquet:{tmp_path}/both").entries} == {
        ("train", "train"),
        ("test", "test"),
    }
    for wrong, label, why in (
        ([[1, 2]] * 12, labels, "the column 'image' holds list"),
        (one_name, [[1]] * 12, r"labels such as \[1\]; wanted is one class"),
        (one_name, [b"a", b"caf\xe9", b"b"] * 4, r"row 1 of group 0 holds bytes in the column 'label' that"),
    ):
        with pytest.raises(CorruptError, match=why):
            listed(put_table("wrong.parquet", wrong, label))


def test_a_table_in_parquet_may_be_a_folder_of_that_ending(root: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")
    for part in ("train", "test"):
        place = tmp_path / f"{part}.parquet"
        place.mkdir()
        pq.write_table(pq.read_table(root / "table.parquet"), place / "part-00000.parquet")
        (place / "._part-00000.parquet").write_bytes(b"none")
    found = listed(f"parquet:{tmp_path}")
    assert len(found.entries) == 2 * COUNT * len(CLASSES)
    assert {(one.part, one.name.split("/")[0]) for one in found.entries} == {
        ("train", "train.parquet"),
        ("test", "test.parquet"),
    }


def test_each_column_of_pictures_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")
    import pyarrow as pa

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_SETTLED_NS", 0)
    sides = {"left": [b"0", b"1"], "right": [b"2", b"3"]}
    pq.write_table(pa.table({**sides, "label": ["a", "b"]}), tmp_path / "t.parquet")
    time.sleep(0.02)  # of a file system's clock some ticks
    word = f"parquet:{tmp_path / 't.parquet'}"
    for side, pictures in sides.items():
        held = members(dataset_of(word).listed(word, Reading(columns=f"image={side}")))
        assert [one.sha256 for one in held] == [content_hash(data) for data in pictures]


def test_threads_that_want_a_row_group_at_the_same_moment_get_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")
    import pyarrow as pa

    from toolkit.datasets import parquet

    pq.write_table(pa.table({"image": [b"0", b"1"], "label": ["a", "b"]}), tmp_path / "t.parquet")
    made: list[int] = []
    whole = parquet._RowGroup

    def slowly(**known: Any) -> Any:
        made.append(known["number"])
        time.sleep(0.05)  # in which another thread that may finds none either
        return whole(**known)

    monkeypatch.setattr(parquet, "_RowGroup", slowly)
    with ThreadPoolExecutor(2) as pool:
        cells = [parquet.TableCell(tmp_path / "t.parquet", 0, row, "image") for row in range(2)]
        assert list(pool.map(lambda cell: cell.read(), cells)) == [b"0", b"1"]
    assert made == [0]


def test_a_row_group_is_read_once_however_many_threads_want_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")
    import pyarrow as pa

    rows = [{"bytes": encoded(number), "path": f"{number}.png"} for number in range(240)]
    table = pa.table({"image": rows, "label": [number % 2 for number in range(240)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20)
    word = f"parquet:{tmp_path / 't.parquet'}"
    found = listed(word)
    held = members(found)  # by label and hash: row groups are all mixed up
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def counted(file: Any, number: int, **more: Any) -> Any:
        read.append(number)
        time.sleep(0.01)
        return whole(file, number, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: place.read(), sorted((e.place for e in found.entries), key=within)[:80]))
    assert len(set(read)) == len(read) <= 4
    for store in (True, False):
        read.clear()
        data = dataset_of(word).decoded(found, held, (1, 8, 8), Reading(store=store))
        assert len(data.train) + len(data.test) == 240
        assert len(read) < 48  # once for each of two parts, but for threads that are far apart
    read.clear()
    assert len(data.train.images[:]) == len(data.train)  # without a store, decoded when asked for
    assert len(read) < 24


def within(place: Place) -> str:
    return place.within


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), number).save(buffer, "PNG")
    return buffer.getvalue()


def test_shards_are_found_by_any_pattern_and_read_to_their_end(root: Path, tmp_path: Path) -> None:
    data = (root / "folder" / "bag" / "000.png").read_bytes()
    for name in ("net-train-0", "net-train-1", "net-val-0"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as file:
            for number in range(3):
                put(file, f"{number}.png", data)
                put(file, f"{number}.cls", str(9 + number).encode())
    every = listed(f"tar:{tmp_path}")
    assert every.classes == ("9", "10", "11")
    assert [entry.part for entry in every.entries[:3]] == ["train", "train", "test"]
    assert listed(f"tar:{tmp_path}/net-{{train-0,train-1,val-0}}.tar").entries == every.entries
    assert len(listed(f"tar:{tmp_path}/net-train-{{1..0}}.tar").entries) == 6
    with tarfile.open(tmp_path / "folders.tar", "w") as file:
        for part, label in itertools.product(("train", "test"), CLASSES):
            put(file, f"set/{part}/{label}/1.png", data)
    assert {(e.part, e.name.split("/")[1]) for e in listed(f"tar:{tmp_path}/folders.tar").entries} == {
        ("train", "train"),
        ("test", "test"),
    }
    whole = bytearray((tmp_path / "net-val-0.tar").read_bytes())
    at = whole.index(b"2.png")
    whole[at : at + 512] = b"x" * 512
    (tmp_path / "net-val-0.tar").write_bytes(whole)
    with pytest.raises(CorruptError, match="bytes from its start is no member"):
        listed(f"tar:{tmp_path}/net-val-0.tar")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("train-00000-of-00001 test-00000-of-00001 extra-00000-of-00001", "extra-00000-of-00001"),
        ("train-0 test-0 extra-0", "extra-0"),
        ("train/0 val/0 extra/0", "extra/0"),
        ("train-0 extra-0", None),
    ],
)
def test_a_file_that_names_no_part_beside_a_test_is_refused(
    names: str, told: str | None, root: Path, tmp_path: Path
) -> None:
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with tarfile.open(tmp_path / f"{name}.tar", "w") as file:
            for label in CLASSES:
                put(file, f"{label}/1.png", (root / "folder" / label / "000.png").read_bytes())
    if told is None:
        assert {entry.part for entry in listed(f"tar:{tmp_path}").entries} == {None}
        return
    with pytest.raises(CnnkitError, match=rf"{told}\.tar names no part, and .* does: name it"):
        listed(f"tar:{tmp_path}")
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")
    for name in names.split():
        pq.write_table(pq.read_table(root / "table.parquet"), tmp_path / f"{name}.parquet")
    with pytest.raises(CnnkitError, match=rf"{told}\.parquet names no part"):
        listed(f"parquet:{tmp_path}")


def test_shards_by_folder_or_by_name_have_classes_and_parts(root: Path, tmp_path: Path) -> None:
    data = (root / "folder" / "bag" / "000.png").read_bytes()
    for shard in ("train-0", "test-0"):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as file:
            for label in CLASSES:
                put(file, f"./{label}/1.png", data)
                put(file, f"./{label}/._1.png", b"x")
    found = dataset_of("tar:x").listed(f"tar:{tmp_path}/*.tar")
    assert found.classes == CLASSES
    assert [entry.part for entry in found.entries] == ["test", "train"] * 3
    with pytest.raises(NotFoundError, match=r"no file .*nothing-0\.tar; --dataset tar:PATTERN takes shards"):
        dataset_of("tar:x").listed(f"tar:{tmp_path}/nothing-{{0..1}}.tar")
    (tmp_path / "broken.tar").write_bytes(b"x" * 3000)
    with pytest.raises(CorruptError, match=r"broken\.tar is no tar file"):
        dataset_of("tar:x").listed(f"tar:{tmp_path}/broken.tar")


def test_a_bare_path_says_its_scheme(root: Path) -> None:
    for name, word in (("folder", "folder"), ("table.csv", "csv"), ("table.parquet", "parquet")):
        with pytest.raises(NotFoundError, match=f"pictures of your own there are `{word}:{root / name}`"):
            dataset_of(str(root / name))


@pytest.mark.parametrize("scheme", ["folder", "csv", "parquet", "tar"])
def test_a_tilde_that_names_no_user_is_a_name(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    word = f"{scheme}:~nobody-of-that-name/x"
    with pytest.raises(NotFoundError, match="~nobody-of-that-name/x"):
        listed(word)
    assert absolute_word(word) == f"{scheme}:{tmp_path}/~nobody-of-that-name/x"
    with pytest.raises(NotFoundError, match="no dataset '~nobody-of-that-name"):
        dataset_of("~nobody-of-that-name/x")


def test_what_a_shard_holds_is_kept_until_the_shard_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(label: str) -> None:
        with tarfile.open(tmp_path / "one.tar", "w") as file:
            put(file, "a.png", b"a picture")
            put(file, "a.cls", label.encode())
            put(file, "b.png", b"a picture")
            put(file, "b.cls", b"shirt")
            put(file, "notes.bin", b"more")

    def labels() -> list[str]:
        found = dataset_of("tar:x").listed(f"tar:{tmp_path}/one.tar")
        assert [one.name for one in found.left_out] == ["one.tar/notes.bin"]
        assert [entry.place.read() for entry in found.entries] == [b"a picture"] * 2
        return [found.classes[entry.label] for entry in found.entries]

    opened: list[object] = []
    whole = tarfile.open

    def counted(name: Any, *rest: Any, **more: Any) -> tarfile.TarFile:
        opened.append(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(tarfile, "open", counted)
    write("hat")
    monkeypatch.setattr(kept, "_SETTLED_NS", 0)
    opened.clear()
    assert labels() == labels() == ["hat", "shirt"]
    assert len(opened) == 1
    time.sleep(0.02)  # of a file system's clock some ticks
    write("bag")  # of the same size
    assert labels() == ["bag", "shirt"]
    (tmp_path / "cache" / "cnnkit" / "hashes.sqlite").write_bytes(b"no database" * 100)
    assert labels() == ["bag", "shirt"]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("sep=;\nfile;label\n{0};a\n{1};b\n", "a b"),
        ("# of mine\nfile;label;note, long\n{0};a;0,5\n{1};b;1\n", "a b"),
        ("file,label,group\n{0},1.0,nan\n{1},0.0,p1\n{2},nan,p2\n", "0 1"),
        ("file,label\n{0},cafe\u0301\n{1},caf\u00e9\n{2},tea\n", "caf\u00e9 tea"),
        ("image_id,class_id,split\n{0},1,train\n{1},01,nan\n{2},2,test\n", "1 2"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-32"])
def test_tables_of_any_program_name_the_same_classes(
    root: Path, tmp_path: Path, text: str, classes: str, encoding: str
) -> None:
    files = sorted(str(path) for path in (root / "folder").rglob("*.png"))
    table = tmp_path / "table.csv"
    table.write_bytes(text.format(*files).encode(encoding))
    found = listed(f"csv:{table}")
    assert found.classes == tuple(classes.split())
    assert {entry.group for entry in found.entries} <= {None, "p1", "p2"}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_table_of_windows_names_the_files_of_a_mac(tmp_path: Path, encoding: str) -> None:
    names = [unicodedata.normalize("NFD", f"{name}.png") for name in ("caf\u00e9", "5 \u20ac")]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(encoded(number))
    table = tmp_path / "table.csv"
    table.write_bytes("file,label\ncaf\u00e9.png,l\u2019eau\n5 \u20ac.png,tea\n".encode(encoding))
    found = listed(f"csv:{table}")
    assert (found.classes, found.left_out) == (("l\u2019eau", "tea"), ())
    assert [one.name for one in found.entries] == names


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK\3\4spreadsheet", "is no text; save the table as CSV"),
        (b"file,label\n" + b"x" * 200_000, "cannot be read as a table: field larger"),
        (b"file,label,split\n%s,a,0\n%s,b,1\n", "the part '0'.*`--columns part=`"),
        (b"%s,a\n%s,b\n", "the first line, .*, a, is a picture's; it has to name the columns"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_line(
    root: Path, tmp_path: Path, data: bytes, why: str
) -> None:
    files = [bytes(path) for path in sorted((root / "folder").rglob("*.png"))[:2]]
    (tmp_path / "table.csv").write_bytes(data % tuple(files) if b"%s" in data else data)
    with pytest.raises(CnnkitError, match=why):
        listed(f"csv:{tmp_path / 'table.csv'}")


def test_names_with_dots_in_shards_are_pictures_of_their_own_and_levels_can_be_said(tmp_path: Path) -> None:
    def shard(name: str, *members: str) -> str:
        with tarfile.open(tmp_path / name, "w") as file:
            for at, member in enumerate(members):
                put(file, member, b"%d" % at)
        return f"tar:{tmp_path / name}"

    folders = listed(shard("a.tar", "a/v.1.png", "a/v.2.png", "b/v.1.png"))
    assert (folders.classes, len(folders.entries), folders.left_out) == (("a", "b"), 3, ())
    labelled = listed(shard("b.tar", "x.1.png", "x.1.cls", "x.2.png", "x.2.cls"))
    assert (labelled.classes, len(labelled.entries)) == (("1", "3"), 2)
    word = shard("c.tar", "fold1/a/1.png", "fold1/b/2.png", "fold2/a/3.png", "fold2/b/4.png")
    with pytest.raises(CnnkitError, match=r"fold1/ and fold2/ hold a/ and b/ alike, .*label=1 the outer"):
        listed(word)
    found = dataset_of(word).listed(word, Reading(columns="label=2,group=1"))
    assert found.classes == ("a", "b")
    assert {entry.group for entry in found.entries} == {"fold1", "fold2"}
