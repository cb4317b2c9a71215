"""What every command shares: options, output for people and as JSON, errors as exit statuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit import schema
from toolkit.artifacts import artifacts_root, check_name, refuse_unwritable, write_bytes
from toolkit.errors import CnnkitError, unknown_name
from toolkit.machine.cpu import MOST_THREADS
from toolkit.passports import Precision, as_precision
from toolkit.tables import TextTable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from toolkit.telling import Step

Function = TypeVar("Function", bound=Callable[..., Any])

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


def options(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Apply several option decorators at once, so that --help lists them in the order given."""

    def apply(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


# the precisions that have switches of their own
SHORT: tuple[Precision, ...] = ("fp16", "int8")


def _short_of(context: click.Context) -> list[Precision]:
    return [word for word in SHORT if context.meta.get(f"cnnkit.{word}")]


def _precision(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """Fold --fp16 and --int8, which are parsed first, into --precision."""
    asked = {*_short_of(context), value} - {None}
    if len(asked) > 1:
        raise click.UsageError(
            f"these precisions contradict each other: {', '.join(sorted(map(str, asked)))}"
        )
    return str(next(iter(asked), "fp32"))


def check_device(text: str) -> str:
    """Return a device's word. Raises NotFoundError for what names none; whether it is here shows later."""
    from toolkit.backends import device_words, names_device

    known = device_words()
    if not names_device(text, known):
        raise unknown_name("device", text, known)
    return text


def checked(check: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return an option's callback: what `check` makes of its value; what that raises is wrong usage."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else check(value)
        except (CnnkitError, ValueError) as error:
            raise click.BadParameter(str(error), ctx=context, param=parameter) from None

    return read


def words(text: str | None) -> tuple[str, ...]:
    """Return the words between a text's commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


def counts(text: str) -> tuple[int, ...]:
    """Return the whole numbers between a text's commas, each once. Raises ValueError."""
    found = words(text)
    if not found or not all(word.isdecimal() and int(word) > 0 for word in found):
        raise ValueError("whole numbers of 1 or more separated by commas, as in 1,8,32")
    return tuple(map(int, found))


def short(word: str) -> Callable[[Function], Function]:
    """Make the switch that stands for a precision."""

    def note(context: click.Context, parameter: click.Parameter, on: bool) -> None:
        context.meta[f"cnnkit.{word}"] = on

    return click.option(
        f"--{word}",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=note,
        help=f"= --precision {word}",
    )


def name_option(text: str) -> Callable[[Function], Function]:
    """Make the option that names what is written."""
    return click.option("--name", callback=checked(check_name), help=text)


class FiniteRange(click.FloatRange):
    """A number within bounds; every comparison with NaN is false, so click lets that through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no finite number", param, ctx)
        return found


def images_or_all(text: str) -> int | None:
    """Return a number of images; None for `all`. Raises ValueError."""
    if text != "all" and (not text.isdigit() or int(text) < 1):
        raise ValueError("a number of images, or all")
    return None if text == "all" else int(text)


def size(text: str) -> tuple[int, int]:
    """Return height and width, of N alone a square's. Raises ValueError."""
    height, sign, width = text.lower().replace("×", "x").partition("x")
    sides = (height, width if sign else height)
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError("pixels as HxW, such as 128x96, or one side, such as 128")
    return int(sides[0]), int(sides[1])


def size_option(text: str) -> Callable[[Function], Function]:
    """Make the option of a network's height and width in pixels."""
    return click.option("--size", metavar="N|HxW", callback=checked(size), help=text)


class Listed(click.Option):
    """An option whose help begins with what there is, which is looked up only then."""

    def __init__(self, *words: Any, listing: Callable[[], list[str]], **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.listing = listing

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0], f"{', '.join(self.listing())} {record[1]}".rstrip())


def _backends() -> list[str]:
    from toolkit.backends import backend_names

    return backend_names()


def _devices() -> list[str]:
    from toolkit.backends import device_words

    return device_words()


def _dataset_words() -> str:
    from toolkit.datasets import own_sources

    return "|".join(("NAME", *(str(spec.example) for spec in own_sources())))


class DatasetOption(click.Option):
    """Names the sources of people's own pictures in its help, and looks for them only then."""

    def make_metavar(self, ctx: click.Context) -> str:
        return _dataset_words()


class DatasetArgument(click.Argument):
    """Does as DatasetOption, in a command's usage."""

    def make_metavar(self, ctx: click.Context) -> str:
        return _dataset_words()


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
root_option = click.option(
    "--artifacts",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    callback=lambda _context, _parameter, value: artifacts_root(value),
    help="Where artifacts lie (default: $CNNKIT_ARTIFACTS, else ./artifacts).",
)
dataset_option = click.option("--dataset", cls=DatasetOption, help="Data set (default: the model's own).")
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder searched first for data, directly and as DIR/<dataset>.",
)
device_option = click.option(
    "--device",
    cls=Listed,
    listing=_devices,
    callback=checked(check_device),
    help="(default: the backend's own).",
)
training_device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=checked(check_device),
    help="cpu, cuda, cuda:N or mps.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Threads to compute with."
)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
model_file_option = click.option(
    "--model-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A Python file of your own with MODELS; it is run.",
)
pretrained_option = click.option(
    "--pretrained",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Published weights of a package's network, timm:NAME or torchvision:NAME.",
)
untrained_option = click.option(
    "--untrained", is_flag=True, help="Seeded, untrained weights: latency and memory only."
)


