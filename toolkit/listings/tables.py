"""Tables of pictures: which column is what, and rows made into a listing."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import Entry, LeftOut, Listing, Part, Place
from toolkit.listings.looking import readable
from toolkit.listings.parts import part_within, parts_of_words, settled

# what people call each column, the likeliest first
USUAL = {
    "image": (
        *("image", "file", "filename", "file_name", "path", "filepath", "file_path", "image_path"),
        *("image_file", "image_name", "img", "image_id", "jpg", "png", "webp", "id", "name"),
    ),
    "label": (
        *("label", "labels", "class", "class_name", "category", "target", "fine_label", "y", "kind"),
        *("label_name", "label_id", "class_id", "category_id", "cls"),
    ),
    "part": ("part", "split", "set", "subset", "partition", "usage"),
    "group": ("group", "patient", "patient_id", "clip", "camera", "subject", "group_id"),
}
# columns of yes and no, and the part of a picture where they say either
_FLAGS: dict[str, tuple[Part, Part]] = {
    **dict.fromkeys(("is_train", "is_training", "is_training_image"), ("train", "test")),
    **dict.fromkeys(("is_test", "is_testing"), ("test", "train")),
    **dict.fromkeys(("is_valid", "is_val", "is_validation"), ("validation", "train")),
}
_YES, _NO = frozenset(("1", "1.0", "true", "t", "yes", "y")), frozenset(("0", "0.0", "false", "f", "no", "n"))
# what tables have where a value is missing
_MISSING = frozenset(("nan", "na", "n/a", "#n/a", "<na>", "null", "nat"))
_WHOLE = re.compile(r"([+-]?)0*(\d+)(\.0*)?")
# so few pictures may have a class for each
_FEW = 10


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The names of the columns of a table; `part` and `group` may be missing."""

    image: str
    label: str
    part: str | None = None
    group: str | None = None

    def part_word(self, cell: str) -> str:
        """Return the word for a part from a row's cell; a column of yes and no (`is_valid`) means one."""
        if not self.part or (flag := _FLAGS.get(_folded(self.part))) is None:
            return cell
        answer = cell.casefold()
        return flag[0] if answer in _YES else flag[1] if answer in _NO else cell


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One picture of a table, as the table has it: "" for no part and no group."""

    name: str
    place: Place
    label: str
    part: str = ""
    group: str = ""


def find_roles(table: Path, columns: Sequence[str], given: str | None) -> Roles:
    """Return which column is what: as given (`image=FILE,label=KIND`), else by its usual names.

    Raises CnnkitError for a column that is not there.
    """
    typed = typed_roles(given) if given else {}
    folded = {_folded(column): column for column in columns}
    found: dict[str, str | None] = {}
    for role, usual in USUAL.items():
        if typed.get(role) and typed[role] not in columns:
            raise CnnkitError(
                f"--columns: {table} has no column {typed[role]!r}; it has {', '.join(columns) or 'none'}"
            )
        by_name = next((folded[word] for word in usual if word in folded), None)
        found[role] = typed.get(role, by_name) or None
    image, label = found["image"], found["label"]
    twice = [column for column in (image, label) if columns.count(column) > 1]
    if twice:
        raise CnnkitError(f"{table} has several columns {twice[0]!r}; give each a name of its own")
    if image is None or label is None:
        missing = " and ".join(role for role in ("image", "label") if found[role] is None)
        raise CnnkitError(
            f"{table} has the columns {', '.join(columns)}, and which holds {missing} is not known; "
            "--columns image=NAME,label=NAME says so"
        )
    part = found["part"] if "part" in typed else found["part"] or _flag(table, folded)
    return Roles(image=image, label=label, part=part, group=found["group"])


def _folded(column: str) -> str:
    return column.strip().casefold().replace(" ", "_")


def _flag(table: Path, folded: Mapping[str, str]) -> str | None:
    """Return the column that tells parts by yes and no. Raises CnnkitError for several."""
    flags = [column for word, column in folded.items() if word in _FLAGS]
    if len(flags) > 1:
        raise CnnkitError(
            f"{table} has the columns {' and '.join(flags)}; --columns part={flags[0]} takes one of them, "
            "part= none"
        )
    return next(iter(flags), None)


def typed_roles(given: str) -> dict[str, str]:
    """Return what `image=FILE,label=KIND` names, by role. Raises CnnkitError for a role that is none."""
    pairs = [pair.partition("=") for pair in given.split(",")]
    optional = ("part", "group")  # `part=` says that no column names parts
    if not all(
        (column or (sign and role in optional)) and role.strip() in USUAL for role, sign, column in pairs
    ):
        raise CnnkitError(
            f"--columns {given!r}: wanted is image=NAME,label=NAME, and part=NAME and group=NAME where there "
            "are such columns"
        )
    return {role.strip(): column.strip() for role, _, column in pairs}


def listing_of_rows(
    word: str,
    root: Path,
    rows: Iterable[TableRow],
    left_out: list[LeftOut],
    *,
    classes: Sequence[str] | None = None,
    files: Sequence[Path] = (),
    absolute: Sequence[str] = (),
) -> Listing:
    """Return the listing of a table; `classes` are its own order of them, told apart, else they are sorted.

    `files` and the first of `absolute` are the listing's; `absolute` may be filled while rows are read.

    Raises NotFoundError where no row names a picture, CorruptError for one picture with two labels, or where
    each picture has one of its own.
    """
    held: dict[str, TableRow] = {}
    spelled = _as_one_spelling(list(rows), classes)
    none = _none_of(row.label for row in spelled)
    for row in spelled:
        if not row.label:
            left_out.append(LeftOut(name=row.name, why="no label"))
        elif row.label == none:
            left_out.append(LeftOut(name=row.name, why=f"no label ({none} beside numbers from 0 on)"))
        elif row.name not in held:
            held[row.name] = row
        elif held[row.name].label == row.label:
            left_out.append(LeftOut(name=row.name, why="listed twice"))
        else:
            raise CorruptError(f"{root}: {row.name} is {held[row.name].label!r} and {row.label!r}; leave one")
    if not held:
        first = f", as {left_out[0].name}: {left_out[0].why}" if left_out else ""
        raise NotFoundError(f"{root} names no picture that is there{first}")
    names = tuple(classes or in_order({row.label for row in held.values()}))
    if classes is None and 2 * len(names) > len(held) > _FEW:
        raise CorruptError(
            f"{root}: {len(held):,} pictures have {len(names):,} labels, as {names[0][:60]!r}; those are no "
            "classes, of which pictures have two on average at least: `--columns` names what is the label"
        )
    if len(names) < 2:
        first = (
            f"; left out are {len(left_out):,}, as {left_out[0].name}: {left_out[0].why}" if left_out else ""
        )
        raise NotFoundError(f"{root} names {len(names)} class, two are the least{first}")
    places = {name: index for index, name in enumerate(names)}
    parts = _parts(root, held.values())
    entries = [
        Entry(
            name=row.name,
            place=row.place,
            label=places[row.label],
            part=parts[row.part],
            group=row.group or None,
        )
        for row in held.values()
    ]
    return Listing(
        word=word,
        root=root,
        classes=names,
        entries=tuple(sorted(settled(entries), key=lambda entry: (entry.label, entry.name))),
        left_out=tuple(left_out),
        files=tuple(files),
        absolute=next(iter(absolute), None),
    )


def present(value: str) -> str:
    """Return a table's value without blanks around it, an accent as one letter; "" for none (`NaN`)."""
    text = unicodedata.normalize("NFC", value.strip().strip("\ufeff"))
    return "" if text.casefold() in _MISSING else text


