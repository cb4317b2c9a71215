"""Pictures out of bodies, and the few threads that decode them.

A bounded number of pictures waits for a thread, none past its deadline.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import msgspec

from serve.api import RefusedError
from serve.api.bodies import read
from serve.api.messages import ClassifyQuery, ClassifyRequest
from serve.batching import DeadlineError, QueueFullError, smoothed

Made = TypeVar("Made")

# Decoding holds no lock in Pillow's codecs; two at once keep one slow picture from blocking all.
DECODERS = 2
# What the waiting pictures may weigh together, as files: each may be as large as a body.
MOST_BYTES = 256 * 1024 * 1024
FIELDS = ("file", "files")
# what one request may bring
MOST_PICTURES = 64
DECODER = msgspec.json.Decoder(ClassifyRequest)
WORDS = {
    "": "a JSON body holds one picture as `image`, or several as `images`: base64 text; and any of "
    + ", ".join(ClassifyQuery.__struct_fields__),
    "image": "image must be base64 text",
    "images": "images must be a list of base64 texts",
}


class SentPictures(NamedTuple):
    """What a body holds: pictures by the names they came with, and what it says as a query would, in pairs.

    `several` tells that a list was sent, be it of one.
    """

    files: list[tuple[str, bytes]]
    query: list[tuple[str, str]]
    several: bool = False


def pictures_in(body: bytes, content_type: bytes) -> SentPictures:
    """Return the picture that a body is, or what its form or JSON holds.

    Raises RefusedError (400, 415, 422).
    """
    kind = content_type.split(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        sent = _in_form(body, content_type)
    elif kind == b"application/json":
        sent = _in_json(body)
    # curl --data-binary calls everything x-www-form-urlencoded, so there the bytes themselves decide
    elif kind.startswith(b"text/"):
        raise RefusedError(
            415,
            "send a picture's bytes, a form with the field file, or JSON with base64 text in image, "
            f"not {kind[:60].decode('latin-1')}",
        )
    else:
        sent = SentPictures([("", body)], [])
    if not any(data for _, data in sent.files):
        raise RefusedError(422, "there is no picture: the body is empty, or its field file is")
    return sent


def _in_json(body: bytes) -> SentPictures:
    asked = read(DECODER, body, WORDS)
    texts = [asked.image] if isinstance(asked.image, str) else []
    several = not isinstance(asked.images, msgspec.UnsetType)
    if several == bool(texts):
        raise RefusedError(400, WORDS[""])
    texts = list(asked.images) if several else texts  # type: ignore[arg-type]  # it is set where there are several
    _bound(len(texts))
    usual = ClassifyQuery()
    fields = [(name, getattr(asked, name)) for name in ClassifyQuery.__struct_fields__]
    said = [(name, str(value)) for name, value in fields if value != getattr(usual, name)]
    return SentPictures([(f"images[{at}]", _of_base64(text)) for at, text in enumerate(texts)], said, several)


def _of_base64(text: str) -> bytes:
    data = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise RefusedError(400, f"a picture is no base64 text: {error}") from None


def _bound(pictures: int) -> None:
    if pictures > MOST_PICTURES:
        raise RefusedError(400, f"{pictures} pictures came; {MOST_PICTURES} are the most in one request")


def _in_form(body: bytes, content_type: bytes) -> SentPictures:
    """Return the form's pictures, which stay in memory, and its other fields."""
    from python_multipart import exceptions, multipart

    boundary = multipart.parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RefusedError(400, "the form's Content-Type names no boundary")
    parts: list[multipart.Field | multipart.File] = []
    ends: list[bool] = []

    def take(part: multipart.Field | multipart.File) -> None:
        parts.append(part)
        _bound(len(parts) - len(ClassifyQuery.__struct_fields__))

    try:
        parser = multipart.FormParser(
            "multipart/form-data",
            take,
            take,
            lambda: ends.append(True),
            boundary,
            config={"MAX_MEMORY_FILE_SIZE": len(body)},
        )
        parser.write(body)
        parser.finalize()
    except exceptions.FormParserError as error:
        raise RefusedError(400, f"the form cannot be read: {error}") from None
    if not ends:
        raise RefusedError(400, "the form is cut short")
    return _sorted_out(parts)


def _sorted_out(parts: Sequence[Any]) -> SentPictures:
    files: list[tuple[str, bytes]] = []
    query: list[tuple[str, str]] = []
    for part in parts:
        name = (part.field_name or b"").decode("utf-8", "replace")
        file = getattr(part, "file_object", None)
        if name in FIELDS:
            if file is not None:
                file.seek(0)
            label = (getattr(part, "file_name", None) or b"").decode("utf-8", "replace")
            files.append((label or f"{name}[{len(files)}]", file.read() if file else part.value or b""))
        elif name not in ClassifyQuery.__struct_fields__ or file is not None:
            known = ", ".join((*FIELDS, *ClassifyQuery.__struct_fields__))
            raise RefusedError(
                400,
                f"the form has a field {name[:80]!r} that is unknown, or is a file; known: {known}",
            )
        else:
            query.append((name, (part.value or b"").decode("utf-8", "replace")))
    return SentPictures(files, query, several=len(files) > 1 or any(p.field_name == b"files" for p in parts))


class Decoders:
    """The threads, and who waits for one, in the order in which they came; used on one event loop."""

    def __init__(self, most_waiting: int, *, most_bytes: int = MOST_BYTES, threads: int = DECODERS) -> None:
        self.waiting = 0
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._bytes_waiting = 0
        self._threads = threads
        self._seconds_each: float | None = None
        self._free = asyncio.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="cnnkit-decode")

    async def run(self, work: Callable[[], Made], size_bytes: int, deadline: float) -> tuple[Made, float]:
        """Return what `work` makes of a picture of so many bytes, and how many seconds it waited.

        `deadline` is on the event loop's clock. Raises QueueFullError at once, DeadlineError, and
        whatever `work` raises. Work that has begun goes on to its end, and its thread is taken until then.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                await self._take_thread(size_bytes)
                started = loop.time()
                made = loop.run_in_executor(self._pool, work)
                made.add_done_callback(lambda done: self._ended(done, loop.time() - started))
                return await asyncio.shield(made), started - came
        except TimeoutError:
            raise DeadlineError("the deadline passed before the picture was decoded") from None

    async def _take_thread(self, size_bytes: int) -> None:
        full = self.waiting >= self._most_waiting or self._bytes_waiting + size_bytes > self._most_bytes
        if full and self._free.locked():
            seconds = self.waiting * (self._seconds_each or 0.0) / self._threads
            raise QueueFullError(self.waiting, seconds, "pictures")
        self.waiting += 1
        self._bytes_waiting += size_bytes
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
            self._bytes_waiting -= size_bytes

    def _ended(self, done: asyncio.Future[Made], seconds: float) -> None:
        self._free.release()
        self._seconds_each = smoothed(self._seconds_each, seconds)
        if not done.cancelled():
            done.exception()  # an error is seen, where nobody waits for the picture any more

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
