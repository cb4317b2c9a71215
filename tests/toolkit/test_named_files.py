"""Files that are named to be written: links stay, devices and pipes are written into."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.refusing import full_disk
from toolkit.errors import CnnkitError
from toolkit.named_files import refuse_unwritable, write_named


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "page.html", tmp_path / "page.html"
    link.symlink_to(target)
    for text in (b"new", b"newer"):  # a link to nothing yet, too
        refuse_unwritable(link)
        write_named(link, text)
        assert link.is_symlink()
        assert target.read_bytes() == text
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    refuse_unwritable(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_named(pipe, b"row\n")
    reader.join(timeout=10)
    assert read == [b"row\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices")
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    refuse_unwritable(null)
    write_named(null, b"row\n")
    assert stat.S_ISCHR(null.stat().st_mode)


def test_what_stdout_goes_to_is_written_on_from_where_it_stands(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from toolkit.named_files import refuse_unwritable, write_named\n"
        "path = Path('/proc/self/fd/1')\n"
        "print('before'); refuse_unwritable(path); write_named(path, b'report\\n'); print('after')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nreport\nafter\n"


def test_what_cannot_be_written_into_is_refused_beforehand(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(CnnkitError, match=r"socket: it is a disk or a socket and no file; name another"):
            refuse_unwritable(tmp_path / "socket")
    with pytest.raises(CnnkitError, match="Is a directory; name another file"):
        refuse_unwritable(tmp_path)


def test_a_full_disk_leaves_the_old_report_and_asks_for_another_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    with full_disk(1000), pytest.raises(CnnkitError, match=r"free some space or name another file$"):
        write_named(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
