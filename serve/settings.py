"""Everything that serving can be told, as one tree: `ServeSettings`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.artifacts import Artifact, artifacts_root
from toolkit.backends import BACKENDS, DEFAULT_BACKEND, EngineOptions
from toolkit.choices import CurvePoint
from toolkit.exporting.advising import advising
from toolkit.images import MAX_BYTES, MAX_PIXELS
from toolkit.opening import Selection, open_model

# Longer than nginx (60 s), Caddy (120 s) and the balancers of the large clouds (60 s) keep a connection: the
# side that closes first must be the proxy, or it sends a request into a connection that is being closed.
KEEP_ALIVE_S = 150.0


# callers in company wait so long where nobody measured what waiting saves
USUAL_DELAY_MS = 2.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture may weigh before it is decoded."""

    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class BatchingSettings:
    """How callers are put together. `max_batch` 1 turns batching off; `max_waiting` counts rows.

    `curve` is what batches were measured to take, where the network was chosen: then callers wait no longer
    than that saves, nor than a given `delay_ms` (None: USUAL_DELAY_MS), and no more run together than
    answer the most rows a second, nor than keep to the latency and the memory that were asked for.
    """

    max_batch: int = 32
    delay_ms: float | None = None
    max_waiting: int = 512
    curve: tuple[CurvePoint, ...] = ()

    @property
    def most_delay_ms(self) -> float:
        """How long callers in company wait at most, whatever waiting saves."""
        return USUAL_DELAY_MS if self.delay_ms is None else self.delay_ms


@dataclass(frozen=True, kw_only=True)
class OpeningSettings(Selection):
    """Which artifacts are opened, and how, and what pictures for them may weigh.

    `chosen` are the backend's own settings by name; `most_threads` is what an engine may
    take of the cores where others have their part of them.

    Their formats are each backend's own.
    """

    root: Path = field(default_factory=lambda: artifacts_root(None))
    device: str | None = None
    threads: int | None = None
    most_threads: int | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def options(self) -> EngineOptions:
        """Return how engines are opened."""
        # a server shares its cores with the event loop, so idle engine threads must not spin, unless
        # that was chosen
        return EngineOptions(
            device=self.device,
            threads=min((n for n in (self.threads, self.most_threads) if n), default=None),
            model_file=self.model_file,
            yields=True,
            chosen=self.chosen,
        )

    def selection(self, backend: str) -> Selection:
        """Return what a backend can open of what was chosen. Raises NotFoundError for an unknown backend."""
        return BACKENDS.load(backend).opens(self)

    def find(self, model: str | None, backend: str) -> Artifact:
        """Resolve MODEL for a backend as every command does. Raises NotFoundError in words."""
        with advising(model, self):
            return open_model(model, self.selection(backend))


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How models are served: by which backend, to whom, and for how long.

    `port` 0 is any free one. `page` False leaves out the page and needs no Gradio. `deadline_s` holds for
    a request, body and all. `auth` is `user:password`, `token` a bearer's; None asks for nothing.

    Behind a proxy: `public_names` are the host names that people use, `root_path` the path that the server
    lies under, `trust_proxy` the addresses or networks whose X-Forwarded headers count. `keep_alive_s` is how
    long a connection may wait for its next request; `stop_delay_s` how long a server that is to stop says
    that it is not ready, and goes on, before it listens no more. `log_requests` writes a line of JSON for
    each request on standard output; with `model_control` the API loads and unloads models of the folder.
    With `choices` a name is served as `cnnkit choose` chose it, by that backend, where that holds here.
    `model_dir` is a folder of which every artifact is served, where no model is named.
    `grpc_port` is where the protocol is spoken over gRPC, 0 for any free one, None for nowhere. Each of
    several `processes` opens the models; where no `threads` are asked for, they divide the cores.

    `on` is where all that runs, a hosting's word and the address behind it; None is this machine. There are
    from the first to the second of `replicas` on a cluster, as many as the queue asks for.
    """

    backend: str = DEFAULT_BACKEND
    opening: OpeningSettings = field(default_factory=OpeningSettings)
    host: str = "127.0.0.1"
    port: int = 7860
    page: bool = True
    batching: BatchingSettings = field(default_factory=BatchingSettings)
    deadline_s: float = 10.0
    auth: str | None = None
    token: str | None = None
    public_names: tuple[str, ...] = ()
    root_path: str = ""
    trust_proxy: tuple[str, ...] = ()
    keep_alive_s: float = KEEP_ALIVE_S
    stop_delay_s: float = 0.0
    log_requests: bool = False
    model_control: bool = False
    grpc_port: int | None = None
    choices: bool = False
    model_dir: Path | None = None
    processes: int = 1
    on: str | None = None
    replicas: tuple[int, int] | None = None

    @property
    def drain_s(self) -> int:
        """Return how long a stop may take: who was let in last has an answer or a 504 a second before."""
        return math.ceil(self.deadline_s + 1)
