"""One of the processes, as the parent sees it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

from serve.counts import Counts
from serve.processes.handover import Giving
from serve.processes.line import Line
from serve.processes.messages import Begin, Message, Started

# The parent's own search path, so that a script of the name of a package in the working folder is none.
START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); from serve.processes.worker import main; main()"
)
# from the end of its line to its own: what is told of its last requests may still be on its way elsewhere
ENDS_S = 10.0


class ServingProcess:
    """A process, the line to it, and the way by which it is given connections."""

    def __init__(
        self, begin: Begin, answer: Callable[[ServingProcess, Message], Awaitable[Message | None]]
    ) -> None:
        """Start the process; `answer` answers what it asks."""
        self.begin = begin
        self.number = begin.number
        self.started: Started | None = None
        self.leaving = False
        self.counts = Counts()
        line, its_line = socket.socketpair()
        way, its_way = socket.socketpair()
        with its_line, its_way:
            handles = its_line.fileno(), its_way.fileno()
            arguments = [*map(str, handles), json.dumps(sys.path)]
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=handles,
                process_group=0,  # a terminal's Ctrl-C is the parent's to hear
            )
        self.way = Giving(way)
        self.line = Line(line, lambda message: answer(self, message))
        asyncio.get_running_loop().add_reader(way, self.way.count_closed)
        self.gone = asyncio.create_task(self._gone())

    @property
    def takes_connections(self) -> bool:
        """Tell whether it is ready for connections."""
        return self.started is not None and not self.leaving and not self.line.closed

    async def start(self) -> None:
        """Have it open the models. Raises CnnkitError, or LineClosedError where it ended instead."""
        self.started = await self.line.ask(self.begin, Started)

    async def _gone(self) -> int:
        """Read the line until the process has ended, and return its status; one that hangs is killed."""
        await self.line.run()
        asyncio.get_running_loop().remove_reader(self.way.sock)
        self.way.sock.close()
        try:
            return await asyncio.to_thread(self.process.wait, ENDS_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return await asyncio.to_thread(self.process.wait)

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
