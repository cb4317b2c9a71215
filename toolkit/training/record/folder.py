"""A run's folder: what it was started with, its states and checkpoints, and who is at work in it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from toolkit.artifacts import write_json
from toolkit.errors import CnnkitError, CorruptError, NotFoundError

if TYPE_CHECKING:
    from toolkit.training import Job

_FACTS, _REPORT, _LOCK = "run.json", "report.json", "run.lock"


class RunFolder:
    """One run's folder, locked while a process works in it: a second one cannot resume it meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = lock(path / _LOCK)
        if self._lock is None:
            raise CnnkitError(f"another process is training in {path}; wait for it or stop it")

    @classmethod
    def new(cls, runs: Path) -> RunFolder:
        """Make a folder named after the time."""
        return cls(dated_folder(runs))

    @classmethod
    def unfinished(cls, runs: Path, asked: Mapping[str, Any]) -> RunFolder:
        """Open the newest run that was begun as `asked` (see `identity`) and not finished.

        Raises CnnkitError in words: NotFoundError where nothing is unfinished, CorruptError for a run
        that cannot be read, and where all were begun otherwise, in what the newest of them differs.
        """
        refusals: list[CnnkitError] = []
        for path in unfinished_runs(runs):
            try:
                wrong = differences(asked, _facts(path))
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

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write down what the run is started with."""
        write_json(self.path / _FACTS, facts)

    def facts(self) -> dict[str, Any]:
        """Read what the run was started with."""
        return _facts(self.path)

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write what came of the run; from here on it is finished."""
        write_json(self.path / _REPORT, report)
        self.close()
        (self.path / _LOCK).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove the folder of a start that failed, if the run never came to keep anything."""
        if {found.name for found in self.path.iterdir()} - {_FACTS, _LOCK}:
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


def _facts(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / _FACTS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path / _FACTS} cannot be read ({error}); start without --resume") from None
    return found


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
    """Return the folders of runs that were begun and not finished, the newest first."""
    begun = sorted((p.parent for p in runs.glob(f"*/{_FACTS}")), reverse=True)
    return [path for path in begun if not (path / _REPORT).exists()]


def lock(path: Path) -> IO[str] | None:
    """Open and lock a file until it is closed or the process ends; None while another process has it."""
    stream = path.open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


def identity(job: Job, fingerprint: str) -> dict[str, Any]:
    """Return what makes a run the run it is; a resumed one must be asked for alike."""
    return {
        "model": job.model.name,
        "recipe": dataclasses.asdict(job.recipe),
        "dataset": job.dataset_name,
        "fingerprint": fingerprint,
        "size": job.size,
        "images": job.images,
        "seed": job.seed,
        "device": job.device,
        "loader": job.loader,
        "pretrained": job.pretrained,
        "freeze": job.freeze,
    }


def differences(asked: Mapping[str, Any], begun: Mapping[str, Any]) -> list[str]:
    """Say where what is asked for differs from what a run was begun with."""
    asked, begun = (json.loads(json.dumps(facts)) for facts in (asked, begun))
    flat_asked, flat_begun = ({**facts, **facts.get("recipe", {})} for facts in (asked, begun))
    ignored = {"recipe", "changed", "name", "source", "assumed"}
    if asked["fingerprint"] == begun.get("fingerprint"):
        ignored.add("dataset")  # the same pictures by another path
    return [
        f"{key} {flat_begun.get(key)!r}, now {value!r}"
        for key, value in flat_asked.items()
        if key not in ignored and value != flat_begun.get(key)
    ]
