"""The contract of an exporter file: `EXPORTER`, an Exporter; and what an export is asked and answers."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_type_hints

from toolkit.artifacts import Artifact, artifacts_root
from toolkit.catalog import Shelf
from toolkit.choices import ALLOWED_POINTS
from toolkit.errors import CnnkitError, unknown_name
from toolkit.exporting.evidence import Evidence
from toolkit.passports import Dialect, Format, Precision
from toolkit.telling import Tell

Own = TypeVar("Own")
RangeMethod = Literal["minmax", "entropy", "percentile"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """How one field of an exporter's own options is typed: its help, the values it may have, a metavar."""

    help: str
    choices: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    metavar: str | None = None


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The own options of an exporter that has none."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export is asked for.

    `batches` are the smallest, usual and largest batch. `images` is on how many pictures answers are
    compared, None for all. `pixels` makes a graph that takes raw uint8 pixels, `softmax` one that gives
    probabilities. `max_accuracy_drop` None is ALLOWED_POINTS, judged where there are pictures to judge
    on. `path` names the very file to write. `size` closes an open height and width of a file from elsewhere,
    `output` names its output that holds the scores. `open_precision` says that nobody asked for `precision`:
    an exporter that has a choice may take another. `search_s` are the seconds in which int8 is judged and
    may look for layers that must stay in float, None for as long as that takes. `own` holds exporters' own
    options, one instance of a class.
    """

    root: Path = dataclasses.field(default_factory=artifacts_root)
    precision: Precision = "fp32"
    dialect: Dialect | None = None
    batches: tuple[int, ...] = (1, 32, 256)
    images: int | None = 1000
    seed: int = 0
    data_dir: Path | None = None
    model_file: Path | None = None
    name: str | None = None
    path: Path | None = None
    pixels: bool = False
    softmax: bool = False
    calibration: RangeMethod = "minmax"
    calibration_images: int = 512
    max_accuracy_drop: float | None = None
    explain: bool = False
    search_s: float | None = None
    size: tuple[int, int] | None = None
    output: str | None = None
    open_precision: bool = False
    own: tuple[Any, ...] = ()

    @property
    def allowed_points(self) -> float:
        """The points of accuracy that int8 may lose."""
        return ALLOWED_POINTS if self.max_accuracy_drop is None else self.max_accuracy_drop

    def own_of(self, kind: type[Own]) -> Own:
        """Return an exporter's own options, its defaults where none were given.

        Those of an exporter whose options extend this one's are its alone.
        """
        return next((one for one in self.own if type(one) is kind), kind())


@dataclass(frozen=True, kw_only=True)
class Need:
    """What an export is made from: the result of another exporter, at a precision and in a dialect."""

    exporter: str
    precision: Precision
    dialect: Dialect | None = None

    def options(self, options: ExportOptions) -> ExportOptions:
        """Return the options with which the needed artifact is made."""
        return dataclasses.replace(
            options, precision=self.precision, dialect=self.dialect, path=None, open_precision=False
        )


class Context(Protocol):
    """What the exports of one run share: gathered when first asked for, and only once."""

    @property
    def reference(self) -> Artifact:
        """What answers are held against: the artifact that the run began with."""

    @property
    def evidence(self) -> Evidence:
        """The pictures that exports are judged on, and the reference's answers to them."""

    def tell(self, text: str) -> None:
        """Say something to people."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An artifact that its consumer has opened, and what making it took."""

    artifact: Artifact
    seconds: float
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How an artifact's consumer answered its proof; `wrong` are the numbers of pictures that disagree.

    `max_abs_diff` is NaN where an answer was none; `latency_ms` is that of a batch of `batch`. `device` says
    what answered, `tools` with which versions.
    """

    images: int
    agree: int
    max_abs_diff: float
    latency_ms: float
    batch: int
    wrong: tuple[int, ...]
    device: str
    tools: Mapping[str, str]


class Exporter(ABC):
    """Turns an artifact of one format into one of another, and checks it before announcing it.

    `suffix` is that of its file or folder, `names_precision` whether fp32 stands in its file's name, too.
    `default` tells whether it is made where no format was typed; `reads` are the fields of ExportOptions
    that its result depends on, besides all of its own (`options`), `packages` those whose releases it
    depends on.
    """

    name: ClassVar[str]
    source_formats: ClassVar[tuple[Format, ...]]
    format: ClassVar[Format]
    suffix: ClassVar[str]
    names_precision: ClassVar[bool] = False
    precisions: ClassVar[tuple[Precision, ...]]
    default: ClassVar[bool] = False
    options: ClassVar[type[Any]] = NoOptions
    reads: ClassVar[tuple[str, ...]] = ("precision",)
    packages: ClassVar[tuple[str, ...]] = ()

    def needs(self, options: ExportOptions) -> Need | None:
        """Return what an export with these options is made from; None for the source of the run itself."""
        return None

    def prepare(self, options: ExportOptions) -> None:  # noqa: B027  (most exporters refuse nothing)
        """Raise UnavailableError, before any work is done, for options that cannot be had here."""

    def machine(self, options: ExportOptions) -> Mapping[str, Any]:
        """Return what of this machine the result depends on; a stored one of another is made anew."""
        return {}

    def ending(self, options: ExportOptions) -> str:
        """Return the ending of its file's name, from the dot on: `.onnx`, `.fp16.onnx`."""
        named = self.names_precision or options.precision != "fp32"
        return f".{options.precision}{self.suffix}" if named else self.suffix

    def again(self, made: Artifact) -> ExportOptions | None:
        """Return the options that make an artifact again in its place, as far as this machine has a say.

        None for what is the same on every machine.
        """
        return None

    def check(self, artifact: Artifact, threads: int | None, tell: Tell) -> Checked | None:
        """Let an artifact that no backend opens answer the proof it carries, by what it was made for.

        None where it carries none. Raises UnavailableError where what runs it is not here.
        """
        return None

    @abstractmethod
    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        """Write the artifact, open it with its consumer and compare its answers with the reference's.

        Without a context the source is the reference, and evidence is gathered for this export alone.
        Raises GateError when a check fails (nothing is left behind), UnavailableError when a part
        that was named is not on this machine.
        """


