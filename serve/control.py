"""Models taken up and given up while serving, by name, from the artifacts folder: `--model-control`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from serve.lineup import line_up
from serve.registry import Registry
from serve.served import ServedModel
from serve.settings import ServeSettings
from toolkit.artifacts import check_name, find_artifacts
from toolkit.errors import NotFoundError


class Control(Protocol):
    """What loads and unloads models: of this process, or of all that answer on one port."""

    async def load(self, name: str) -> None:
        """Serve the newest artifact of a name. Raises CnnkitError; what was served before then goes on."""

    async def unload(self, name: str) -> None:
        """Serve a model no more, once whoever waits for it is answered."""


class ModelControl:
    """Loads and unloads one model at a time; requests go on meanwhile."""

    def __init__(self, registry: Registry, settings: ServeSettings, say: Callable[[str], None]) -> None:
        self.registry = registry
        self.settings = settings
        self.say = say
        self._one = asyncio.Lock()

    async def load(self, name: str) -> None:
        """Open the newest artifact of a name and serve it; one that is served already is opened anew.

        Whoever came to the former one is answered by it. Raises CnnkitError where there is none, or it cannot
        be opened; what was served before goes on.
        """
        async with self._one:
            model = await self.opened(name)
            self.registry.take_up(model)
        self.say(f"loaded {model.said}")

    async def opened(self, name: str) -> ServedModel:
        """Return a model of the folder, opened, which is not served yet. Raises CnnkitError."""
        check_name(name)
        return await asyncio.to_thread(self._open, name)

    def _open(self, name: str) -> ServedModel:
        # names mean artifacts here: a network that nobody exported or trained is not made for a request
        opening = replace(self.settings.opening, untrained=False, model_file=None)
        if not find_artifacts(opening.root, name):
            raise NotFoundError(f"there is no artifact of that name in {opening.root}")
        (model,) = line_up(
            (name,),
            self.settings.backend,
            opening,
            others=False,
            choices=self.settings.choices,
            tell=self.say,
        )
        model.classifier()
        model.look()
        return model

    async def unload(self, name: str) -> None:
        """Take no more requests for a model, answer those that wait, and free it. Raises NotFoundError."""
        async with self._one:
            await self.registry.give_up(name)
        self.say(f"unloaded {name}")
