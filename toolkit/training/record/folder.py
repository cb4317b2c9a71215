"""A run's folder: what it was started with, its states and checkpoints, and who is at work in it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import IO

from toolkit import schema
from toolkit.artifacts import write_json
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings.records import SUFFIX
from toolkit.locking import lock
from toolkit.presence import is_there, matching
from toolkit.training import TrainingReport
from toolkit.training.record.facts import RunFacts, differences

# the state at the end of the last good epoch
GOOD = "good.state"
# the epochs of a run's first attempt, where the guard went back or started afresh
FIRST_ATTEMPT = "first-attempt.csv"
# of pictures of one's own: what each was used for, and what was left out
PICTURES, LEFT_OUT = f"pictures{SUFFIX}", "left-out.txt"
# of a run that has ended
REPORT = "report.json"
_FACTS, _LOCK = "run.json", "run.lock"
# held beside the runs while other machines train in one of them, whose own lock is there
_AWAY = "elsewhere.lock"


class RunFolder:
    """One run's folder, locked while a process works in it: a second one cannot resume it meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = locked(path / _LOCK, f"is training in {path}")

    @classmethod
    def new(cls, runs: Path) -> RunFolder:
        """Make a folder named after the time."""
        return cls(dated_folder(runs))

    @classmethod
    def unfinished(cls, runs: Path, asked: RunFacts) -> RunFolder:
        """Open the newest run that was begun as `asked` and not finished.

        Raises CnnkitError in words: NotFoundError where nothing is unfinished, CorruptError for a run
        that cannot be read, and where all were begun otherwise, in what the newest of them differs.
        """
        if (runs / _AWAY).exists():
            with trained_elsewhere(runs):
                pass
        refusals: list[CnnkitError] = []
        for path in unfinished_runs(runs):
            try:
                wrong = differences(asked, read_facts(path))
            except CorruptError as error:
                refusals.append(error)
                continue
            if not wrong:
                return cls(path)
            refusals.append(
                CnnkitError(
                    f"the unfinished run {path} was begun otherwise: {'; '.join(wrong)}; give the same "
                    "options, or leave out --resume"
                )
            )
        if refusals:
            raise refusals[0]
        raise NotFoundError(
            f"no unfinished run in {runs} to resume; the same command without --resume starts one"
        )

    def begin(self, facts: RunFacts) -> None:
        """Write down what the run is started with."""
        data = asdict(facts)
        write_json(self.path / _FACTS, schema.merged(data, data.pop("kept")))

    def facts(self) -> RunFacts:
        """Read what the run was started with."""
        return read_facts(self.path)

    def finish(self, report: TrainingReport) -> None:
        """Write what came of the run; from here on it is finished."""
        write_json(self.path / REPORT, schema.plain(report))
        self.close()
        (self.path / _LOCK).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove the folder of a start that failed, if the run never came to keep anything."""
        if {found.name for found in self.path.iterdir()} - {_FACTS, _LOCK, PICTURES, LEFT_OUT}:
            return
        self.close()
        shutil.rmtree(self.path)
        with contextlib.suppress(OSError):  # other runs, or artifacts, lie there
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()

    def close(self) -> None:
        """Let others work in the folder."""
        if self._lock:
            self._lock.close()
            self._lock = None


def read_facts(path: Path) -> RunFacts:
    """Return what the run of a folder was begun with. Raises CorruptError."""
    what, again = str(path / _FACTS), "start without --resume"
    try:
        data = json.loads((path / _FACTS).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptError(f"{what} cannot be read ({error}); {again}") from None
    found = schema.convert(RunFacts, data, what=what, again=again)
    return replace(found, kept=schema.unknown(found, data))


def locked(path: Path, does: str) -> IO[str]:
    """Lock a file beside artifacts until it is closed; its folder is made where it is missing.

    Raises CnnkitError where another process has it, which says what that one `does`, where the file cannot be
    written, and where its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = lock(path)
    except OSError as error:
        raise CnnkitError(
            f"{path} cannot be locked: {error.strerror}; name another --artifacts folder"
        ) from None
    if stream is None:
        raise CnnkitError(f"another process {does}; wait for it or stop it")
    return stream


def dated_folder(parent: Path) -> Path:
    """Make a folder named after the time. Raises CnnkitError where none can be made."""
    stem = datetime.now().strftime("%Y%m%d-%H%M%S")
    for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
        try:
            (parent / name).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise CnnkitError(
                f"cannot make {parent / name}: {error.strerror}; name another --artifacts folder"
            ) from None
        return parent / name
    raise CnnkitError(f"{parent} has a thousand folders of one second; name another --artifacts folder")


def unfinished_runs(runs: Path) -> list[Path]:
    """Return the folders of runs that were begun and not finished, the newest first.

    Raises CorruptError for one that may not be read.
    """
    begun = sorted((path.parent for path in matching(runs, "*", _FACTS)), reverse=True)
    return [path for path in begun if not is_there(path / REPORT)]


@contextlib.contextmanager
def trained_elsewhere(runs: Path, *, resume: bool = False) -> Iterator[None]:
    """Hold a network's runs while other machines train in them; unfinished ones, too, where one is resumed.

    Raises CnnkitError where another process of this machine is at work there, or nothing can be locked.
    """
    wanted = {runs / _AWAY: "trains on a cluster for"}
    wanted |= {run / _LOCK: "is training in" for run in (unfinished_runs(runs) if resume else [])}
    with contextlib.ExitStack() as stack:
        for path, does in wanted.items():
            stack.enter_context(locked(path, f"{does} {path.parent}"))
            if path.name == _AWAY:
                stack.callback(path.unlink, missing_ok=True)  # while it is held
        yield
