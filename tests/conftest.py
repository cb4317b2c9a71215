"""Fixtures that all tests share: where the data is, and a fresh home for everything a test writes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from toolkit.machine.cuda import device_count

REPO = Path(__file__).parents[1]
SHARED = REPO.parent / "shared"
FASHION_MNIST = Path("/usr/share/datasets")
# several tests at once share the cores, and threads that wait by spinning keep others from them: a rate
# finder of two threads takes 40 s beside one busy core, and 7 s so
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# as cnnkit has a Ray that it begins: the tests' own Rays wait as long for their proxies
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
# a busy machine draws and computes slowly: no test fails on a clock
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")
# `make test` draws the same examples each time: what fails there fails again, and for everyone.
# `make test-all` and pytest by hand draw new ones, and keep those that fail in .hypothesis
hypothesis_settings.register_profile("repeated", hypothesis_settings.get_profile("patient"), derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    """Let repeated examples hang on no order of the test files."""
    if config.getoption("--hypothesis-profile") == "repeated":
        with contextlib.suppress(ImportError):  # tests/test_drawing.py tells of a release without it
            from hypothesis.internal.conjecture import providers

            # it draws constants of the modules imported so far, and those differ with the files run before
            providers.is_local_module_file = lambda path: False


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test artifacts and a cache of its own, so that none sees what a user has at home."""
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.delenv("CNNKIT_ARTIFACTS", raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data and recordings; skip where it is not beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def mnist_dir(shared: Path) -> Path:
    """Return the folder with MNIST's four gzipped IDX files; skip where it is not here."""
    folder = shared / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip("../shared/data/mnist is not here")
    return folder


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """Return a folder to search for the whole Fashion-MNIST; skip where no copy is installed."""
    for folder in (os.environ.get("CNNKIT_DATA"), FASHION_MNIST):
        if folder and (Path(folder) / "fashion-mnist" / "train-images-idx3-ubyte.gz").is_file():
            return Path(folder)
    pytest.skip("the whole Fashion-MNIST is not installed (Debian: apt-get install dataset-fashion-mnist)")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return Chromium's path for Playwright's `executable_path`; skip where it is not installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests, with the reason, where no NVIDIA GPU can be used."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or device_count() > 0:
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


# folders whose files share what takes long to make: an exported page, a cluster
TOGETHER = ("tests/exporters/browser/", "tests/toolkit/clusters/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal files out to processes, those of some folders to one process."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrFolder(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            folder = next((one for one in TOGETHER if nodeid.startswith(one)), None)
            return folder or super()._split_scope(nodeid)

    return ByFileOrFolder(config, log)
