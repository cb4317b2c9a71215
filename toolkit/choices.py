"""`<name>.choice.json`: what `cnnkit choose` confirmed for a network, and whether it holds here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit import schema
from toolkit.artifacts import CHECKPOINT, Artifact, artifact_name, find_artifacts, is_shipped, write_json
from toolkit.errors import CorruptError
from toolkit.machine.cpu import cpu
from toolkit.machine.cuda import gpus
from toolkit.machine.survey import physical_memory, system_name
from toolkit.passports import SYMMETRIC, Dialect, Passport, Precision
from toolkit.schema import Amount, Count, Magnitude, Positive, Rate, Share, Signed

SCHEMA = 1
SUFFIX = ".choice.json"
# in a network's folder: the artifacts folder of files that were made for one budget of accuracy alone
BUDGETS = "budgets"
AGAIN = "choose again"
# points of accuracy that a lower precision may lose where nothing else was typed
ALLOWED_POINTS = 0.5
# at 0 points the whole interval must lie within this: no number of pictures makes one of no width
NOTHING_LOST_POINTS = 0.3
# a virtual machine's memory differs by some pages from one start to the next
MEMORY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class ChoiceMachine:
    """The kind of machine that a choice holds for; `versions` are those of the runtimes by backend.

    `gpus` are its GPUs where the chosen backend runs on one, else none.
    """

    processor: str
    instruction_sets: tuple[str, ...]
    cores: Positive
    memory_bytes: Count | None = None
    system: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()

    def differs(self, here: ChoiceMachine, backend: str) -> str | None:
        """Say how a machine differs from the one that a backend was chosen on; None where it does not."""
        wanted, have = self.versions.get(backend), here.versions.get(backend)
        pairs = {
            "processor": (self.processor, here.processor),
            "instruction sets": (", ".join(self.instruction_sets), ", ".join(here.instruction_sets)),
            "cores": (str(self.cores), str(here.cores)),
            "system": (self.system or here.system, here.system),
            # a runtime that tells no release is not known to be another one
            f"release of {backend}": (wanted or "unknown", have or ("none" if wanted else "unknown")),
            "GPUs": (", ".join(self.gpus), ", ".join(here.gpus) or "none" if self.gpus else ""),
        }
        for what, (then, now) in pairs.items():
            if then != now:
                return (
                    f"its {what} were {then}, here {now}"
                    if what[-1] == "s"
                    else f"its {what} was {then}, here {now}"
                )
        least = MEMORY_SHARE * (self.memory_bytes or 0)
        return "it had more memory" if here.memory_bytes is not None and here.memory_bytes < least else None


def this_machine(versions: Mapping[str, str], *, on_gpu: bool = False) -> ChoiceMachine:
    """Return this machine as choices are held for, its GPUs only for one of a backend that runs `on_gpu`.

    Imports no runtime.
    """
    here = cpu()
    return ChoiceMachine(
        processor=here.name,
        instruction_sets=here.instruction_sets,
        cores=here.cores,
        memory_bytes=physical_memory(),
        system=system_name(),
        versions=dict(versions),
        # a driver takes its time to start
        gpus=tuple(f"{gpu.name} ({gpu.capability})" for gpu in gpus()) if on_gpu else (),
    )


@dataclass(frozen=True, kw_only=True)
class ChoiceLatency:
    """Milliseconds of one call of a batch; `quantile_ms` is that of the budget's own quantile."""

    median: Amount
    p95: Amount
    quantile_ms: Amount | None = None
    windows: Count = 0


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to run a network, and what was measured of it; what was not is None.

    `accuracy_drop` is in points, with its interval; `gain` how many times faster than the baseline it is.
    `settings` are those of the backend's own that are not its defaults, `threads` None its default.
    """

    backend: str
    artifact: str
    precision: Precision
    dialect: Dialect | None = None
    threads: Positive | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    batch: Positive = 1
    latency_ms: ChoiceLatency | None = None
    images_per_second: Rate | None = None
    accuracy: Share | None = None
    accuracy_drop: Signed | None = None
    accuracy_drop_ci95: tuple[Signed, Signed] | None = None
    images: Count | None = None
    max_difference: Amount | None = None
    memory_bytes: Count | None = None
    gain: Rate | None = None
    gain_ci95: tuple[Rate, Rate] | None = None

    @property
    def picture_ms(self) -> float:
        """The median milliseconds of a picture; infinite where nothing was measured."""
        return self.latency_ms.median / self.batch if self.latency_ms else math.inf

    @property
    def label(self) -> str:
        """What people call it: `ort int8, 1 thread, spinning off`."""
        kind = f" {self.dialect}" if self.dialect == SYMMETRIC else ""
        parts = [f"{self.backend} {self.precision}{kind}"]
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        parts += [f"{name.replace('_', '-')} {value}" for name, value in self.settings.items()]
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The median milliseconds of a call of so many pictures.

    Where the budget asked for them: the milliseconds that its own quantile of such calls will hardly exceed,
    and the most bytes that the process held by then.
    """

    batch: Positive
    latency_ms: Rate
    quantile_ms: Rate | None = None
    memory_bytes: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a choice must keep: a quantile of the calls' latency, points of accuracy, the process's memory.

    `throughput` asks for the most pictures a second instead of the least median latency.
    """

    within_ms: Rate | None = None
    quantile: Share = 0.95
    throughput: bool = False
    max_accuracy_drop: Magnitude = ALLOWED_POINTS
    memory_bytes: Count | None = None

    @property
    def points(self) -> float:
        """The points below which the whole interval of a drop must lie."""
        return self.max_accuracy_drop or NOTHING_LOST_POINTS

    def allows(self, point: CurvePoint) -> bool:
        """Tell whether calls were measured to keep to the latency and the memory that are asked for."""
        if self.within_ms is not None and not (point.quantile_ms or math.inf) <= self.within_ms:
            return False
        most, held = self.memory_bytes, point.memory_bytes
        return most is None or (held is not None and held <= most)


@dataclass(frozen=True, kw_only=True)
class ChoiceFile:
    """What `choose` wrote for a name: the chosen `file`, its hash, and that of its `weights`.

    `pictures_from` is the data set or the pack that was named to judge on, None for the network's own;
    `unjudged` tells that what they could not judge might be chosen, too.
    """

    model: str
    file: str
    sha256: str
    weights: str | None
    chosen: Contender
    baseline: Contender
    machine: ChoiceMachine
    budget: Budget = field(default_factory=Budget)
    curve: tuple[CurvePoint, ...] = ()
    pictures: str | None = None
    pictures_from: str | None = None
    unjudged: bool = False
    created: str = ""
    schema: int = SCHEMA

    @property
    def most_batch(self) -> int | None:
        """The most pictures of a call that keeps to the latency and the memory asked for; None: any number.

        At its own batch what was chosen was confirmed to keep to both; of larger ones the curve tells it.
        """
        if self.budget.within_ms is None and self.budget.memory_bytes is None:
            return None
        own = self.chosen.batch
        kept = itertools.takewhile(lambda one: one.batch <= own or self.budget.allows(one), self.curve)
        return max([own, *(point.batch for point in kept)])


@dataclass(frozen=True, kw_only=True)
class FoundChoice:
    """A choice that holds here, or in words why the one that lies here does not."""

    file: ChoiceFile | None
    path: Path
    why_not: str | None = None


def choice_path(root: Path, name: str) -> Path:
    """Return where a name's choice lies."""
    return root / name / f"{name}{SUFFIX}"


