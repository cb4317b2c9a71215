"""Which files of this machine a training reads, and its words for them where they lie under another root."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.artifacts import sidecar
from toolkit.datasets import absolute_word, dataset_of
from toolkit.errors import CnnkitError
from toolkit.listings import Reading
from toolkit.recipes import Recipe
from toolkit.transfer import IMAGENET, imagenet_file

# options whose value is a path, or may be one, with the words that are none
_PATHS: Mapping[str, tuple[str, ...]] = {
    "--data-dir": (),
    "--model-file": (),
    "--exclude": (),
    "--recipe": (),
    "--teacher": (),
    "--pretrained": (IMAGENET,),
    "--class-weights": ("balanced", "effective"),
}
# of those, options whose value is a path by its ending alone, and a name otherwise
_ENDINGS: Mapping[str, str] = {"--recipe": ".toml"}


@dataclass(frozen=True, kw_only=True)
class ReadFiles:
    """All that a training reads.

    `data_dir` is the folder of a data set that is the same for everybody; `source` the word of people's own
    pictures, whose path is that of the files.
    """

    paths: tuple[Path, ...]
    data_dir: Path | None = None
    source: str | None = None


def read_files(
    dataset: str, data_dir: Path | None, columns: str | None, arguments: Sequence[str]
) -> ReadFiles:
    """Return the files of a data set, and those that arguments name.

    Raises NotFoundError, CorruptError, and CnnkitError for pictures that lie elsewhere on another machine.
    """
    named = named_files(arguments).values()
    own = [path.absolute() for file in named for path in (file, sidecar(file)) if path.is_file()]
    own += [imagenet_file().absolute()] if _starts_from_imagenet(arguments) else []
    spec = dataset_of(dataset)
    if spec.scheme is None:
        files = [path.absolute() for path in spec.load(dataset, data_dir).files]
        folder = Path(os.path.commonpath([path.parent for path in files])) if files else None
        return ReadFiles(paths=(*files, *own), data_dir=folder)
    listing = spec.listed(dataset, Reading(columns=columns))
    if listing.absolute is not None:
        raise CnnkitError(
            f"{dataset} names pictures by absolute paths, as {listing.absolute}, where other machines have "
            "other files or none; name them from the table's folder on, or train on this machine"
        )
    read = (*(entry.place.path for entry in listing.entries), *listing.files)
    found = dict.fromkeys(path.absolute() for path in read)
    return ReadFiles(paths=tuple(dict.fromkeys((*found, *own))), source=listing.word)


def named_files(arguments: Sequence[str]) -> Mapping[str, Path]:
    """Return the files that arguments name, by their words there."""
    return {
        value: Path(value)
        for word, value in _pairs(arguments)
        if _names_path(word, value) and Path(value).is_file()
    }


def cache_folders(arguments: Sequence[str]) -> Mapping[str, Path]:
    """Return the folders, by their variables of the environment, in which a word's file is looked for."""
    if not _starts_from_imagenet(arguments):
        return {}
    return {"TORCH_HOME": imagenet_file().absolute().parents[2]}


def _starts_from_imagenet(arguments: Sequence[str]) -> bool:
    return ("--pretrained", IMAGENET) in _pairs(arguments)


def insist_that_weights_are_typed(recipes: Iterable[Recipe], arguments: Sequence[str]) -> None:
    """Raise CnnkitError where a recipe names a file of class weights, which lies on this machine alone."""
    for recipe in recipes:
        weights = recipe.class_weights
        if "--class-weights" not in arguments and weights and named_files(("--class-weights", weights)):
            raise CnnkitError(
                f"recipe {recipe.name} names the class weights of a file, which other machines do not have; "
                f"`--class-weights {weights}` sends it along"
            )


def rooted(arguments: Sequence[str], root: str, read: ReadFiles | None = None) -> list[str]:
    """Return arguments whose paths lie under another root; as they are where that is this machine's own.

    The data set's is the path of the files that were `read`, which a link may have been typed for.
    """
    if not root:
        return list(arguments)
    told = list(arguments)
    for at, (word, value) in enumerate(_pairs(arguments)):
        if word == "--dataset":
            source = read.source if read is not None and read.source else absolute_word(value)
            scheme, colon, place = source.partition(":")
            told[at + 1] = f"{scheme}{colon}{root}{place}" if colon else value
        elif _names_path(word, value) and Path(value).exists():
            told[at + 1] = f"{root}{Path(value).absolute()}"
    return told


def as_absolute(word: str, value: object) -> object:
    """Return an option's value with its path from this machine's root, and as it is where it names none."""
    is_path = isinstance(value, str) and _names_path(word, value)
    return str(Path(str(value)).absolute()) if is_path else value


def _names_path(word: str, value: str) -> bool:
    """Tell whether an option's value is a path, and no name that a file may happen to have, too."""
    return word in _PATHS and value not in _PATHS[word] and value.endswith(_ENDINGS.get(word, ""))


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each argument with the next one."""
    yield from itertools.pairwise((*arguments, ""))