EXPORTERS = Shelf("exporters", "EXPORTER", Exporter, "format")


def default_formats() -> tuple[str, ...]:
    """Return the words of the exporters that work where no format was typed."""
    return tuple(found.name for found in EXPORTERS.all() if found.default)


def begins(source: Artifact, options: ExportOptions) -> bool:
    """Tell whether ways of exports begin with an artifact, as with a checkpoint; an engine is an end."""
    plain = dataclasses.replace(options, precision="fp32", dialect=None)
    kind = source.passport.format
    return any(kind in one.source_formats and one.needs(plain) is None for one in EXPORTERS.all())


def need_of(exporter: Exporter, source: Artifact, options: ExportOptions) -> Need | None:
    """Return what an export of a source is made from; None for the source itself.

    That is so of an end, and of a graph that came halved or quantised: it is taken as it is.
    """
    known = source.passport
    as_it_is = exporter.format == known.format and known.precision == options.precision
    if (known.quantised_by and as_it_is) or not begins(source, options):
        return None
    return exporter.needs(options)


def reaches(source: Artifact, word: str, options: ExportOptions) -> bool:
    """Tell whether a way of exports leads from an artifact to a format."""
    exporter = EXPORTERS.load(word)
    need = need_of(exporter, source, options)
    if need is None:
        return source.passport.format in exporter.source_formats
    return meets(source, need) or reaches(source, need.exporter, need.options(options))


def meets(artifact: Artifact, need: Need) -> bool:
    """Tell whether an artifact is what an export needs."""
    known = artifact.passport
    return (
        known.format == EXPORTERS.load(need.exporter).format
        and known.precision == need.precision
        and need.dialect in (None, known.int8_dialect)
    )


@dataclass(frozen=True, kw_only=True)
class OwnField:
    """A field of an exporter's own options as it is typed."""

    name: str
    option: Option
    default: Any

    def check(self, exporter: str, value: Any) -> None:
        """Raise CnnkitError for a value that the field cannot have."""
        about, what = self.option, f"{self.name} of {exporter}"
        if value == self.default:
            return
        if about.choices and value not in about.choices:
            raise unknown_name(what, str(value), about.choices)
        bounds = (about.low is None or value >= about.low, about.high is None or value <= about.high)
        if not all(bounds):
            raise CnnkitError(f"{what} is {value}; possible: {about.low} to {about.high}")


def own_fields(exporter: Exporter) -> Iterator[OwnField]:
    """Yield the fields of an exporter's own options in their order."""
    hints = get_type_hints(exporter.options, include_extras=True)
    for field in dataclasses.fields(exporter.options):
        option = next(one for one in hints[field.name].__metadata__ if isinstance(one, Option))
        yield OwnField(name=field.name, option=option, default=field.default)


def own_options(exporter: Exporter, given: Mapping[str, Any]) -> Any:
    """Return an exporter's own options from plain values. Raises CnnkitError for what it has not."""
    known = {field.name: field for field in own_fields(exporter)}
    for name, value in given.items():
        if name not in known:
            raise unknown_name(f"option of {exporter.name}", name, known)
        known[name].check(exporter.name, value)
    return exporter.options(**given)


def own_of_all(given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return every exporter's own options from plain values by name; exporters share what they both have."""
    names = {one: [field.name for field in dataclasses.fields(one.options)] for one in EXPORTERS.all()}
    return tuple(own_options(one, {n: given[n] for n in own if n in given}) for one, own in names.items())


def own_by_word(given: Mapping[str, Mapping[str, Any]]) -> tuple[Any, ...]:
    """Return every exporter's own options as they were given for some exporters by word.

    Raises NotFoundError with the nearest match for an exporter or an option that is not there.
    """
    shared: dict[str, Any] = {}
    for word, own in given.items():
        own_options(EXPORTERS.load(word), own)
        for name, value in own.items():
            if shared.setdefault(name, value) != value:
                raise CnnkitError(f"{name} is one option for all exporters: {shared[name]!r} or {value!r}?")
    return own_of_all(shared)
