"""The exhaustive table of a network at a batch: what each way to run it loses, and how long it takes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.benchmarks.choose_networks import Trained, file_key
from tests.benchmarks.choose_store import Store, whereabouts
from toolkit import schema
from toolkit.choices import Budget, ChoiceLatency, Contender
from toolkit.choosing import Candidate, LostError
from toolkit.choosing.bays import OPENING_S, Bay, close_all, open_bays
from toolkit.choosing.judging import ChoiceJudge, Ruling
from toolkit.choosing.measuring import Timekeeper, Track
from toolkit.choosing.pictures import ChoicePictures
from toolkit.choosing.requests import OpenEngine, TimeCalls
from toolkit.choosing.tuning import costly
from toolkit.errors import CnnkitError
from toolkit.machine.cpu import cpu

# sets of fresh processes, rounds in each, and the seconds of a window
SETS, ROUNDS, WINDOW_S = 3, 4, 0.06
# what a process may take for one answer; where a compiler works within one `choose` waits no longer, either
LIMIT_S, COMPILING_S = 300.0, OPENING_S
# what opens slowly and is so much slower than the fastest in the first set is not opened for the others
FAR = 3.0


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One way to run a network as it was measured: the middle of its sets' medians, the worst of their p95.

    The contender holds its drop on every picture; `why` says why that is not known.
    """

    key: str
    contender: Contender
    sets: int = SETS
    why: str | None = None

    @property
    def median_ms(self) -> float:
        return self._latency.median

    @property
    def p95_ms(self) -> float:
        return self._latency.p95

    @property
    def _latency(self) -> ChoiceLatency:
        assert self.contender.latency_ms is not None
        return self.contender.latency_ms

    def allowed(self, points: float) -> bool:
        """Tell whether its whole interval lies within the points."""
        interval = self.contender.accuracy_drop_ci95
        return interval is not None and interval[1] <= Budget(max_accuracy_drop=points).points


@dataclass(frozen=True, kw_only=True)
class Table:
    """All entries, and the seconds that they took.

    `compiling_s`, in `timing_s`, are those of what opens slowly, until its first call was done.
    """

    entries: tuple[TableEntry, ...]
    timing_s: float
    compiling_s: float
    judging_s: float

    @property
    def seconds(self) -> float:
        return self.timing_s + self.judging_s

    @property
    def digest(self) -> str:
        """What tells it from the same table measured at another time."""
        return hashlib.sha256(json.dumps(self.plain()).encode()).hexdigest()[:12]

    def plain(self) -> dict[str, Any]:
        told: dict[str, Any] = schema.plain(self)
        return told

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Table:
        """Return a table as `plain` gave it."""
        return schema.convert(cls, data, what="a table of the benchmark")


@dataclass(kw_only=True)
class TimedSet:
    """Ways timed in turn in one set of fresh processes; `lost` says why some were not."""

    tracks: dict[str, Track]
    lost: dict[str, str]
    seconds: float
    compiling_s: float
    disturbed: float

    def times(self) -> dict[str, tuple[float, float]]:
        """Return each one's median and 95 % quantile in milliseconds; disturbed rounds are left out."""
        found = {key: track.latency(0.95) for key, track in self.tracks.items() if track.windows}
        return {key: (one.median, one.p95) for key, one in found.items() if one}


def timed_set(
    ones: Mapping[str, Candidate], pictures: ChoicePictures, batch: int, *, rounds: int = ROUNDS
) -> TimedSet:
    """Time candidates in turn in one set of fresh processes, by their own keys."""
    start, lost = time.monotonic(), dict[str, str]()
    tracks = {key: Track(key=key, batch=batch) for key in ones}
    bays: dict[str, Bay] = {}
    try:
        slow = {key: one for key, one in ones.items() if costly(one)}
        bays |= _opened(slow, pictures, lost, COMPILING_S)
        _compile(bays, batch, lost)
        compiling_s = time.monotonic() - start if slow else 0.0
        bays |= _opened({key: one for key, one in ones.items() if key not in slow}, pictures, lost)
        keeper = Timekeeper()
        keeper.run([tracks[key] for key in bays], bays, rounds=rounds, window_s=WINDOW_S)
    finally:
        close_all(bays)
    return TimedSet(
        tracks={key: track.undisturbed(keeper.disturbed) for key, track in tracks.items()},
        lost=lost | keeper.lost,
        seconds=time.monotonic() - start,
        compiling_s=compiling_s,
        disturbed=keeper.noisy(),
    )


