"""The tab for many pictures: files in, a table and a CSV out."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from serve.page.components import in_turn
from serve.served import ServedModel
from toolkit.answering import Invert
from toolkit.errors import CnnkitError

MOST_FILES = 256
HEADER = ["file", "label", "probability", "second", "second probability", "inverted", "trouble"]
# What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def escape(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def classify_files(paths: Sequence[Path], entry: ServedModel, invert: Invert) -> list[list[Any]]:
    """Return one row a file; a file that cannot be read has its reason in the last cell."""
    classifier = entry.classifier()
    rows: list[list[Any]] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(classifier.limits.max_bytes + 1)
            answer = classifier.classify(data, top=2, invert=invert)
        except CnnkitError as error:
            rows.append([path.name, "", None, "", None, "", str(error)])
            continue
        (label, first), *rest = answer.top
        second, probability = (rest[0][0], round(rest[0][1], 4)) if rest else ("", None)
        inverted = "yes" if answer.prepared.inverted else "no"
        rows.append([path.name, label, round(first, 4), second, probability, inverted, ""])
    return rows


def write_csv(rows: Sequence[Sequence[Any]], folder: Path) -> Path:
    """Write the rows as a CSV file in a folder of its own; every text cell is escaped."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [escape(cell) if isinstance(cell, str) else cell for cell in row] for row in (HEADER, *rows)
        )
    return path


def build_many(entries: Sequence[ServedModel], invert: Any) -> None:
    """Draw the tab."""
    by_label = {entry.label: entry for entry in entries}
    engine = gr.Dropdown(list(by_label), value=next(iter(by_label)), label="Engine")
    files = gr.File(
        file_count="multiple", file_types=["image"], label=f"Up to {MOST_FILES} pictures", elem_id="files"
    )
    said = gr.Markdown("", elem_id="many-note")
    table = gr.Dataframe(
        headers=HEADER,
        interactive=False,
        wrap=True,
        # columns without a width break words in two
        column_widths=[160, 120, 120, 120, 120, 100, 300],
        elem_id="table",
    )
    download = gr.File(label="As CSV", interactive=False, visible=False, elem_id="csv")

    def run(paths: list[str] | None, label: str, how: Invert) -> list[Any]:
        """Classify every file."""
        if not paths or label not in by_label:
            return ["", [], gr.update(visible=False)]
        if len(paths) > MOST_FILES:
            note = (
                f"**{len(paths)} files, over the limit of {MOST_FILES}: `cnnkit predict` takes any number**"
            )
            return [note, [], gr.update(visible=False)]
        rows = classify_files([Path(path) for path in paths], by_label[label], how)
        bad = sum(1 for row in rows if row[-1])
        note = f"{len(rows) - bad} pictures labelled" + (f", {bad} could not be read" if bad else "")
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        return [note, rows, gr.update(visible=True, value=str(write_csv(rows, folder)))]

    switches = [files, engine, invert]
    gr.on(
        [switch.change for switch in switches],
        run,
        switches,
        [said, table, download],
        **in_turn("files", show_progress="minimal"),
    )
