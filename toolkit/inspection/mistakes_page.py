"""An evaluation as one HTML file that opens offline: figures by class, and the surest mistakes to look at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from toolkit.inspection.evaluation import Evaluation, Mistake
from toolkit.inspection.sheet import inline, tile
from toolkit.markup import Html, escaped, html_table
from toolkit.training.scoring import confused

_TILE = 112
_PAIRS = 20
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
caption { text-align: left; padding: .25rem 0; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #8884; }
.wide { overflow-x: auto; }
ul.tiles { list-style: none; display: flex; flex-wrap: wrap; gap: .9rem; padding: 0; }
ul.tiles li { width: 8.5rem; overflow-wrap: anywhere; font-size: .85rem; }
ul.tiles img { display: block; width: 112px; height: 112px; border: 1px solid #8888; }
"""


def mistakes_page(found: Evaluation, title: str) -> str:
    """Return the whole page; nothing in it asks another host, and it holds no script."""
    table = found.table()
    rows = [_linked(index, row, found) for index, row in enumerate(table.rows)]
    parts = [f"<h1>{escaped(title)}</h1>", f"<p>{escaped(found.summary)}</p>"]
    parts += ["<h2>Classes</h2>", f"<div class='wide'>{html_table(table.head, rows)}</div>"]
    parts += [_pairs(found), *_mistakes(found)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(parts)}</main>"
        "</body></html>"
    )


def _linked(index: int, row: tuple[str, ...], found: Evaluation) -> tuple[str, ...]:
    """Let a class's name lead to its mistakes, where it has some."""
    if not any(one.truth == index for one in found.mistakes):
        return row
    return (Html(f"<a href='#class-{index}'>{escaped(row[0])}</a>"), *row[1:])


def _pairs(found: Evaluation) -> str:
    rows = [
        (found.classes[true], found.classes[answer], count)
        for true, answer, count in confused(found.confusion, _PAIRS)
    ]
    head = ("is", "taken for", "times")
    return f"<h2>Most frequent mistakes</h2>{html_table(head, rows)}" if rows else ""


def _mistakes(found: Evaluation) -> Iterator[str]:
    if not found.mistakes:
        yield "<h2>Surest mistakes</h2><p>There is no mistake.</p>"
        return
    yield "<h2>Surest mistakes of each class</h2>"
    wrong = found.confusion.sum(axis=1) - found.confusion.diagonal()
    for truth, group in groupby(found.mistakes, key=lambda one: one.truth):
        shown = list(group)
        of = f", the surest {len(shown)} of {wrong[truth]}" if len(shown) < wrong[truth] else ""
        tiles = "".join(_tile(one, found.classes) for one in shown)
        name = escaped(found.classes[truth])
        yield f"<section id='class-{truth}'><h3>{name}{of}</h3><ul class='tiles'>{tiles}</ul></section>"


def _tile(one: Mistake, classes: tuple[str, ...]) -> str:
    alt = escaped(f"{one.picture}: is {classes[one.truth]}, taken for {classes[one.answer]}")
    picture = inline(tile(one.pixels, _TILE)).replace("<img ", f"<img alt='{alt}' loading='lazy' ", 1)
    said = f"{classes[one.answer]} {one.probability:.1%}"
    return f"<li>{picture}<b>{escaped(said)}</b><br>{escaped(one.picture)}</li>"
