"""Findings as one HTML file that opens offline: pictures to look at, ticked where they are to be left out."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from importlib import resources

from PIL import Image

from toolkit.checking import DuplicateGroup, Findings
from toolkit.checking.pictures import Gallery
from toolkit.errors import ImageError
from toolkit.listings.excluding import listed_name
from toolkit.markup import escaped, html_table, listed

_TILE = 112
_GROUPS, _OF_GROUP, _SINGLE = 200, 12, 300


def html_page(found: Findings, pictures: Gallery) -> str:
    """Return the whole page; nothing in it asks another host, and it reads without its script."""
    return _Page(found, pictures).whole()


class _Page:
    """A page in the making: `_shown` are the names whose tiles stand in it."""

    def __init__(self, found: Findings, pictures: Gallery) -> None:
        self._found, self._pictures = found, pictures
        self._at = {name: at for at, name in enumerate(pictures.names)}
        # as a list has them: what the page saves is read by `--exclude`
        self._surplus = {name: " ".join(why.split()) for name, why in found.surplus().items()}
        self._shown: set[str] = set()

    def whole(self) -> str:
        style, script = (
            resources.files(__package__).joinpath(f"page.{kind}").read_text() for kind in ("css", "js")
        )
        title = escaped(f"{self._found.dataset}: check")
        body = "".join(self._sections())
        rest = {listed_name(name): why for name, why in self._surplus.items() if name not in self._shown}
        data = json.dumps(rest).replace("<", "\\u003c")
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{title}</title><style>{style}</style></head><body><main><h1>{title}</h1>{body}</main>"
            "<div class='bar' hidden><span><b id='count'></b> pictures to leave out</span>"
            "<button id='save'>Save the list</button>"
            "<span class='soft'>for <code>cnnkit train … --exclude exclude.txt</code></span></div>"
            f"<script type='application/json' id='rest'>{data}</script><script>{script}</script>"
            "</body></html>"
        )

    def _sections(self) -> Iterator[str]:
        found = self._found
        said = found.sentences() or ("nothing was found",)
        yield f"<p>{found.images:,} pictures. Tick what is to be left out of a training.</p>{listed(said)}"
        across = [one for one in found.duplicates if one.across_splits]
        yield from self._groups("The same picture in several parts", across)
        contradicting = [one for one in found.duplicates if not one.across_splits and one.contradicts]
        yield from self._groups("The same picture with several labels", contradicting)
        rest = [one for one in found.duplicates if not one.across_splits and not one.contradicts]
        yield from self._groups("The same picture within a part", rest)
        suspects = {
            one.file: f"{one.label}, rather {one.suggested}? ({one.score:.2f})" for one in found.suspects
        }
        yield from self._singles("Doubted labels, the most doubtful first", suspects)
        yield from self._singles("One colour only", {one.file: one.why for one in found.plain})
        odd = {one.file: f"{one.width}×{one.height}, {one.why}" for one in found.odd_sizes}
        yield from self._singles("Odd sizes", odd)
        damaged = [(one.file, one.why) for one in found.faulty]
        yield from _table("Damaged files", ("file", "why"), damaged)
        leaks = [(one.group, one.images, ", ".join(one.parts)) for one in found.leaks]
        yield from _table("Groups in several parts", ("group", "pictures", "parts"), leaks)
        table = found.table()
        yield from _table("Classes", table.head, table.rows)

    def _groups(self, title: str, groups: list[DuplicateGroup]) -> Iterator[str]:
        if not groups:
            return
        yield f"<h2>{title}{_of(len(groups), _GROUPS)}</h2><div class='groups'>"
        for one in groups[:_GROUPS]:
            facts = [*zip(one.files, one.labels, one.parts, strict=True)][:_OF_GROUP]
            tiles = "".join(self._tile(file, f"{label}, {part}") for file, label, part in facts)
            more = f" ({len(one.files)} pictures)" if len(one.files) > _OF_GROUP else ""
            yield (
                f"<section class='group'><h3>{one.kind}{more}</h3><div class='tiles'>{tiles}</div></section>"
            )
        yield "</div>"

    def _singles(self, title: str, told: dict[str, str]) -> Iterator[str]:
        if told:
            shown = list(told.items())[:_SINGLE]
            tiles = "".join(self._tile(file, text) for file, text in shown)
            yield f"<h2>{title}{_of(len(told), _SINGLE)}</h2><div class='tiles'>{tiles}</div>"

    def _tile(self, name: str, text: str) -> str:
        self._shown.add(name)
        why = self._surplus.get(name, "left out by hand")
        ticked = " checked" if name in self._surplus else ""
        return (
            f"<label class='tile'>{self._image(name)}<input type='checkbox'{ticked} "
            f"data-name='{escaped(listed_name(name))}' data-why='{escaped(why)}'> "
            f"<b>{escaped(text)}</b><br>{escaped(name)}</label>"
        )

    def _image(self, name: str) -> str:
        try:
            image = self._pictures.open(self._at[name], "own")
        except ImageError:
            return ""  # it could be read a moment ago
        scale = _TILE / max(image.size)
        if scale < 1:
            size = [max(1, round(side * scale)) for side in image.size]
            image = image.resize((size[0], size[1]), Image.Resampling.BOX)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=80)
        data = base64.b64encode(buffer.getvalue()).decode()
        return f"<img alt='' loading='lazy' style='object-fit: contain' src='data:image/webp;base64,{data}'>"


def _of(count: int, most: int) -> str:
    return f" ({count:,}, of which {most:,} are shown)" if count > most else f" ({count:,})"


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    if rows:
        yield f"<h2>{title}</h2><div class='wide'>{html_table(head, rows)}</div>"
