"""What the benchmark of choosing measured, as JSON files that say what they hold for."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toolkit import schema
from toolkit.artifacts import write_json
from toolkit.choices import this_machine
from toolkit.choosing.choose import versions


class NotMeasuredError(Exception):
    """What a report asks for was not measured."""


class TimeUpError(Exception):
    """Nothing new begins."""


@functools.cache
def whereabouts() -> dict[str, Any]:
    """Return what figures of this machine depend on: the processor, its system and each runtime's release."""
    releases = {name: text for name, text in versions().items() if text} | {"cnnkit": version("cnnkit")}
    told: dict[str, Any] = schema.plain(this_machine(releases))
    # a virtual machine's memory differs by some pages from one start to the next
    told["memory_gib"] = round((told.pop("memory_bytes") or 0) / 2**30)
    return told


@dataclass(frozen=True, kw_only=True)
class Store:
    """Files of a folder; nothing new begins after `ends`, nor where this is a `report`.

    Each holds `identity`, what its figures depend on (the machine, runtimes, files by hash, the list of what
    was measured), and `measured`. Other figures than those of this identity are never returned.
    """

    folder: Path
    ends: float
    report: bool

    def insist(self, what: str) -> None:
        """Raise NotMeasuredError where this is a report, TimeUpError where the time is up."""
        if self.report:
            raise NotMeasuredError(what)
        if time.monotonic() > self.ends:
            raise TimeUpError(f"the time is up before {what}: the same command goes on")

    def kept(
        self,
        name: str,
        identity: Mapping[str, Any],
        measure: Callable[[], Any],
        *,
        again: Callable[[Any], bool] = lambda measured: False,
        begun: bool = False,
    ) -> Any:
        """Return what a file holds, measured now where it is missing, another's, or to be done `again`.

        Raises what `insist` does, but for what belongs to something that has `begun`, and what `measure`
        does: then the file is as it was.
        """
        wanted, found = json.loads(json.dumps(identity)), self._read(name)
        if found is not None and found.get("identity") == wanted and not again(found["measured"]):
            return found["measured"]
        if not begun:
            self.insist(name)
        why = "" if found is None else f", anew: {_differing(found.get('identity'), wanted)}"
        print(f"  {name} …{why}", flush=True)
        write_json(self.folder / name, {"identity": wanted, "measured": measure()})
        return self.measured(name)

    def measured(self, name: str) -> Any:
        """Return what a file holds, whatever for. Raises NotMeasuredError where there is none."""
        found = self._read(name)
        if found is None or "identity" not in found:
            raise NotMeasuredError(name)
        return found["measured"]

    def identity(self, name: str) -> dict[str, Any]:
        """Return what a file holds for; nothing where it is not there."""
        return (self._read(name) or {}).get("identity") or {}

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        return dict(json.loads(path.read_text())) if path.exists() else None


def _differing(then: Any, now: Mapping[str, Any]) -> str:
    if not isinstance(then, Mapping):
        return "what is there does not say what it holds for"
    names = list(_paths(then, now))
    # many files, or rows, may be others
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"other {few}" if names else "it is to be done again"


def _paths(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of what differs, inside of what has names itself, too."""
    for name in dict.fromkeys((*now, *then)):
        old, new = then.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from (f"{name}.{inner}" for inner in _paths(old, new))
        elif old != new:
            yield name