def budget_root(root: Path, name: str) -> Path:
    """Return the artifacts folder of what `choose` makes for one budget where another's file lies already."""
    return root / artifact_name(name) / BUDGETS


def find_choosable(root: Path, name: str) -> list[tuple[Path, Passport]]:
    """Return a name's artifacts and those that `choose` made for one budget alone, newest first.

    The name opens the latter by a choice alone.
    """
    found = find_artifacts(root, name)
    if found:
        beside = find_artifacts(budget_root(root, name), name)
        found += [entry for entry in beside if not is_shipped(entry[0])]
    return sorted(found, key=lambda entry: entry[1].created or "", reverse=True)


def write_choice(path: Path, choice: ChoiceFile) -> None:
    """Write a choice whole or not at all. Raises CnnkitError."""
    write_json(path, schema.plain(choice))


def read_choice(path: Path) -> ChoiceFile | None:
    """Return a name's choice; None where there is none. Raises CorruptError in one line."""
    try:
        data = schema.read_json(path, again=AGAIN)
    except FileNotFoundError:
        return None
    if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
        raise CorruptError(f"{path} has schema {data['schema']!r}; this release reads {SCHEMA}: {AGAIN}")
    return schema.convert(ChoiceFile, data, what=str(path), again=AGAIN)


def weights_of(root: Path, name: str) -> str | None:
    """Return the hash of a name's newest finished weights: its checkpoint's, else those of its newest graph.

    Weights that ship stand behind what lies in the folder since.
    """
    finished = [(path, known) for path, known in find_artifacts(root, name) if known.trained is not False]
    shipped = {path for path, _ in finished if is_shipped(path)}
    whole = bool(finished) and finished[0][0] in shipped
    newest_first = [known for path, known in finished if whole or path not in shipped]
    checkpoint = (known for known in newest_first if known.format == CHECKPOINT)
    plain = (known for known in newest_first if known.precision == "fp32")
    newest = next((known for ones in (checkpoint, plain, newest_first) for known in ones), None)
    return None if newest is None else origin_among(newest, [known for _, known in finished])


