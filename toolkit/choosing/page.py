"""A choosing as one HTML page: accuracy against latency, the frontier, and why each one was rejected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from toolkit.choices import Contender
from toolkit.choosing.result import Choice
from toolkit.figures import duration_text, ms_text
from toolkit.markup import escaped, listed

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 360, 70, 46, 18, 16
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}
body{color:#1c2430;background:#fff}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .7rem;border-bottom:1px solid #d7dce2;vertical-align:top}
.wide{overflow-x:auto}.wide td:not(:last-child),.wide th{white-space:nowrap}td:last-child{min-width:9rem}
svg{width:100%;min-width:560px;height:auto}.hint{color:#566070}
@media(prefers-color-scheme:dark){body{color:#e4e8ee;background:#14181e}th,td{border-color:#303844}.hint{color:#9aa5b4}}
"""
# what lies lower than the most accurate by more stands at the foot: noise would leave no room for the others
LOWEST = 10.0
# drawn in colours that both light and dark pages show
INK, ACCENT, BAD = "#7b8794", "#1f8f6b", "#c4553a"
LEGEND = "Green: may be chosen, ring: chosen, square: baseline; red: rejected; line: the frontier."


def choice_page(choice: Choice) -> str:
    """Return the page, which loads nothing."""
    where = choice.machine
    facts = f"{where.processor}, {where.cores} cores, {', '.join(where.instruction_sets)}"
    # the sentence that titles the first one in a terminal stands above the plot
    tables = (replace(choice.table(), title=""), choice.rejected_table())
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escaped(choice.model)}: choice</title><style>{STYLE}</style></head><body>"
        f"<h1>{escaped(choice.model)}</h1><p>{escaped(_said(choice))}.</p>"
        f"<p class='hint'>{escaped(facts)}. Judged on at most {escaped(choice.pictures)}; all of it took "
        f"{duration_text(choice.seconds, rough=True)}.</p>"
        f"{plot(choice)}{''.join(f'<div class=wide>{one.html()}</div>' for one in tables)}"
        f"{listed(choice.notes)}</body></html>"
    )


def _said(choice: Choice) -> str:
    """Say what was chosen and why; that nothing was, where it was interrupted."""
    return f"Chosen: {choice.chosen.label}, {choice.why}" if choice.chosen else f"Partial: {choice.why}"


@dataclass(frozen=True, kw_only=True)
class Plotted:
    """What one plot shows: contenders, each with why it was rejected, None where it may be chosen.

    The line joins those of `frontier`; what has no latency or no accuracy is left out.
    """

    contenders: Sequence[tuple[Contender, str | None]]
    frontier: Sequence[Contender] = ()
    baseline: Contender | None = None
    chosen: Contender | None = None


def plot(choice: Choice) -> str:
    """Return accuracy against latency as a figure of a page; what was not judged is not on it."""
    rejected = [(entry.contender, entry.why) for entry in choice.rejected]
    drawn = svg(
        Plotted(
            contenders=[*((one, None) for one in choice.measured), *rejected],
            frontier=choice.frontier,
            baseline=choice.baseline,
            chosen=choice.chosen,
        )
    )
    if drawn is None:
        return "<p class='hint'>No accuracy was measured, so there is nothing to draw.</p>"
    told = f"On the same pictures; milliseconds on a log scale. {LEGEND}"
    return (
        f"<figure style='margin:0'><div class='wide'>{drawn}</div>"
        f"<figcaption class='hint'>{told}</figcaption></figure>"
    )