def _clusters() -> list[str]:
    from toolkit.clusters import cluster_words

    return cluster_words()


def _check_cluster(text: str) -> str:
    from toolkit.clusters import cluster_of

    cluster_of(text)
    return text


on_options = options(
    click.option(
        "--on",
        metavar="CLUSTER",
        cls=Listed,
        listing=_clusters,
        callback=checked(_check_cluster),
        help="Where to run (default: local, this machine).",
    ),
    click.option("--verbose", is_flag=True, help="Show what the cluster says itself, too."),
)


def backend_option(text: str) -> Callable[[Function], Function]:
    """Make the option that names a backend; `text` says what is taken without it."""
    return click.option("--backend", metavar="NAME", cls=Listed, listing=_backends, help=text)


precision_option = options(
    click.option(
        "--precision",
        type=click.Choice(get_args(Precision)),
        callback=_precision,
        help="Number format (default: fp32).",
    ),
    *map(short, SHORT),
)


def _precisions(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[Precision, ...]:
    """Fold --fp16 and --int8, which are parsed first, into several precisions; none where none is typed."""
    try:
        return tuple(dict.fromkeys([*map(as_precision, words(value)), *_short_of(context)]))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None


# for commands of several precisions: `precisions` holds what was typed, nothing where nothing was
precisions_option = options(
    click.option(
        "--precision",
        "precisions",
        callback=_precisions,
        metavar=",".join(get_args(Precision)),
        help="Number formats (default: fp32).",
    ),
    *map(short, SHORT),
)
columns_option = click.option(
    "--columns",
    metavar="ROLE=NAME,…",
    help="Columns of a table, as image=FILE,label=KIND; levels of a folder, as label=2.",
)


def _report(ending: str | None) -> Callable[[click.Context, click.Parameter, Path | None], Path | None]:
    def ask(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is None:
            return None
        if ending is not None and path.suffix.lower() != ending:
            kind = ending.removeprefix(".").upper()
            raise CnnkitError(f"{path} would be a {kind}; name it {path.with_suffix(ending).name}")
        refuse_unwritable(path)
        return path

    return ask


def report_option(word: str, text: str, *, ending: str | None = None) -> Callable[[Function], Function]:
    """Make the option of a file to write; what cannot be written is refused before any work (CnnkitError)."""
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(word, type=kind, callback=_report(ending), help=text)


def refuse_overwriting(*reports: Path | None, read: Iterable[Path | str | None]) -> None:
    """Raise CnnkitError for a report in the place of what is read, or of another report.

    `read` may hold data sets as they are typed, such as csv:FILE.
    """
    if not any(reports):
        return
    named = [str(source) for source in read if source is not None]
    places = [Path(text) for name in named for text in (name, name.partition(":")[2]) if text]
    sources = {place.resolve() for place in places if place.is_file()}
    for path in (path for path in reports if path is not None):
        if path.resolve() in sources:
            raise CnnkitError(f"{path} is read here and would be overwritten: name another file")
        if sum(path.resolve() == other.resolve() for other in reports if other is not None) > 1:
            raise CnnkitError(f"{path} was named for two reports: name another file")


def write_report(path: Path, text: str, more: str = "") -> None:
    """Write a text that was asked for, whole or not at all, and say so; `more` is said behind its name."""
    # names of files may be bytes that are no text
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
    say(f"wrote {path}{more}")


def typed(*names: str) -> bool:
    """Tell whether any of these parameters of the command that runs was typed."""
    source = click.get_current_context().get_parameter_source
    return any(source(name) is ParameterSource.COMMANDLINE for name in names)


def takes_choice(*, backend: str | None, device: str | None) -> bool:
    """Tell whether nothing was typed that overrules a choice: no backend, precision or device."""
    meta = click.get_current_context().meta
    short = any(meta.get(f"cnnkit.{word}") for word in SHORT)
    return backend is None and device is None and not short and not typed("precision", "precisions")


def no_choice(name: str) -> CnnkitError:
    """Return the error for a name of which nothing that was chosen holds here."""
    return CnnkitError(f"no choice of {name} holds here: `cnnkit choose {name}` makes one")


def emit(payload: Any) -> None:
    """Print one JSON object on stdout, and nothing else there."""
    text = json.dumps(schema.plain(payload), ensure_ascii=False, allow_nan=False)
    # names of files may be bytes that are no text: written so, they are what JSON reads as those names again
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def say(text: str) -> None:
    """Tell a person something on stderr, without markup."""
    stderr.print(text, markup=False, soft_wrap=True)


def progress() -> Progress:
    """Return a bar on stderr that vanishes when it is done; nothing where no person looks."""
    from rich.progress import Progress

    return Progress(console=stderr, transient=True, disable=not stderr.is_terminal)


def steps_on(progress: Progress) -> Step:
    """Return what shows each step of some work as a bar of its own."""
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=of)
        progress.update(tasks[what], completed=done, total=of)

    return show


def print_table(table: Table) -> None:
    """Print a table on stdout; into a pipe or a file at its full width, since no screen bounds it."""
    if stdout.is_terminal:
        stdout.print(table)
        return
    wide = Console(highlight=False, width=10_000)
    wide.width = max(stdout.width, wide.measure(table).maximum)
    wide.print(table)


def as_rich(table: TextTable, **settings: Any) -> Table:
    """Return a table for the terminal, with rich.Table's settings; nothing in its texts is markup."""
    made = Table(
        title=escape(table.title) or None, title_justify="left", show_header=bool(table.head), **settings
    )
    names = len(table.head) - table.figures
    for index, heading in enumerate(table.head):
        figure = index >= names
        made.add_column(
            escape(heading), justify="right" if figure else "left", no_wrap=figure, overflow="fold"
        )
    for row in table.rows:
        made.add_row(*map(escape, row))
    if table.foot:
        made.add_section()
        made.add_row(*map(escape, table.foot))
    return made


def report_error(error: CnnkitError) -> int:
    """Print an expected failure in one line on stderr; return its exit status."""
    line = " ".join(str(error).split())
    stderr.print(f"error: {line}", markup=False, soft_wrap=True, style="bold red")
    return error.exit_status