def origin_of(root: Path, source: Artifact) -> str | None:
    """Return the hash of the weights that an artifact descends from, as `weights_of` tells the newest."""
    return origin_among(source.passport, [known for _, known in find_choosable(root, source.name)])


def first_source(root: Path, source: Artifact) -> Passport:
    """Return the passport of what is furthest up, of what is here, in what an artifact was made of."""
    return _first(source.passport, [known for _, known in find_choosable(root, source.name)])


def _first(known: Passport, here: Sequence[Passport]) -> Passport:
    by_hash = {one.sha256: one for one in here}
    for _ in here:
        known = by_hash.get(known.source_sha256 or "", known)
    return known


def origin_among(known: Passport, here: Sequence[Passport]) -> str | None:
    """Return the hash of the checkpoint, or else of the graph, that is furthest up what was made of what."""
    known = _first(known, here)
    return known.sha256 if known.format == CHECKPOINT else known.source_sha256 or known.sha256


def not_opened(choice: ChoiceFile, root: Path) -> str | None:
    """Say why the name of a choice does not open it under a folder; None where it does."""
    if choice.weights != weights_of(root, choice.model):
        return "it was made of other weights than the newest"
    if chosen_path(choice, root) is None:
        return f"{choice.file}, which was chosen, is not here any more"
    return None


def find_choice(root: Path, name: str, release: Callable[[str], str | None]) -> FoundChoice | None:
    """Return a name's choice, held against this machine and the folder's files; None where there is none.

    `release` tells which release of a backend's runtime is here, None for none.
    """
    path = choice_path(root, name)
    try:
        found = read_choice(path)
    except CorruptError as error:
        told = str(error).removesuffix(f"; {AGAIN}").removeprefix(f"{path} ")
        return FoundChoice(file=None, path=path, why_not=f"it {told}")
    if found is None:
        return None
    backend = found.chosen.backend
    version = release(backend)
    here = this_machine({backend: version} if version else {}, on_gpu=bool(found.machine.gpus))
    why = found.machine.differs(here, backend)
    if why is not None:
        return FoundChoice(file=None, path=path, why_not=f"it was made on another machine ({why})")
    why = not_opened(found, root)
    return FoundChoice(file=None if why else found, path=path, why_not=why)


def chosen_path(choice: ChoiceFile, root: Path) -> Path | None:
    """Return where the chosen file lies under a folder, or among what ships; None where it does not."""
    here = find_choosable(root, choice.model)
    same = (path for path, known in here if (path.name, known.sha256) == (choice.file, choice.sha256))
    return next(same, None)