def svg(plotted: Plotted) -> str | None:
    """Return accuracy against latency (log scale) as one SVG, which may stand in a page or be a file.

    Accuracy is told in points beside the baseline's on the same pictures, so that all are comparable.
    None where no contender has both figures.
    """
    spots = [
        Spot(contender=one, ms=one.picture_ms, points=0.0 - one.accuracy_drop, why=why)
        for one, why in plotted.contenders
        if one.latency_ms and one.accuracy_drop is not None
    ]
    if not spots:
        return None
    axes = _Axes.around(spots)
    marks = "".join(_mark(spot, axes, plotted) for spot in spots)
    steps = [axes.at(one.picture_ms, -(one.accuracy_drop or 0)) for one in plotted.frontier if one.latency_ms]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
    joined = (
        f"<polyline fill='none' stroke='{ACCENT}' stroke-width='2' points='{line}'/>"
        if len(steps) > 1
        else ""
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' "
        f"font-family='system-ui, sans-serif' aria-label='Accuracy against latency'>"
        f"{axes.frame()}{joined}{marks}</svg>"
    )


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A contender on the plot: its latency, the points that it is more accurate by, and why it is out."""

    contender: Contender
    ms: float
    points: float
    why: str | None


def _mark(spot: Spot, axes: _Axes, plotted: Plotted) -> str:
    x, y = axes.at(spot.ms, spot.points)
    one, colour = spot.contender, BAD if spot.why else ACCENT
    said = (
        f"{one.label}: {ms_text(spot.ms)} ms, {spot.points:+.2f} points{f'; {spot.why}' if spot.why else ''}"
    )
    title = f"<title>{escaped(said)}</title>"
    if plotted.baseline is not None and one == plotted.baseline:
        mark = f"<rect x='{x - 5:.1f}' y='{y - 5:.1f}' width='10' height='10' fill='{INK}'>{title}</rect>"
    else:
        mark = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{colour}' fill-opacity='.8'>{title}</circle>"
    if plotted.chosen is not None and one == plotted.chosen:
        ring = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='10' fill='none' stroke='{ACCENT}' stroke-width='2.5'/>"
        anchor = "end" if x > WIDTH * 0.6 else "start"
        at = f"x='{x:.1f}' y='{y + 28:.1f}' text-anchor='{anchor}'"
        return f"{mark}{ring}<text {at} {_TEXT}>{escaped(one.label)}</text>"
    return mark


_TEXT = f"font-size='12' fill='{INK}'"


@dataclass(frozen=True, kw_only=True)
class _Axes:
    """Latency to the right on a log scale, accuracy upwards."""

    low_ms: float
    high_ms: float
    low: float
    high: float

    @classmethod
    def around(cls, spots: list[Spot]) -> _Axes:
        times = [spot.ms for spot in spots]
        shares = [spot.points for spot in spots]
        high = max(shares)
        low = max(min(shares), high - LOWEST)
        pad = max(0.1, 0.15 * (high - low))
        return cls(
            low_ms=min(times) / 1.2,
            high_ms=max(times) * 1.2,
            low=low - pad,
            high=high + pad,
        )

    def at(self, ms: float, points: float) -> tuple[float, float]:
        right = math.log(ms / self.low_ms) / math.log(self.high_ms / self.low_ms)
        up = max(0.0, (points - self.low) / ((self.high - self.low) or 1.0))
        x = LEFT + right * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    def frame(self) -> str:
        foot = HEIGHT - BOTTOM
        lines = f"<path d='M{LEFT},{TOP}V{foot}H{WIDTH - RIGHT}' fill='none' stroke='{INK}'/>"
        ticks = []
        for place in range(5):
            share = self.low + (self.high - self.low) * place / 4
            y = self.at(self.low_ms, share)[1]
            ticks.append(
                f"<text x='{LEFT - 8}' y='{y + 4:.1f}' text-anchor='end' {_TEXT}>{share:+.2f}</text>"
            )
            ms = self.low_ms * (self.high_ms / self.low_ms) ** (place / 4)
            x = self.at(ms, self.low)[0]
            anchor = "middle" if place < 4 else "end"
            ticks.append(
                f"<text x='{x:.1f}' y='{foot + 18}' text-anchor='{anchor}' {_TEXT}>{ms_text(ms)}</text>"
            )
        right = f"x='{WIDTH - RIGHT}' y='{HEIGHT - 8}' text-anchor='end'"
        names = (
            f"<text {right} {_TEXT}>milliseconds a picture</text>"
            f"<text x='{LEFT + 8}' y='{TOP + 4}' {_TEXT}>points of accuracy beside the baseline's</text>"
        )
        return lines + "".join(ticks) + names
