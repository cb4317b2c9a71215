"""`cnnkit clean`: what the cache holds, and what is freed."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door
from toolkit import caching
from toolkit.errors import CnnkitError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "cnnkit"
    sizes = {
        "stores/ab12/pixels.rows": 9000,
        "kernels/x.rtxcache": 5000,
        "data/a.gz": 100,
        "browser/b.gz": 100,
    }
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(bytes(size))
    (root / "choosing.lock").touch()
    (root / "stores" / "ab12" / "about.json").write_text(json.dumps({"what": "folder:/cats, 3×64×64"}))
    (root / "peaks-2.json").write_text("{}")
    return root


def typed(*words: str) -> Result:
    return CliRunner().invoke(front_door.main, ["clean", *words])


def test_what_is_there_is_shown_and_nothing_removed(cache: Path) -> None:
    shown = typed()
    assert shown.exit_code == 0, shown.output
    for text in ("folder:/cats, 3×64×64", "kernels", "x.rtxcache", "measurements", "no limit"):
        assert text in shown.stdout
    told = json.loads(typed("--json").stdout)
    assert {row["kind"] for row in told["kept"]} == {"stores", "kernels", "data", "browser", "measurements"}
    assert told["limit_bytes"] is None
    assert told["size_bytes"] == sum(row["size_bytes"] for row in told["kept"])
    assert len(list(cache.rglob("*.*"))) == 7


def test_a_kind_is_freed_and_all_but_downloads(cache: Path) -> None:
    told = json.loads(typed("--free", "kernels", "--json").stdout)
    assert [row["kind"] for row in told["freed"]] == ["kernels"]
    assert told["freed_bytes"] > 0
    assert not (cache / "kernels" / "x.rtxcache").exists()
    assert "freed" in typed("--free", "all").stdout
    # a lock that is removed while it is held would let a second process in
    assert {path.name for path in cache.rglob("*.*")} == {"a.gz", "b.gz", "choosing.lock"}


def test_what_is_written_makes_room_and_what_is_read_is_in_use(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "kernels" / "y.rtxcache").write_bytes(bytes(5000))
    for path in cache.glob("*/*"):
        os.utime(path, (0, 0))
    assert len(caching.read_thing(cache / "kernels" / "x.rtxcache")) == 5000
    os.utime(cache / "stores" / "ab12", (1, 1))
    monkeypatch.setenv(caching.LIMIT, str(sum(one.size_bytes for one in caching.kept_things()) / 1e9))
    caching.write_thing(cache / "openvino" / "z.blob", bytes(100))
    assert {path.parent.name + path.name[0] for path in cache.glob("*/*")} == {
        *("kernelsx", "storesa", "dataa", "browserb", "openvinoz")
    }
    # what is never dropped leaves no room: nothing else is dropped in vain
    monkeypatch.setenv(caching.LIMIT, "0.000001")
    with pytest.raises(CnnkitError, match=r"z\.blob needs 100 B, and \$CNNKIT_CACHE_GB allows .*"):
        caching.write_thing(cache / "openvino" / "z.blob", bytes(100))
    assert (cache / "kernels" / "x.rtxcache").exists()
    monkeypatch.setenv(caching.LIMIT, "0")
    with pytest.raises(CnnkitError, match=r"z\.blob needs 100 B, and \$CNNKIT_CACHE_GB allows 0 B"):
        caching.write_thing(cache / "openvino" / "z.blob", bytes(100))


def test_what_there_is_none_of_is_refused_with_what_there_is(cache: Path) -> None:
    refused = typed("--free", "store")
    assert refused.exit_code == 1
    known = "browser, data, kernels, measurements, stores"
    assert f"no kind of thing in the cache 'store'; known: {known}. Did you mean" in refused.stderr
    assert "freed" not in typed("--free", "stores", "--unused-days", "3").stdout


def test_a_store_that_is_being_filled_stays(cache: Path) -> None:
    with (cache / "stores" / "ab12" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert json.loads(typed("--free", "stores", "--json").stdout)["freed"] == []
    assert len(json.loads(typed("--free", "stores", "--json").stdout)["freed"]) == 1
