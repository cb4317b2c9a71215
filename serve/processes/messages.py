"""What the parent and its processes say to one another, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from serve.counts import Counts
from serve.settings import ServeSettings


class Begin(Struct, tag=True):
    """How to serve. `number` is the process's, 0 for the one that has the page.

    The page's requests pass by the Unix socket `page_socket`, None where there is no page. `loaded` and
    `unloaded` are the models that were taken up and given up since the first process began.
    """

    models: tuple[str, ...]
    settings: ServeSettings
    number: int
    page_socket: Path | None
    loaded: tuple[str, ...]
    unloaded: tuple[str, ...]


class Started(Struct, tag=True):
    """The models are warm; `memory_bytes` is what the process holds, None where the system does not say."""

    names: tuple[str, ...]
    memory_bytes: int | None


class Refused(Struct, tag=True):
    """Why what was asked cannot be, and the exit status that this would have."""

    why: str
    exit_status: int


class Obeyed(Struct, tag=True):
    """What was asked is done."""


class Said(Struct, tag=True):
    """A sentence for people."""

    text: str


class BeReady(Struct, tag=True):
    """Whether to be ready."""

    ready: bool


class Count(Struct, tag=True):
    """Ask for what was counted: of a process by it alone, of the parent by all of them."""


class Look(Struct, tag=True):
    """Open what is newer than what is served, and hold it."""


class FoundVersion(Struct):
    """A version: the hash of the file that is open, and of the one that was opened to take over."""

    model: str
    version: str
    serving: str | None
    newer: str | None


class FoundVersions(Struct, tag=True):
    """Every version that is open."""

    versions: list[FoundVersion]


class Load(Struct, tag=True):
    """Open a model of the folder, and hold it."""

    name: str


class OpenedModel(Struct, tag=True):
    """What was opened, in words."""

    what: str


class TakeUp(Struct, tag=True):
    """Answer with what is held: these versions, and with `loaded` the model that was opened; drop all else.

    Those that are `counted` this process counts and says, for all.
    """

    versions: list[tuple[str, str]]
    counted: list[tuple[str, str]] = []
    loaded: bool = True


class Unload(Struct, tag=True):
    """Serve a model no more."""

    name: str


class Stop(Struct, tag=True):
    """Take no connection any more, answer who was let in, end; or end `now`."""

    now: bool = False


class OthersEnded(Struct, tag=True):
    """Tell the process that has the page that nobody passes requests on to it any more."""


class ToldToStop(Struct, tag=True):
    """Tell the parent that a signal to stop came to its process."""


Message = (
    Begin
    | Started
    | Refused
    | Obeyed
    | Said
    | BeReady
    | Count
    | Counts
    | Look
    | FoundVersions
    | Load
    | OpenedModel
    | TakeUp
    | Unload
    | Stop
    | OthersEnded
    | ToldToStop
)


class Frame(Struct):
    """A message; `number` joins a question and its answer, and is 0 where none is expected."""

    number: int
    is_answer: bool
    message: Message


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not travel between processes")


def _path(kind: type, value: Any) -> Any:
    return kind(value)


ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
DECODER = msgspec.msgpack.Decoder(Frame, dec_hook=_path)
