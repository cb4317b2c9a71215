"""What every process does at once: take up what is newer, load and unload models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from serve.processes.line import LineClosedError
from serve.processes.member import ServingProcess
from serve.processes.messages import (
    FoundVersion,
    FoundVersions,
    Load,
    Look,
    Message,
    Obeyed,
    OpenedModel,
    TakeUp,
    Unload,
)
from serve.reload import EVERY_S
from toolkit.errors import CnnkitError
from toolkit.telling import Tell

Kind = TypeVar("Kind")
# a model and one of its versions
Served = tuple[str, str]
# what several processes find out is said once
SAME_S = 60.0
DIFFER = (
    "not reloaded: the processes do not open the same file of {} {}; all go on as they were, "
    "and it is tried again"
)


def agreed(found: Iterable[Iterable[FoundVersion]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the versions that all processes are to take up, and those that some could and others could not.

    A process that does not have a version open has no say in it.
    """
    wanted: dict[tuple[str, str], set[str]] = {}
    changes: set[tuple[str, str]] = set()
    for process in found:
        for one in process:
            wanted.setdefault((one.model, one.version), set()).add(one.newer or one.serving or "")
            if one.newer:
                changes.add((one.model, one.version))
    alike = [version for version in wanted if version in changes and len(wanted[version]) == 1]
    return alike, sorted(changes - set(alike))


class Together:
    """Asks all processes, one thing after the other: whatever one of them cannot, none of them does."""

    every_s = EVERY_S

    def __init__(self, members: Callable[[], list[ServingProcess]], tell: Tell) -> None:
        """`members` are the processes that are there."""
        self.one = asyncio.Lock()
        self.loaded: dict[str, None] = {}
        self.unloaded: set[str] = set()
        self._members = members
        self._tell = tell
        self._said: dict[str, float] = {}
        self._differ: set[tuple[str, str]] = set()

    def say(self, text: str) -> None:
        """Say a sentence once, however many processes say it."""
        now = asyncio.get_running_loop().time()
        self._said = {said: at for said, at in self._said.items() if now - at < SAME_S}
        if text not in self._said:
            self._tell(text)
        self._said[text] = now

    async def look(self) -> None:
        """Have all look for newer artifacts, and take up those that all could open.

        Where one cannot look, that is said, and the next look is as ever.
        """
        try:
            await self._look()
        except CnnkitError as error:
            self.say(f"not reloaded: {error}; it is tried again")

    async def _look(self) -> None:
        async with self.one:
            found = await self._all(Look(), FoundVersions)
            alike, others = agreed(one.versions for _, one in found)
            for version in others:
                if (
                    version in self._differ
                ):  # a file that was written between two looks is seen by all at the next
                    self.say(DIFFER.format(*version))
            self._differ = set(others)
            if alike or others:
                await self._take_up(alike, found)

    async def load(self, name: str) -> None:
        """Have all open a model of the folder, then answer with it. Raises CnnkitError where one cannot."""
        async with self.one:
            try:
                opened = await self._all(Load(name), OpenedModel)
            except CnnkitError:
                await self._all(TakeUp([], loaded=False), Obeyed)
                raise
            await self._take_up([], [])
            self.loaded[name] = None
            self.unloaded.discard(name)
        self._tell(f"loaded {opened[0][1].what}")

    async def unload(self, name: str) -> None:
        """Have all serve a model no more."""
        async with self.one:
            self.loaded.pop(name, None)
            self.unloaded.add(name)
            await self._all(Unload(name), Obeyed)
        self._tell(f"unloaded {name}")

    async def _take_up(
        self, versions: list[Served], found: Sequence[tuple[ServingProcess, FoundVersions]]
    ) -> None:
        """Have all answer with versions; the first that found a newer one counts it, for all."""
        first: dict[Served, ServingProcess] = {}
        for member, process in found:
            for one in process.versions:
                if one.newer:
                    first.setdefault((one.model, one.version), member)

        def order(member: ServingProcess) -> TakeUp:
            return TakeUp(versions, counted=[one for one in versions if first.get(one) is member])

        members = self._members()
        await asyncio.gather(*(self._ask(member, order(member), Obeyed) for member in members))

    async def _all(self, message: Message, kind: type[Kind]) -> list[tuple[ServingProcess, Kind]]:
        """Return everyone's answer, but of who ended meanwhile. Raises CnnkitError once all have answered."""
        members = self._members()
        found = await asyncio.gather(
            *(self._ask(member, message, kind) for member in members), return_exceptions=True
        )
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return [
            (member, one)
            for member, one in zip(members, found, strict=True)
            if one is not None and not isinstance(one, BaseException)
        ]

    async def _ask(self, member: ServingProcess, message: Message, kind: type[Kind]) -> Kind | None:
        try:
            return await member.line.ask(message, kind)
        except LineClosedError:
            return None
