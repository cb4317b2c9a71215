"""Plug-in files, found by listing their folder: a shelf knows its folder and constant, and no plug-in's word.

A plug-in is one file that declares one typed constant. Its word on the command line is the file's stem,
underscores as dashes. Nothing here imports a plug-in before it is asked for by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar, cast

from toolkit.errors import CnnkitError, unknown_name

Plugin = TypeVar("Plugin")


class Addressed(Protocol):
    """A plug-in that is typed as WORD or WORD:ADDRESS; `address` says how one is typed, None for never."""

    name: ClassVar[str]
    address: ClassVar[str | None]


Placed = TypeVar("Placed", bound=Addressed)


@dataclass(frozen=True)
class Shelf(Generic[Plugin]):
    """The plug-ins of one kind: `folder` is a package, `constant` what each of its files declares.

    `what` is the kind's word in errors. Where a constant may be of several kinds they are a tuple, the
    contract's first class last.
    """

    folder: str
    constant: str
    kind: type[Plugin] | tuple[type, ...]
    what: str

    def names(self) -> list[str]:
        """Return the plug-ins' words, sorted; imports none of them."""
        spec = importlib.util.find_spec(self.folder)
        places = spec.submodule_search_locations if spec else None
        found = pkgutil.iter_modules(places) if places is not None else ()
        # packages and files that begin with _ are helpers of the plug-ins
        stems = [module.name for module in found if not module.ispkg and not module.name.startswith("_")]
        return sorted(stem.rstrip("_").replace("_", "-") for stem in stems)

    def load(self, name: str) -> Plugin:
        """Import one plug-in's file and return its constant. Raises NotFoundError with the nearest match."""
        module = self._spec(name).name
        found = getattr(importlib.import_module(module), self.constant, None)
        if not isinstance(found, self.kind):
            kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
            raise CnnkitError(
                f"{module.replace('.', '/')}.py declares no {self.constant} = "
                f"{' or '.join(kind.__name__ for kind in kinds)}(…); "
                f"the contract stands in {kinds[-1].__module__}"
            )
        return cast(Plugin, found)

    def origin(self, name: str) -> Path:
        """Return the file that declares one plug-in; imports nothing of it."""
        return Path(str(self._spec(name).origin))

    def _spec(self, name: str) -> ModuleSpec:
        if name not in self.names():
            raise unknown_name(self.what, name, self.names())
        module = f"{self.folder}.{name.replace('-', '_')}"
        # `import` cannot be the name of a module
        spec = importlib.util.find_spec(module) or importlib.util.find_spec(f"{module}_")
        assert spec is not None  # its name was listed
        return spec

    def all(self) -> list[Plugin]:
        """Import and return every plug-in, in the order of their words."""
        return [self.load(name) for name in self.names()]


def place_words(shelf: Shelf[Placed]) -> list[str]:
    """Return what may be typed for a place: each one's word, with how its address is."""
    return [f"{one.name}[:{one.address}]" if one.address else one.name for one in shelf.all()]


def place_of(shelf: Shelf[Placed], text: str) -> tuple[Placed, str | None]:
    """Return the place that WORD or WORD:ADDRESS names, and its address, None where none was typed.

    Raises NotFoundError for an unknown word, CnnkitError for an address that is lacking or that none has.
    """
    name, colon, address = str(text).partition(":")  # from Python comes what is no text, as None
    found = shelf.load(name)
    if colon and not (address and found.address):
        lacks = f"{name} has no address" if address or not found.address else "its address is lacking"
        raise CnnkitError(f"{text!r}: {lacks}; possible: {', '.join(place_words(shelf))}")
    return found, address or None
