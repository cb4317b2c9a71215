"""Ranks started on this machine: one process each, all ended when one of them dies, hangs or is stopped.

Each is `python -m toolkit.training.rank`, with a launcher's variables as torchrun sets them; what it
has to tell comes as lines of JSON on its stdout. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, NoReturn

from toolkit import schema
from toolkit.errors import CnnkitError
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.schema import Count
from toolkit.training import EpochRecord, TrainingReport, Watcher

_LOOK_S = 0.2
# after the first rank's end: the others find out by themselves, and say which one they miss
_LAST_WORDS_S, _OF_THE_LIMIT = 6.0, 0.1
_STOPPING_S = 60.0
_RESUME = "the same command with --resume goes on"


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a rank tells: a call of its watcher, its report, or why it ended.

    `lost` are the ranks that it misses, where that is why; `exit_status` is the error's.
    """

    kind: Literal["say", "read", "start", "images", "epoch", "report", "error"]
    text: str = ""
    numbers: tuple[Count, ...] = ()
    record: EpochRecord | None = None
    report: TrainingReport | None = None
    lost: tuple[Count, ...] | None = None
    exit_status: Count = 1


@dataclass(kw_only=True)
class RankProcess:
    """One rank's process; `error` is why it ended, where it said so."""

    number: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    error: Word | None = None

    @property
    def failed(self) -> bool:
        """Tell whether the rank has ended otherwise than with its work done."""
        return self.error is not None or self.process.poll() not in (None, 0)


Words = queue.Queue[tuple[int, Word]]


def train_on_ranks(
    count: int, arguments: Mapping[str, Any], watcher: Watcher, *, stall_limit_s: float | None
) -> TrainingReport:
    """Train in `count` processes of this machine, with the arguments of `toolkit.training.jobs.train`.

    Raises CnnkitError in the words of the rank that failed, or when this process is stopped, once the first
    rank has saved its state. No rank outlives the call.
    """
    words: Words = queue.Queue()
    port = _free_port()
    with contextlib.ExitStack() as stack, stopped_as_by_ctrl_c():
        ranks = [stack.enter_context(_started(number, count, port, arguments)) for number in range(count)]
        for rank in ranks:
            threading.Thread(target=_listen, args=(rank, words), daemon=True).start()
        try:
            return _followed(ranks, words, watcher, stall_limit_s)
        except KeyboardInterrupt:
            _stop(ranks, words, watcher)
    raise AssertionError("stopping raises")


@contextlib.contextmanager
def _started(number: int, count: int, port: int, arguments: Mapping[str, Any]) -> Iterator[RankProcess]:
    """Start a rank; end it on the way out."""
    told = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    told |= {"MASTER_PORT": port}
    environment = os.environ | {name: str(value) for name, value in told.items()}
    environment["MASTER_ADDR"] = "127.0.0.1"
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name may lead nowhere
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "toolkit.training.rank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # the first rank speaks for all; what another one says is shown when it fails
            stderr=None if number == 0 else log,
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C comes to a rank once, from here
        )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stream:
                stream.write(json.dumps(arguments, default=str).encode())
            yield RankProcess(number=number, process=process, log=log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listen(rank: RankProcess, words: Words) -> None:
    assert rank.process.stdout is not None
    with rank.process.stdout as stream:
        for line in stream:
            with contextlib.suppress(ValueError, CnnkitError):  # a line that was cut off by the rank's end
                word = schema.convert(Word, json.loads(line), what="a rank's word", finite=False)
                words.put((rank.number, word))


def _followed(
    ranks: Sequence[RankProcess], words: Words, watcher: Watcher, stall_limit_s: float | None
) -> TrainingReport:
    """Hand on what the ranks tell until all have ended; return the first one's report."""
    patience_s = _LAST_WORDS_S if stall_limit_s is None else min(_LAST_WORDS_S, _OF_THE_LIMIT * stall_limit_s)
    report: TrainingReport | None = None
    give_up = None
    while True:
        over = all(rank.process.poll() is not None for rank in ranks)
        report = _heard(ranks, words, watcher) or report
        if report is not None and over:
            return report
        if give_up is None and any(rank.failed for rank in ranks):
            give_up = time.monotonic() + patience_s
        if over or (give_up is not None and time.monotonic() >= give_up):
            _heard(ranks, words, watcher)
            _explain(ranks)


def _heard(ranks: Sequence[RankProcess], words: Words, watcher: Watcher) -> TrainingReport | None:
    """Take the words of a moment; return the report if it is among them."""
    report = None
    with contextlib.suppress(queue.Empty):
        number, word = words.get(timeout=_LOOK_S)
        while True:
            if word.kind == "error":
                ranks[number].error = word
            elif word.kind == "report":
                report = word.report
            elif number == 0:
                _hand_on(word, watcher)
            number, word = words.get_nowait()
    return report


def _hand_on(word: Word, watcher: Watcher) -> None:
    if word.kind == "say":
        watcher.say(word.text)
    elif word.kind == "read":
        watcher.read(*word.numbers)
    elif word.kind == "start":
        epochs, images, done = word.numbers
        watcher.start(epochs=epochs, images=images, done=done)
    elif word.kind == "images":
        watcher.images(*word.numbers)
    elif word.record is not None:
        watcher.epoch(word.record)


def _explain(ranks: Sequence[RankProcess]) -> NoReturn:
    """Raise CnnkitError with the cause: a rank's own error, the end of one, or one that others miss."""
    for rank in ranks:
        if rank.error and rank.error.lost is None:
            raise _error(rank.error.text, rank.error.exit_status)
    for rank in ranks:
        status = rank.process.poll()
        if status is not None and status < 0:
            raise _error(f"rank {rank.number} was killed by signal {-status}; {_RESUME}")
    for rank in ranks:
        rank.log.seek(0)
        told = rank.log.read().decode("utf-8", "replace")
        if rank.error is None and "Traceback (most recent call last)" in told:
            sys.stderr.write(told)
            raise _error(f"rank {rank.number} failed: {told.strip().splitlines()[-1]}")
    for rank in ranks:
        if rank.error:
            raise _error(rank.error.text)
    silent = [str(rank.number) for rank in ranks if rank.process.poll() is None]
    if silent:
        raise _error(f"rank{'s' if len(silent) > 1 else ''} {', '.join(silent)} did not answer; {_RESUME}")
    ended = next((rank for rank in ranks if rank.failed), ranks[0])
    raise _error(f"rank {ended.number} ended with status {ended.process.poll()}; {_RESUME}")


def _error(text: str, exit_status: int = 1) -> CnnkitError:
    error = CnnkitError(text)
    error.exit_status = exit_status
    return error


def _stop(ranks: Sequence[RankProcess], words: Words, watcher: Watcher) -> NoReturn:
    """Ask every rank to save and end, and wait for that; raise what the first one says of it."""
    for rank in ranks:
        rank.process.terminate()
    until = time.monotonic() + _STOPPING_S
    while any(rank.process.poll() is None for rank in ranks) and time.monotonic() < until:
        _heard(ranks, words, watcher)
    _heard(ranks, words, watcher)
    said = ranks[0].error
    raise _error(said.text if said else "stopped before the training began; the same command starts again")
