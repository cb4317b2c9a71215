"""Pictures out of bodies, and the few threads that decode them.

A bounded number of pictures waits for a thread, none past its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serve.api import RefusedError
from serve.batching import DeadlineError, QueueFullError, smoothed

Made = TypeVar("Made")

# Decoding holds no lock in Pillow's codecs; two at once keep one slow picture from blocking all.
DECODERS = 2
# What the waiting pictures may weigh together, as files: each may be as large as a body.
MOST_BYTES = 256 * 1024 * 1024
FIELD = b"file"
MAX_PARTS = 16


def picture_in(body: bytes, content_type: bytes) -> bytes:
    """Return the file that a body is, or that its form holds. Raises RefusedError (400, 415, 422)."""
    kind = content_type.split(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        body = _in_form(body, content_type)
    # curl --data-binary calls everything x-www-form-urlencoded, so there the bytes themselves decide
    elif kind.startswith((b"text/", b"application/json")):
        raise RefusedError(
            415, f"send a picture's bytes or a form with the field file, not {kind[:60].decode('latin-1')}"
        )
    if not body:
        raise RefusedError(422, "there is no picture: the body is empty")
    return body


def _in_form(body: bytes, content_type: bytes) -> bytes:
    """Return the content of the form's first field of that name, which stays in memory."""
    from python_multipart import exceptions, multipart

    boundary = multipart.parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RefusedError(400, "the form's Content-Type names no boundary")
    parts: list[multipart.Field | multipart.File] = []
    ends: list[bool] = []

    def take(part: multipart.Field | multipart.File) -> None:
        parts.append(part)
        if len(parts) > MAX_PARTS:
            raise RefusedError(400, f"the form has more than {MAX_PARTS} parts")

    parser = multipart.FormParser(
        "multipart/form-data",
        take,
        take,
        lambda: ends.append(True),
        boundary,
        config={"MAX_MEMORY_FILE_SIZE": len(body)},
    )
    try:
        parser.write(body)
        parser.finalize()
    except exceptions.FormParserError as error:
        raise RefusedError(400, f"the form cannot be read: {error}") from None
    if not ends:
        raise RefusedError(400, "the form is cut short")
    found = next((part for part in parts if part.field_name == FIELD), None)
    if found is None:
        raise RefusedError(422, f"the form has no field {FIELD.decode()!r} with a picture")
    if isinstance(found, multipart.Field):
        return found.value or b""
    found.file_object.seek(0)
    return found.file_object.read()


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
