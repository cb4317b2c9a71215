"""What an imported network's answers are called, and the pictures that it is judged on."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from toolkit.answering import numbered
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, NotFoundError, ShapeError
from toolkit.importing import ImportRequest, KnownFacts
from toolkit.listings.tables import told_apart
from toolkit.telling import Tell


def classes_wanted(text: str | None) -> tuple[str, ...] | None:
    """Return class names as typed: with commas between, or one a line in a file. Raises CnnkitError."""
    if text is None:
        return None
    path = Path(text)
    if "," not in text or _is_file(path):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no UTF-8"
            raise NotFoundError(
                f"--classes takes names with commas between, or a file of one a line; {text}: {why}"
            ) from None
        names = [line.strip() for line in lines]
        while names and not names[-1]:
            names.pop()
    else:
        names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise CnnkitError(f"--classes {text} holds an empty name; give one for each class, in order")
    return tuple(names)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # many names in a row are longer than a file's may be
        return False


def classes_of(word: str, data_dir: Path | None) -> tuple[str, ...]:
    """Return a data set's class names, decoding no picture where a listing or its file says them."""
    spec = dataset_of(word)
    if spec.listing is not None:
        return spec.listed(word).classes
    return spec.classes or spec.load(word, data_dir, True, None).classes


def settle_classes(
    request: ImportRequest, known: KnownFacts | None, columns: int, tell: Tell
) -> tuple[str, ...]:
    """Return the network's class names in order: as given, as its source says, its data set's, else numbers.

    One column of scores stands for two classes. Accents are one letter, as in data sets, and classes of one
    name get their numbers, which is said. Raises ShapeError where their number is another.
    """
    found = _settled(request, known, columns, tell)
    names = told_apart(found)
    spelt = {unicodedata.normalize("NFC", name) for name in found}
    if doubled := sorted(spelt - set(names)):
        first = next(name for name in names if name.startswith(f"{doubled[0]} ("))
        more = f" ({len(doubled)} names in all)" if len(doubled) > 1 else ""
        tell(
            f"several classes are called {doubled[0]!r}: their numbers tell them apart, as in {first!r}{more}"
        )
    return names


def _settled(request: ImportRequest, known: KnownFacts | None, columns: int, tell: Tell) -> tuple[str, ...]:
    count, given = max(2, columns), request.classes
    if given is not None:
        if len(given) != count:
            raise ShapeError(f"--classes names {len(given)} and the network answers with {_scores(columns)}")
        return given
    if known is not None and known.classes is not None:
        if len(known.classes) == count:
            tell(f"classes are those of {known.origin}")
            return known.classes
        tell(
            f"{known.origin} names {len(known.classes)} classes, and the network answers with "
            f"{_scores(columns)}: those names are not used"
        )
    if request.dataset is not None:
        theirs = classes_of(request.dataset, request.data_dir)
        if len(theirs) != count:
            raise ShapeError(
                f"{request.dataset} has {len(theirs)} classes and the network answers with "
                f"{_scores(columns)}: --classes A,B,… or a file of one a line names the network's own"
            )
        if dataset_of(request.dataset).listing is not None:  # the labels of published ones are everybody's
            _tell_order(request.dataset, theirs, tell)
        return theirs
    tell(f"its {count} classes are called by their numbers (--classes names them)")
    return tuple(str(index) for index in range(count))


def _tell_order(word: str, theirs: tuple[str, ...], tell: Tell) -> None:
    first = ", ".join(map(repr, theirs[:3])) + (", …" if len(theirs) > 3 else "")
    tell(
        f"classes are taken to be those of {word} in its order, {first} (--classes names them in the "
        "network's own)"
    )


def refuse_strange(theirs: tuple[str, ...], name: str, classes: tuple[str, ...]) -> None:
    """Raise ShapeError unless a data set's classes are a network's, or some of them.

    Numbers stand for as many classes of any name.
    """
    if theirs == classes or (numbered(classes) and len(theirs) == len(classes)):
        return
    strange = [one for one in theirs if one not in classes]
    if strange:
        raise ShapeError(
            f"{name} has classes that the network has not, such as {strange[0]!r}: name the network's "
            "classes in order with --classes, spelt as the pictures' are"
        )


def _scores(columns: int) -> str:
    return "one score, for two classes" if columns == 1 else f"{columns}"
