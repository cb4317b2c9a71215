"""A run's whole state on disk: safetensors with the progress as JSON inside, whole or not at all.

`good.state` is the end of the last good epoch, to which the divergence guard goes back; `latest.state`
is anything newer. The one with more ticks is where a resumed run goes on. Of several ranks the first one
writes and reads, and the others are given what it has read.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit import schema
from toolkit.artifacts import writing
from toolkit.errors import CnnkitError, CorruptError
from toolkit.training.compute.ranks import Ranks
from toolkit.training.loop import Loop
from toolkit.training.progress import Progress
from toolkit.training.record.folder import GOOD
from toolkit.weights import give, unshared

# a save may cost so much of a run's time; large networks are then saved less often than asked
_SHARE = 0.04
# what states of older releases hold, and nothing ever read
_RETIRED = {"best_accuracy", "best_loss"}


class Snapshots:
    """Saves a loop's state in a run's folder; mid-epoch about every `every_s` seconds, 0 being each step."""

    def __init__(self, folder: Path | None, every_s: float, ranks: Ranks) -> None:
        """Keep states in a folder, which the first rank alone has."""
        here = folder or Path()
        self.good = here / GOOD
        self.latest = here / "latest.state"
        self._ranks = ranks
        self._every_s = every_s
        self._next = time.monotonic() + every_s

    def due(self) -> bool:
        """Tell whether it is time to save; the first rank's clock counts."""
        return self._ranks.leads and time.monotonic() >= self._next

    def tick(self, loop: Loop) -> None:
        """Save mid-epoch when it is time to."""
        if loop.accord.save:
            self.save(loop, self.latest)

    def has_good(self) -> bool:
        """Tell whether there is a good epoch's state."""
        return self._ranks.lead(self.good.exists)

    def save(self, loop: Loop, path: Path) -> None:
        """Write the loop's state; all ranks come here after the same step."""
        started = time.monotonic()
        loop.settle()
        if not self._ranks.leads:
            loop.start_clock()
            return
        progress = json.dumps(dataclasses.asdict(loop.progress))
        with writing(path) as part:
            try:
                save_file(unshared(_tensors(loop)), part, metadata={"progress": progress})
            except SafetensorError as error:
                raise CnnkitError(f"cannot write {path}: {error}; free some space, then --resume") from None
        loop.start_clock()
        now = time.monotonic()
        if self._every_s:
            self._next = now + max(self._every_s, (now - started) / _SHARE)

    def newest(self) -> Path | None:
        """Return the state to go on from, or None when there is none yet."""

        def look() -> Path | None:
            found = [path for path in (self.good, self.latest) if path.exists()]
            return max(found, key=lambda path: read_progress(path).ticks, default=None)

        return self._ranks.lead(look)

    def clear(self) -> None:
        """Remove the states; a finished run needs none."""
        if not self._ranks.leads:
            return
        self.good.unlink(missing_ok=True)
        self.latest.unlink(missing_ok=True)


def read_progress(path: Path) -> Progress:
    """Read where a saved run stands. Raises CorruptError."""
    again = "start again without --resume"
    try:
        with safe_open(path, "pt") as file:
            told = dict(json.loads(file.metadata()["progress"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    data = {key: value for key, value in told.items() if key not in _RETIRED}
    # a state holds what the run computed, losses that are no finite numbers among them
    found = schema.convert(Progress, data, what=str(path), again=again, finite=False)
    if unknown := schema.unknown(found, data):
        raise CorruptError(f"{path} holds {', '.join(unknown)}, which this release does not know; {again}")
    return found


def restore(loop: Loop, path: Path) -> None:
    """Bring a loop, on every rank, to the state that the first one reads. Raises CorruptError."""
    ranks = loop.setup.ranks
    loop.progress = ranks.lead(lambda: read_progress(path))
    loop.enter_phase()
    ranks.only_lead(lambda: _read_tensors(loop, path))
    if ranks.alone:
        return
    ranks.spread(list(_live_tensors(loop).values()))
    if loop.scaler is not None:
        loop.scaler.load_state_dict(ranks.lead(loop.scaler.state_dict))


def _read_tensors(loop: Loop, path: Path) -> None:
    try:
        found = load_file(path)
        give(loop.module, _part(found, "module."))
        if loop.average:
            for name, value in _part(found, "average.").items():
                loop.average.state[name].copy_(value)
        loop.optimizer.load(_part(found, "optimizer."))
        if loop.scaler is not None:
            kinds = loop.scaler.state_dict()
            scales = _part(found, "scaler.").items()
            loop.scaler.load_state_dict({key: type(kinds[key])(value.item()) for key, value in scales})
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> CorruptError:
    return CorruptError(f"{path} is damaged ({error}); start again without --resume")


def _tensors(loop: Loop) -> dict[str, Tensor]:
    """Return every tensor of a loop's state by name, plainly laid out."""
    named = _live_tensors(loop)
    if loop.scaler is not None:
        for key, value in loop.scaler.state_dict().items():
            named[f"scaler.{key}"] = torch.tensor(value, dtype=torch.float64)
    return {name: value.detach().cpu().contiguous() for name, value in named.items()}


def _live_tensors(loop: Loop) -> dict[str, Tensor]:
    """Return the tensors that a loop computes with, by name."""
    named = {f"module.{name}": value for name, value in loop.module.state_dict().items()}
    if loop.average:
        named |= {f"average.{name}": value for name, value in loop.average.state.items()}
    return named | {f"optimizer.{name}": value for name, value in loop.optimizer.tensors().items()}


def _part(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}