def told_apart(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of classes by number, an accent as one letter; those of one name with their numbers.

    ImageNet has two cranes: `crane (134)` and `crane (517)`.
    """
    spelled = [unicodedata.normalize("NFC", name) for name in names]
    counts = Counter(spelled)
    return tuple(f"{name} ({at})" if counts[name] > 1 else name for at, name in enumerate(spelled))


def _as_one_spelling(rows: list[TableRow], classes: Sequence[str] | None) -> list[TableRow]:
    """Spell labels in one way: an accent is one letter, and 1.0 in a column with gaps is 1."""
    rows = [replace(row, label=unicodedata.normalize("NFC", row.label)) for row in rows]
    labels = {row.label for row in rows} - {""}
    whole = {label: found for label in labels if (found := _WHOLE.fullmatch(label))}
    if classes is not None or len(whole) < len(labels):
        return rows
    plain = {label: f"{found[1].strip('+')}{found[2]}" for label, found in whole.items()}
    if len(set(plain.values())) == len(labels) and not any(found[3] for found in whole.values()):
        return rows
    return [replace(row, label=plain.get(row.label, "")) for row in rows]


def _none_of(labels: Iterable[str]) -> str | None:
    """Return the label that stands for none: -1 beside numbers from 0 on; -1 and 1 are two classes."""
    others = {*labels} - {"", "-1"}
    return "-1" if others != {"1"} and all(label.isdecimal() for label in others) else None


def in_order(labels: Iterable[str]) -> list[str]:
    """Return classes sorted by name; numbers by their value, so that 10 comes after 9."""
    names = sorted(labels)
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if whole else names


def nearly_one_name(classes: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the classes whose names differ by nothing but case, blanks or leading zeros."""
    found: dict[str, list[str]] = {}
    for name in classes:
        found.setdefault(re.sub(r"[\s_]|(?<!\d)0+(?=\d)", "", name.casefold()), []).append(name)
    return [tuple(names) for names in found.values() if len(names) > 1]


def _parts(root: Path, rows: Iterable[TableRow]) -> dict[str, Part | None]:
    """Return the part that each word for one means. Raises CorruptError for a word that means none."""
    words = sorted({row.part for row in rows} - {""})
    found: dict[str, Part | None] = {"": None, **dict(zip(words, parts_of_words(words), strict=True))}
    unknown = next((word for word in words if found[word] is None), None)
    if unknown is not None:
        raise CorruptError(
            f"{root}: pictures are in the part {unknown!r}; known: train, val, test; "
            "`--columns part=` reads no parts from it"
        )
    return found


def files_told(files: Sequence[Path]) -> dict[Path, str]:
    """Return what the files of one source are called, as text: from the folder on that holds them all."""
    top = Path(os.path.commonpath([file.parent for file in files]))
    return {file: readable(file.relative_to(top).as_posix()) for file in files}


def parts_of_files(files: Sequence[Path]) -> dict[Path, str]:
    """Return the part that each file's name names, "" for none; else the folders' in which they lie."""
    parts = _parts_named([re.sub(r"\d+", "", file.stem) for file in files])
    folders = [file.parent for file in files]
    if not any(parts) and len(set(folders)) > 1:
        parts = _parts_named([folder.name for folder in folders])
    return {file: part or "" for file, part in zip(files, parts, strict=True)}


def _parts_named(words: Sequence[str]) -> list[Part | None]:
    """Return the part that each word means; loosely where that tells two apart, though others mean none."""
    loose = [part_within(word) for word in words]
    return loose if len(set(loose) - {None}) > 1 else parts_of_words(words)


def insist_on_part(file: Path, parts: Mapping[Path, str]) -> None:
    """Raise CnnkitError for a file that names no part beside one whose pictures are not trained on.

    Its pictures would be of all parts by their content, and so some of them in the test.
    """
    held = next((other for other, part in parts.items() if part in ("test", "validation")), None)
    if held and not parts[file]:
        raise CnnkitError(
            f"{file} names no part, and {held} does: name it or its folder after one (train, val, test), or "
            "name the files without it by a pattern"
        )
