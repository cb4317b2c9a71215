"""Connections on their way from the parent, which takes them off the port, to a process that answers them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

AGAIN_S = 0.05
# each closed connection is told by a byte
MOST_TOLD = 4096
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Giving:
    """The parent's end of the way to one process. `open` counts its connections that are not closed yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.open = 0

    def give(self, connection: socket.socket) -> bool:
        """Hand a connection over; False where the process takes none now, or is gone."""
        try:
            socket.send_fds(self.sock, [b"+"], [connection.fileno()])
        except OSError:
            return False
        self.open += 1
        return True

    def count_closed(self) -> None:
        """Take off what the process has closed."""
        with contextlib.suppress(OSError):
            while told := self.sock.recv(MOST_TOLD):
                self.open -= len(told)

    def end(self) -> None:
        """Hand over no more; the process reads that behind the last connection."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)


class Taking:
    """A process's end. `ended` is set once every connection that was handed over has been taken up."""

    def __init__(self, sock: socket.socket, take: Callable[[socket.socket], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._take = take
        self._untold = 0
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        while True:
            try:
                data, handles, _, _ = socket.recv_fds(self._sock, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                data, handles = b"", []
            if not data:
                self._loop.remove_reader(self._sock)
                self.ended.set()
                return
            for handle in handles:
                self._take(socket.socket(fileno=handle))
            if not handles:  # this process has no file handle left: the connection was closed on the way
                self.closed()

    def closed(self) -> None:
        """Tell that a connection is closed."""
        self._untold += 1
        self._tell()

    def _tell(self) -> None:
        try:
            sent = self._sock.send(b"-" * self._untold) if self._untold else 0
        except BlockingIOError:
            self._loop.call_later(AGAIN_S, self._tell)
            return
        except OSError:
            return
        self._untold -= sent


class Door:
    """The port: connections are taken off it and given to whoever has the fewest."""

    def __init__(self, listener: socket.socket, ways: Callable[[], list[Giving]]) -> None:
        """`ways` are those to the processes that take connections now."""
        self._listener = listener
        self._ways = ways
        self._loop = asyncio.get_running_loop()
        self._watching = False
        self._turn = 0
        self._taken: socket.socket | None = None  # off the port, and not handed over yet

    def watch(self) -> None:
        """Take connections from now on; who comes while no process is there waits in the listener's queue."""
        if not self._watching and self._ways():
            self._watching = True
            self._loop.add_reader(self._listener, self.take)

    def rest(self) -> None:
        """Take none for now."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._listener)

    def take(self) -> None:
        """Hand over everyone who waits."""
        while self._ways():
            try:
                connection = self._taken or self._listener.accept()[0]
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                if error.errno in SHORT:
                    break
                raise
            self._taken = connection
            if not self._give(connection):
                break
            self._taken = None
            connection.close()
        self.rest()
        self._loop.call_later(AGAIN_S, self.watch)

    def _give(self, connection: socket.socket) -> bool:
        self._turn += 1
        ways = self._ways()
        first = self._turn % len(ways)
        in_turn = sorted(ways[first:] + ways[:first], key=lambda way: way.open)
        return any(way.give(connection) for way in in_turn)

    def close(self) -> None:
        """Take whoever waits a last time, then nobody."""
        self.take()
        self._ways = list
        self.rest()
        self._listener.close()
        if self._taken is not None:
            self._taken.close()
