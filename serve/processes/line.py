"""A line between the parent and one of its processes: questions and answers over a socket, both ways."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serve.processes.messages import DECODER, ENCODER, Frame, Message, Obeyed, Refused
from toolkit.errors import CnnkitError

LENGTH = struct.Struct("<I")
Kind = TypeVar("Kind")
Answer = Callable[[Message], Awaitable[Message | None]]


class LineClosedError(Exception):
    """The other process is gone."""


def send(sock: socket.socket, frame: Frame) -> None:
    """Send one frame, waiting until it is taken; to be used where no event loop runs."""
    data = ENCODER.encode(frame)
    sock.sendall(LENGTH.pack(len(data)) + data)


def receive(sock: socket.socket) -> Frame:
    """Return the next frame; to be used where no event loop runs. Raises LineClosedError."""
    (length,) = LENGTH.unpack(_exactly(sock, LENGTH.size))
    return DECODER.decode(_exactly(sock, length))


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise LineClosedError
        data += more
    return data


class Line:
    """One end of a line, on an event loop. What the other end asks is answered by `answer`."""

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        self._sock = sock
        self._answer = answer
        self._unsent: list[bytes] = []
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self.closed = False

    async def run(self) -> None:
        """Read until the other end is gone."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        self._writer.writelines(self._unsent)
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                self._take(DECODER.decode(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed = True
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(LineClosedError())
            self._writer.close()

    def _take(self, frame: Frame) -> None:
        if frame.is_answer:
            asked = self._asked.pop(frame.number, None)
            if asked is not None and not asked.done():
                asked.set_result(frame.message)
            return
        task = asyncio.get_running_loop().create_task(self._reply(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, frame: Frame) -> None:
        try:
            reply = await self._answer(frame.message) or Obeyed()
        except CnnkitError as error:
            reply = Refused(str(error), error.exit_status)
        except Exception as error:
            traceback.print_exc()
            reply = Refused(f"{type(error).__name__}: {error}", 1)
        if frame.number:
            self._write(Frame(frame.number, True, reply))

    def _write(self, frame: Frame) -> None:
        if self.closed:
            raise LineClosedError
        data = ENCODER.encode(frame)
        write = self._unsent.append if self._writer is None else self._writer.write
        write(LENGTH.pack(len(data)) + data)

    def tell(self, message: Message) -> None:
        """Say something that needs no answer; nothing happens where nobody is there any more."""
        try:
            self._write(Frame(0, False, message))
        except LineClosedError:
            return

    async def ask(self, message: Message, kind: type[Kind], timeout_s: float | None = None) -> Kind:
        """Return the answer, which is of a kind.

        Raises CnnkitError where it is refused, LineClosedError where the other end is gone, TimeoutError.
        """
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._write(Frame(number, False, message))
            async with asyncio.timeout(timeout_s):
                reply = await asked
        finally:
            self._asked.pop(number, None)
        if isinstance(reply, Refused):
            error = CnnkitError(reply.why)
            error.exit_status = reply.exit_status
            raise error
        if not isinstance(reply, kind):
            raise TypeError(f"{type(reply).__name__} is no answer to {type(message).__name__}")
        return reply
