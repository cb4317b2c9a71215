"""`cnnkit check`: what is wrong with a data set, before it is learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    columns_option,
    data_dir_option,
    json_option,
    model_file_option,
    root_option,
    seed_option,
)
from toolkit.cli.reports import refuse_overwriting, report_option, write_report
from toolkit.listings import MOST_PIXELS

if TYPE_CHECKING:
    from toolkit.checking import Findings

_SHOWN, _CLASSES = 10, 30


@click.command()
@click.argument("data", cls=parameters.DatasetArgument)
@report_option("--html", "Write what was found as a page.")
@click.option("--model", metavar="NAME", help="Judge labels by this trained network's features.")
@click.option("--no-labels", is_flag=True, help="Do not judge the labels, which takes most of the time.")
@report_option("--write-list", "Write what to leave out, for `cnnkit train --exclude FILE`.")
@click.option("--strict", is_flag=True, help="Exit with 4 when anything was found.")
@click.option("--group", metavar="REGEX", help="Finds a picture's group (clip, patient) in its name.")
@columns_option
@click.option("--max-pixels", type=click.IntRange(1, MOST_PIXELS), default=MOST_PIXELS, show_default=True)
@click.option(
    "--exclude",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Leave out the pictures of this list.",
)
@parameters.options(data_dir_option, seed_option, root_option, model_file_option, json_option)
def check(
    *,
    data: str,
    html: Path | None,
    model: str | None,
    no_labels: bool,
    write_list: Path | None,
    strict: bool,
    group: str | None,
    columns: str | None,
    max_pixels: int,
    exclude: Path | None,
    data_dir: Path | None,
    seed: int,
    root: Path,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Find what is wrong with a data set or your own pictures: damaged files, duplicates, doubtful labels."""
    from toolkit.checking.check import check as run
    from toolkit.listings import Reading

    reading = Reading(group=group, columns=columns, exclude=exclude, max_pixels=max_pixels)
    if model and no_labels:
        raise click.UsageError("--model judges labels, which --no-labels leaves out")
    if model_file is not None and model is None:
        raise click.UsageError("--model-file holds the code of the network that --model names")
    refuse_overwriting(html, write_list, read=(data, model, model_file, exclude))
    with printing.progress() as progress:
        found = run(
            data,
            labels=not no_labels,
            model=model,
            model_file=model_file,
            data_dir=data_dir,
            reading=reading,
            seed=seed,
            root=root,
            tell=printing.say,
            on_step=printing.steps_on(progress),
        )
    if as_json:
        printing.emit(_payload(found))
    else:
        _show(found)
    if html:
        from toolkit.checking.page import html_page
        from toolkit.checking.pictures import gallery

        write_report(html, html_page(found, gallery(data, data_dir, reading)))
    if write_list:
        from toolkit.listings.excluding import write_exclusions

        write_exclusions(write_list, found.surplus())
        printing.say(f"wrote {write_list}: {len(found.surplus()):,} pictures to leave out")
    if strict:
        found.require()


def _payload(found: Findings) -> dict[str, Any]:
    return {
        "dataset": found.dataset,
        "images": found.images,
        "classes": {one.name: one.images for one in found.classes},
        "parts": {
            part: sum(getattr(one, part) for one in found.classes) for part in ("train", "validation", "test")
        },
        "damaged": [{"file": one.file, "why": one.why} for one in found.faulty],
        "one_colour": [one.file for one in found.plain],
        "duplicates": [
            {
                "files": one.files,
                "kind": one.kind,
                "across_splits": one.across_splits,
                "labels": one.labels,
                "parts": one.parts,
            }
            for one in found.duplicates
        ],
        "leaks": [{"group": one.group, "parts": one.parts, "images": one.images} for one in found.leaks],
        "odd_sizes": found.odd_sizes,
        "suspects": [
            {"file": one.file, "label": one.label, "suggested": one.suggested, "score": one.score}
            for one in found.suspects
        ],
        "labels_by": found.labels_by,
        "label_agreement": found.accuracy,
        "notes": found.notes,
        "findings": found.count,
        "ok": found.ok,
        "seconds": found.seconds,
    }


def _show(found: Findings) -> None:
    printing.print_table(printing.as_rich(found.table(most=_CLASSES)))
    lines = list(found.sentences())
    for title, entries in (
        ("damaged", [f"{one.file}: {one.why}" for one in found.faulty]),
        ("one colour", [one.file for one in found.plain]),
        ("duplicates", [_pair(one.files, one.kind, across=one.across_splits) for one in found.duplicates]),
        ("leaks", [f"{one.group}: {one.images} pictures in {', '.join(one.parts)}" for one in found.leaks]),
        ("odd sizes", [f"{one.file}: {one.width}×{one.height}, {one.why}" for one in found.odd_sizes]),
        (
            "doubted labels",
            [f"{one.file}: {one.label}, rather {one.suggested} ({one.score:.2f})" for one in found.suspects],
        ),
    ):
        if entries:
            more = [f"  … {len(entries) - _SHOWN:,} more (--json, --html)"] if len(entries) > _SHOWN else []
            lines += ["", f"{title}:", *(f"  {entry}" for entry in entries[:_SHOWN]), *more]
    printing.stdout.print("\n".join(lines or ["nothing was found"]), markup=False, soft_wrap=True)


def _pair(files: tuple[str, ...], kind: str, *, across: bool) -> str:
    shown = " = ".join(files[:3]) + (f" = {len(files) - 3} more" if len(files) > 3 else "")
    return f"{shown} ({kind}{', across parts' if across else ''})"


ORDER = 5
COMMAND = check
