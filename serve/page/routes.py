"""The page's own requests. Each is whole in itself: no session, no file, nothing kept of any visitor.

So a visitor's picture is in memory while it is looked at and nowhere afterwards, a server that was started
anew answers an open page as before, and so does any other process that serves the same models.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import mimetypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.api import Receive, RefusedError, Reply, Scope, Send
from serve.api.bodies import BodyBudget, json_reply, read_body, request_id, respond
from serve.api.pictures import Decoders
from serve.batching import DeadlineError, QueueFullError
from serve.explaining import Explainer, Insight
from serve.page.answers import BLANK, ReadPicture, answer, read
from serve.page.asked import PageQuery, read_query
from serve.page.facts import heat_checkpoint, interior_artifact, page_facts
from serve.page.inside import Interior, drawn, drawn_large, open_interior
from serve.page.messages import HeatAnswer, InsideAnswer, LayerPicture, TimesAnswer
from serve.page.models import PageModel, PageModels, Remembered
from serve.page.pictures import SamplePictures
from serve.page.report import report_html
from serve.page.times import times
from toolkit.errors import CnnkitError, ImageError, NotFoundError

BASE = "/page/"
ASSETS = Path(__file__).parent / "assets"
# a phone's slow connection needs minutes for a large picture
BODY_S = 600.0
# the first picture of an engine waits until it is opened
WORK_S = 60.0
MOST_WAITING = 64
FRESH = {b"cache-control": b"no-cache"}
# the report is a page of its own in a frame, which reaches neither this page nor any host
SANDBOX = (
    b"sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    b"style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


class PageRoutes:
    """ASGI for every path under BASE. Refusals are RefusedError, which the server answers as its API's."""

    def __init__(self, models: PageModels, max_bytes: int) -> None:
        self.models = models
        self.max_bytes = max_bytes
        self.bodies = BodyBudget()
        self.workers = Decoders(MOST_WAITING)
        self.interiors: Remembered[Interior] = Remembered(4)
        self.explainers: Remembered[Explainer] = Remembered(4)
        # two at once would time each other
        self.measuring = threading.Lock()
        self.gets: dict[str, Callable[[PageQuery], Reply]] = {
            "about": self._about,
            "example": self._example,
            "report": self._report,
        }
        self.posts: dict[str, Callable[[PageQuery, bytes], Any]] = {
            "answer": lambda query, data: answer(data, self._model(query), self.models, query),
            "inside": self._inside,
            "layer": self._layer,
            "heat": self._heat,
            "times": self._times,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises RefusedError."""
        headers = dict(scope["headers"])
        name = scope["path"].removeprefix(BASE)
        # every reply goes through `send`, where the page's headers are added
        scope = {**scope, "cnnkit.reply_whole": None}
        if scope["method"] == "POST" and name in self.posts:
            reply = await self._picture(scope, headers, receive, name)
        elif scope["method"] in ("GET", "HEAD") and name in self.gets:
            query = read_query(scope["query_string"].decode("latin-1"))
            reply = await self._work(lambda: self.gets[name](query), 0)
        elif scope["method"] in ("GET", "HEAD") and name in assets():
            reply = assets()[name]
        else:
            raise RefusedError(404, "there is nothing here")
        await respond(send, scope, reply, request_id(headers), headers.get(b"accept-encoding", b""))

    async def _picture(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, name: str) -> Reply:
        query = read_query(scope["query_string"].decode("latin-1"))
        room = self.bodies.room()
        try:
            end = asyncio.get_running_loop().time() + BODY_S
            data = await read_body(headers, receive, self.max_bytes, end, room=room)
            return await self._work(lambda: json_reply(self.posts[name](query, data)), len(data))
        finally:
            if room.taken:
                room.give_back()

    async def _work(self, work: Callable[[], Reply], size: int) -> Reply:
        deadline = asyncio.get_running_loop().time() + WORK_S
        try:
            reply, _ = await self.workers.run(work, size, deadline)
        except QueueFullError as full:
            raise RefusedError(503, str(full), {b"retry-after": b"%d" % full.retry_after_s}) from None
        except DeadlineError:
            raise RefusedError(
                504, f"no answer within {WORK_S:g} s; try again, or ask less at once"
            ) from None
        except NotFoundError as error:
            raise RefusedError(404, str(error)) from None
        except ImageError as error:
            raise RefusedError(422, str(error)) from None
        except CnnkitError as error:
            raise RefusedError(409, str(error)) from None
        return reply

    def close(self) -> None:
        """End the threads."""
        self.workers.close()

    def _model(self, query: PageQuery) -> PageModel:
        return self.models.named(query.model)

    def _about(self, query: PageQuery) -> Reply:
        return json_reply(page_facts(self.models), headers=FRESH)

    def _example(self, query: PageQuery) -> Reply:
        pictures = self.models.pictures(self._model(query))
        if not isinstance(pictures, SamplePictures) or query.index >= len(pictures.images):
            raise RefusedError(404, "there is no such test picture")
        return Reply(body=pictures.as_png(query.index), content_type=b"image/png")

    def _report(self, query: PageQuery) -> Reply:
        return Reply(
            body=report_html(self._model(query)).encode(),
            content_type=b"text/html; charset=utf-8",
            headers={**FRESH, b"content-security-policy": SANDBOX},
        )

    def _read(self, query: PageQuery, data: bytes) -> ReadPicture | None:
        model = self._model(query)
        limits = model.serving.opening.limits
        return read(data, model.artifact, limits, query, self.models.pictures(model))

    def _interior(self, model: PageModel) -> Interior:
        artifact, _ = interior_artifact(model)
        key = f"{artifact.path}\0{artifact.passport.sha256}"
        model_file = model.serving.opening.model_file
        return self.interiors.get(key, lambda: open_interior(artifact, model_file))

    def _inside(self, query: PageQuery, data: bytes) -> InsideAnswer:
        model = self._model(query)
        told = InsideAnswer(model=model.name, file=interior_artifact(model)[0].path.name)
        picture = self._read(query, data)
        if picture is None:
            told.nothing = BLANK
            return told
        rows = model.serving.classifier().prepare(picture.image, invert=query.way).rows
        told.layers = drawn(self._interior(model).outputs(rows))
        return told

    def _layer(self, query: PageQuery, data: bytes) -> LayerPicture:
        model = self._model(query)
        picture = self._read(query, data)
        if picture is None:
            raise ImageError(BLANK)
        rows = model.serving.classifier().prepare(picture.image, invert=query.way).rows
        return drawn_large(self._interior(model).outputs(rows), query.layer or "")

    def _times(self, query: PageQuery, data: bytes) -> TimesAnswer:
        picture = self._read(query, data)
        if picture is None:
            raise ImageError(BLANK)
        engine = self._model(query).engine(query.engines[0] if query.engines else None)
        rows = engine.classifier().prepare(picture.image, invert=query.way).rows
        if not self.measuring.acquire(blocking=False):
            raise RefusedError(503, "another measurement is under way; try again", {b"retry-after": b"2"})
        try:
            return times(engine, rows)
        finally:
            self.measuring.release()

    def _heat(self, query: PageQuery, data: bytes) -> HeatAnswer:
        model = self._model(query)
        artifact, why = heat_checkpoint(model)
        if artifact is None:
            raise CnnkitError(why or f"there is no checkpoint of {model.name} here")
        picture = self._read(query, data)
        if picture is None:
            raise ImageError(BLANK)
        opening = model.serving.opening
        explainer = self.explainers.get(
            f"{artifact.path}\0{artifact.passport.sha256}",
            lambda: Explainer(artifact, opening.limits, model_file=opening.model_file),
        )
        return heat_answer(model, explainer.look(picture.image, layer=query.layer, invert=query.way))


def heat_answer(model: PageModel, seen: Insight) -> HeatAnswer:
    """Return a heat map as the page paints it; one that is zero everywhere is said."""
    told = HeatAnswer(model=model.name, label=seen.label, layer=seen.layer, said="")
    if not seen.heat.any():
        told.said = f"No region speaks for {seen.label} at {seen.layer}: the map is zero everywhere."
        return told
    told.height, told.width = seen.heat.shape
    told.heat = base64.b64encode((seen.heat * 255).round().astype("uint8").tobytes()).decode()
    told.said = f"Grad-CAM at {seen.layer}, by the checkpoint of {model.name}: what speaks for {seen.label}."
    return told


@functools.cache
def assets() -> dict[str, Reply]:
    """Return the page's files by name."""
    kinds = {".js": "text/javascript", ".css": "text/css"}
    found = {}
    for path in sorted(ASSETS.iterdir()):
        kind = kinds.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        found[path.name] = Reply(
            body=path.read_bytes(), content_type=f"{kind}; charset=utf-8".encode(), headers=FRESH
        )
    return found
