"""`cnnkit clean`: what the cache holds, and what is freed."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "cnnkit"
    for name, size in (("stores/ab12/pixels.rows", 9000), ("kernels/x.rtxcache", 5000), ("data/a.gz", 100)):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(bytes(size))
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
    assert {row["kind"] for row in told["kept"]} == {"stores", "kernels", "data", "measurements"}
    assert told["limit_bytes"] is None
    assert told["size_bytes"] == sum(row["size_bytes"] for row in told["kept"])
    assert len(list(cache.rglob("*.*"))) == 5


def test_a_kind_is_freed_and_all_but_downloads(cache: Path) -> None:
    told = json.loads(typed("--free", "kernels", "--json").stdout)
    assert [row["kind"] for row in told["freed"]] == ["kernels"]
    assert told["freed_bytes"] > 0
    assert not (cache / "kernels" / "x.rtxcache").exists()
    assert "freed" in typed("--free", "all").stdout
    assert [path.name for path in cache.rglob("*.*")] == ["a.gz"]


def test_what_there_is_none_of_is_refused_with_what_there_is(cache: Path) -> None:
    refused = typed("--free", "store")
    assert refused.exit_code == 1
    assert (
        "no kind of thing in the cache 'store'; known: data, kernels, measurements, stores. Did you mean"
        in (refused.stderr)
    )
    assert "freed" not in typed("--free", "stores", "--unused-days", "3").stdout


def test_a_store_that_is_being_filled_stays(cache: Path) -> None:
    with (cache / "stores" / "ab12" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert json.loads(typed("--free", "stores", "--json").stdout)["freed"] == []
    assert len(json.loads(typed("--free", "stores", "--json").stdout)["freed"]) == 1