def _opened(
    ones: Mapping[str, Candidate],
    pictures: ChoicePictures,
    lost: dict[str, str],
    limit_s: float = LIMIT_S,
) -> dict[str, Bay]:
    """Open candidates by keys of one's own: two files of one name are told apart by them."""
    bays, waiting = dict[str, Bay](), dict(ones)
    try:
        while waiting:
            turn: dict[str, str] = {}
            for key, one in waiting.items():
                turn.setdefault(one.key, key)
            why: dict[str, str] = {}
            asked = [opening(ones[key], pictures) for key in turn.values()]
            found = open_bays(asked, why, at_once=cpu().cores, limit_s=limit_s, opening_s=limit_s)
            bays |= {turn[key]: bay for key, bay in found.items()}
            lost |= {turn[key]: text for key, text in why.items()}
            waiting = {key: one for key, one in waiting.items() if key not in turn.values()}
    except BaseException:
        close_all(bays)
        raise
    return bays


def _compile(bays: dict[str, Bay], batch: int, lost: dict[str, str]) -> None:
    """Have what compiles in its first call do so, one on each core; what fails is closed, and noted."""
    keys, asked = list(bays), list[str]()
    while keys or asked:
        while keys and len(asked) < cpu().cores:
            asked.append(keys.pop(0))
            with _noted(bays, asked[-1], lost):
                bays[asked[-1]].ask(TimeCalls(batch=batch, seconds=0.0, wake_s=0.0))
        first = asked.pop(0)
        if first in bays:
            with _noted(bays, first, lost):
                bays[first].take()


