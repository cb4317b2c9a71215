"""What a request of the page asks for, from its query; each wrong value is refused in words."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from serve.api import RefusedError
from toolkit.answering import Invert

INVERT: tuple[Invert, ...] = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True)
class PageQuery:
    """A request's query. `model` None is the first, no `engines` are the one that serves.

    `ours` marks a picture that the page itself offered, which is like those in training: by itself it is
    neither inverted nor moved. `centre`: bring a small figure to lie as the training pictures do.
    """

    model: str | None = None
    engines: tuple[str, ...] = ()
    invert: Invert = "auto"
    centre: bool = False
    ours: bool = False
    thumbnail: bool = False
    layer: str | None = None
    index: int = 0

    @property
    def way(self) -> Invert:
        """Return how the picture is inverted."""
        return "no" if self.ours and self.invert == "auto" else self.invert


def read_query(text: str) -> PageQuery:
    """Read a query. Raises RefusedError (400)."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=64)
    except ValueError as error:
        raise RefusedError(400, f"the query cannot be read: {error}") from None
    one = dict(pairs)
    invert = next((way for way in INVERT if way == one.get("invert", "auto")), None)
    if invert is None:
        raise RefusedError(400, f"invert must be one of {', '.join(INVERT)}")
    index = one.get("index", "0")
    if not (index.isascii() and index.isdigit() and len(index) < 9):
        raise RefusedError(400, "index must be a whole number")
    return PageQuery(
        model=one.get("model"),
        engines=tuple(dict.fromkeys(value for name, value in pairs if name == "engine")),
        invert=invert,
        centre=one.get("centre") == "1",
        ours=one.get("ours") == "1",
        thumbnail=one.get("thumbnail") == "1",
        layer=one.get("layer"),
        index=int(index),
    )
