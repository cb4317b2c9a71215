"""Two choosings on one machine: the second one waits, says for whom, and not for ever."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from toolkit.artifacts import cache_root
from toolkit.choosing.turns import LOCK, only_one
from toolkit.errors import CnnkitError
from toolkit.telling import silent


@contextmanager
def held_elsewhere(model: str, leave: threading.Event) -> Iterator[None]:
    """Let another thread measure until it may leave."""
    inside = threading.Event()

    def measure() -> None:
        with only_one(model, 1.0, silent):
            inside.set()
            leave.wait()

    holder = threading.Thread(target=measure)
    holder.start()
    assert inside.wait(60)
    try:
        yield
    finally:
        leave.set()
        holder.join()


def test_two_choosings_take_turns_and_the_second_is_told_who_measures() -> None:
    told: list[str] = []
    leave = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        leave.set()

    with held_elsewhere("lenet", leave), only_one("resnet18", 60.0, tell) as waited_s:
        assert leave.is_set()
        assert waited_s > 0
        assert "resnet18" in (cache_root() / LOCK).read_text()
    (said,) = told
    assert re.fullmatch(
        rf"`cnnkit choose lenet` \(process {os.getpid()}, for \d+ s\) measures on this machine; waiting "
        r"until it is done, for 60 s at most \(Ctrl-C: no longer\) …",
        said,
    )
    assert (cache_root() / LOCK).read_text() == ""


def test_on_a_full_disk_nobody_is_told_and_what_was_measured_is_not_lost() -> None:
    path = cache_root() / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")
    try:
        with only_one("lenet", 1.0, silent):
            pass
        with pytest.raises(CnnkitError, match="of its own"), only_one("lenet", 1.0, silent):
            raise CnnkitError("of its own")
    finally:
        path.unlink()


def test_waiting_has_an_end_and_says_what_to_do() -> None:
    with (
        held_elsewhere("lenet", threading.Event()),
        pytest.raises(
            CnnkitError, match=r"`cnnkit choose lenet` \(process .* 0 s were waited for it; end that"
        ),
        only_one("resnet18", 0.0, silent),
    ):
        pass


def test_a_lock_that_says_nothing_is_waited_for_as_well() -> None:
    leave, told = threading.Event(), list[str]()

    def tell(text: str) -> None:
        told.append(text)
        leave.set()

    with held_elsewhere("lenet", leave):
        (cache_root() / LOCK).write_text("no JSON")
        with only_one("resnet18", 60.0, tell):
            pass
    assert told[0].startswith("another `cnnkit choose` measures on this machine")