@contextlib.contextmanager
def _noted(bays: dict[str, Bay], key: str, lost: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except LostError as error:
        lost[key] = str(error)
        bays.pop(key).close()


def opening(one: Candidate, pictures: ChoicePictures) -> OpenEngine:
    return OpenEngine(candidate=one, pictures=pictures.file, ready=pictures.ready, seed=0, model_file=None)


@dataclass(kw_only=True)
class WholeJudge:
    """Judges candidates on every picture, each in a fresh process, beside a baseline that is asked once."""

    base: Candidate
    pictures: ChoicePictures
    _judge: ChoiceJudge | None = None

    def ruling(self, one: Candidate) -> Ruling:
        """Judge a candidate; one that does not answer has no drop, and says why. Raises LostError."""
        judge = self._ready()
        try:
            with contextlib.closing(Bay(one, LIMIT_S)) as bay:
                bay.get(opening(one, self.pictures))
                return judge.judge(bay)
        except CnnkitError as error:
            return Ruling(why_not=str(error))

    def _ready(self) -> ChoiceJudge:
        if self._judge is None:
            with contextlib.closing(Bay(self.base, LIMIT_S)) as bay:
                bay.get(opening(self.base, self.pictures))
                # every picture counts here: the interval is as narrow as it can be
                found = ChoiceJudge(
                    baseline=bay, pictures=self.pictures, budget=Budget(), first=self.pictures.count
                )
                own = found.own()  # from here on it knows all of the baseline's answers
                if own.drop is None:
                    raise CnnkitError(f"the baseline is no reference: {own.why_not or 'nothing is labelled'}")
            self._judge = found
        return self._judge


def told(ruling: Ruling) -> dict[str, Any]:
    """Return a ruling as plain values; without a drop, why."""
    drop = ruling.drop
    return {
        "accuracy": ruling.accuracy,
        "points": drop.points if drop else None,
        "ci95": [drop.low, drop.high] if drop else None,
        "images": drop.images if drop else None,
        "why": None if drop else ruling.why_not,
    }


def keeps(lost: Mapping[str, Any], points: float) -> bool:
    """Tell whether a ruling's whole interval lies within the points, as `TableEntry.allowed` does."""
    return lost["ci95"] is not None and lost["ci95"][1] <= Budget(max_accuracy_drop=points).points


def table(
    network: Trained,
    batch: int,
    ones: Mapping[str, Candidate],
    judge: WholeJudge,
    store: Store,
) -> Table:
    """Return every way judged and timed, and the seconds of both, whenever that was.

    The answers are those of no batch, and are asked for once a network.
    """
    pictures, machine, stem = judge.pictures, whereabouts(), f"{network.file}.b{batch}"
    shown = {"machine": machine, "pictures": [pictures.source, pictures.count]}
    timed = {"machine": machine, "batch": batch, "times": [ROUNDS, WINDOW_S]}
    sets: list[dict[str, Any]] = []
    for number in range(1, SETS + 1):
        own = {key: one for key, one in ones.items() if not sets or not costly(one) or _near(key, sets[0])}
        rows = {**timed, "rows": sorted(own)}
        sets.append(
            store.kept(f"{stem}.set{number}.json", rows, lambda own=own: _one_set(own, pictures, batch))
        )
    files = {file_key(one): one for one in reversed(ones.values())}
    answers = store.kept(
        f"{network.file}.judged.json", {**shown, "files": sorted(files)}, lambda: _judged(files, judge)
    )
    entries = []
    for key, one in ones.items():
        found = [each["times"][key] for each in sets if key in each["times"]]
        far = costly(one) and not _near(key, sets[0])
        if not found or (len(found) < SETS and not far):
            why = next((each["lost"][key] for each in sets if key in each["lost"]), "it was not timed")
            print(f"  {one.contender(batch).label} is no row: {why}", flush=True)
            continue
        entries.append(_entry(key, one.contender(batch), found, answers["rulings"][file_key(one)]))
    made = Table(
        entries=tuple(entries),
        timing_s=sum(each["seconds"] for each in sets),
        compiling_s=sum(each["compiling_s"] for each in sets),
        judging_s=answers["seconds"],
    )
    # what a report draws: it is made of what is kept, so that it takes no time
    name, identity = f"{stem}.table.json", {**timed, **shown, "rows": sorted(ones), "table": made.digest}
    store.kept(name, identity, made.plain, begun=True)
    return made


def _near(key: str, first: Mapping[str, Any]) -> bool:
    """Tell whether a way ran in the first set, and not much slower than the fastest one there."""
    times = {name: median for name, (median, _) in first["times"].items()}
    return key in times and times[key] <= FAR * min(times.values())


def _one_set(ones: Mapping[str, Candidate], pictures: ChoicePictures, batch: int) -> dict[str, Any]:
    found = timed_set(ones, pictures, batch)
    took = {"seconds": found.seconds, "compiling_s": found.compiling_s, "disturbed": found.disturbed}
    return {**took, "times": found.times(), "lost": found.lost}


def _judged(files: Mapping[str, Candidate], judge: WholeJudge) -> dict[str, Any]:
    start = time.monotonic()
    rulings = {key: told(judge.ruling(one)) for key, one in files.items()}
    return {"seconds": time.monotonic() - start, "rulings": rulings}


def _entry(key: str, contender: Contender, times: list[list[float]], lost: Mapping[str, Any]) -> TableEntry:
    return TableEntry(
        key=key,
        sets=len(times),
        contender=measured(
            contender, statistics.median(ms for ms, _ in times), max(p95 for _, p95 in times), lost
        ),
        why=lost["why"],
    )


def measured(contender: Contender, median_ms: float, p95_ms: float, lost: Mapping[str, Any]) -> Contender:
    """Return a contender with its times and a ruling in it."""
    return replace(
        contender,
        latency_ms=ChoiceLatency(median=median_ms, p95=p95_ms),
        images_per_second=1e3 * contender.batch / median_ms,
        accuracy=lost["accuracy"],
        accuracy_drop=lost["points"],
        accuracy_drop_ci95=tuple(lost["ci95"]) if lost["ci95"] else None,
        images=lost["images"],
    )
