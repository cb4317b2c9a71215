"""Runtimes that are plain, quick, noisy, wrong in bf16, that hang and that crash, one file each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import exporters
import toolkit.backends
from tests.conftest import REPO
from tests.toolkit.choosing.made_up import MadeUpBay, MakeUp
from toolkit.choosing.requests import OpenEngine

SHARED = """
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from toolkit.backends import BackendSetting, Engine, EngineOptions
from toolkit.backends.ort import Ort, OrtEngine
"""
# ONNX Runtime in fp32 and nothing else: no other file is made for it
PLAIN = """
class Plain(Ort):
    name = "plain"
    title = "Plain"

    def lacks(self, precision):
        return None if precision == "fp32" else "it is not for that"


BACKEND = Plain()
"""
# answers like ONNX Runtime, and its calls take no time
QUICK = """
class QuickEngine(OrtEngine):
    backend = "quick"

    def bind(self, batch):
        self.check(batch)
        pace = self.options.chosen.get("pace", "brisk")
        return (lambda: time.sleep(0.004)) if pace == "slow" else (lambda: None)


class Quick(Ort):
    name = "quick"
    title = "Quick"
    computes: ClassVar[Mapping[Any, Any]] = {"bf16": "fp32"}
    settings = {"pace": BackendSetting(choices=("brisk", "slow"), default="brisk", help="x", tries=("slow",))}

    def lacks(self, precision):
        return None if precision == "fp32" else "it is not for that"

    def open(self, artifact, options):
        return QuickEngine(artifact, options)


BACKEND = Quick()
"""
# as quick, in int8
CHEAP = """
from toolkit.backends.quick import Quick


class Cheap(Quick):
    name = "cheap"
    title = "Cheap"

    def lacks(self, precision):
        return None if precision == "int8" else "it is not for that"


BACKEND = Cheap()
"""
# makes what a runtime takes in place of graphs; int8 is searched for under a budget, and just keeps to it
SEALED = """
import dataclasses

from exporters.run.publish import inherited
from toolkit.exporting import Exported, Exporter, Need
from toolkit.exporting.placing import export_path
from toolkit.passports import AccuracyDrop
from toolkit.publishing import publish


class Sealer(Exporter):
    name = "sealed"
    source_formats = ("onnx",)
    format = "sealed"
    suffix = ".sealed"
    precisions = ("fp32", "fp16", "int8")

    def needs(self, options):
        return Need(exporter="onnx", precision="fp16" if options.precision == "fp16" else "fp32")

    def export(self, source, options, context=None):
        kind, points = options.precision, options.allowed_points
        known = dataclasses.replace(
            inherited(source.passport), format="sealed", precision=kind, source_sha256=source.passport.sha256
        )
        if kind == "int8":
            lost = {"points": 0.0, "ci95": (0.0, 0.9 * points), "allowed": points}
            drop = AccuracyDrop(**lost, images=9, source="held out ones")
            known = dataclasses.replace(known, accuracy_drop=drop, kept_float=("/conv",))

        def draft(part):
            part.write_text(f"{kind} {points}")
            return known

        return Exported(artifact=publish(export_path(source, options, self), draft), seconds=0.0)


EXPORTER = Sealer()
"""
SEALING = """
from toolkit.backends.ort import Ort


class Sealing(Ort):
    name = "sealing"
    title = "Sealing"
    formats = {"sealed": "sealed"}


BACKEND = Sealing()
"""
SOUND = {"plain": PLAIN, "quick": QUICK, "cheap": CHEAP}
FAULTY = """
class FaultyEngine(OrtEngine):
    backend = "{word}"

    def run(self, batch):
        found = super().run(batch)
        if {when}:
            {fault}
        return found

    def bind(self, batch):
        self.check(batch)
        sound = self.artifact.passport.precision == "fp32" and "{word}" == "broken"
        return super().bind(batch) if sound else lambda: None


class Faulty(Ort):
    name = "{word}"
    title = "{word}"
    computes: ClassVar[Mapping[Any, Any]] = {{"bf16": "fp32"}}
    settings: ClassVar[Mapping[str, BackendSetting]] = {{}}

    def lacks(self, precision):
        return None if precision in {precisions} else "it is not for that"

    def open(self, artifact, options):
        return FaultyEngine(artifact, options)


BACKEND = Faulty()
"""
FAULTS = {  # when it goes wrong, how, and in which precisions it runs
    "noisy": (
        "True",
        "found[0] = np.random.default_rng().random(found[0].shape, np.float32)",
        ("fp32",),
    ),
    "broken": ("self.artifact.passport.precision == 'bf16'", "found[0][:] = np.nan", ("fp32", "bf16")),
    "hanging": ("True", "time.sleep(1000)", ("fp32",)),
    "crashing": ("True", "os.abort()", ("fp32",)),
}
# read by every Python that starts with the folder on its path, as candidates' processes do
SITE = """
import toolkit.backends

toolkit.backends.__path__.append({folder!r})
"""


@pytest.fixture(scope="session")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the runtimes into a folder."""
    folder = tmp_path_factory.mktemp("runtimes")
    for word, text in SOUND.items():
        (folder / f"{word}.py").write_text(SHARED + text)
    for word, (when, fault, kinds) in FAULTS.items():
        text = FAULTY.format(word=word, when=when, fault=fault, precisions=kinds)
        (folder / f"{word}.py").write_text(SHARED + text)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE.format(folder=str(folder)))
    return folder


@pytest.fixture
def sealing(tmp_path: Path) -> Iterator[None]:
    """Let this process find a runtime that takes nothing but what its own exporter makes of graphs."""
    for package, word, text in ((exporters, "sealed", SEALED), (toolkit.backends, "sealing", SEALING)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{word}.py").write_text(text)
        package.__path__.append(str(folder))
    yield
    for package, word in ((exporters, "sealed"), (toolkit.backends, "sealing")):
        package.__path__.remove(str(tmp_path / package.__name__))
        sys.modules.pop(f"{package.__name__}.{word}", None)


@pytest.fixture(scope="module")
def plugged(runtimes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Let this process and those that it starts find the runtimes; yield the environment of the latter.

    The cache is one of its own: a choosing elsewhere on this machine is not waited for.
    """
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(runtimes / "site"), str(REPO), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        toolkit.backends.__path__.append(str(runtimes))
        yield dict(os.environ)
        toolkit.backends.__path__.remove(str(runtimes))
        for word in (*SOUND, *FAULTS):
            sys.modules.pop(f"toolkit.backends.{word}", None)


@pytest.fixture
def making_up(monkeypatch: pytest.MonkeyPatch) -> MakeUp:
    """Have arenas open made-up processes, each made by its backend's name, and ` alone` on one thread."""

    def make_up(make: Callable[[str], MadeUpBay]) -> None:
        def opened(openings: Sequence[OpenEngine], *_: object, **__: object) -> dict[str, MadeUpBay]:
            named = {
                one.candidate.key: f"{one.candidate.backend}{' alone' if one.candidate.threads == 1 else ''}"
                for one in openings
            }
            bays = {key: make(name) for key, name in named.items()}
            for one in openings:
                bays[one.candidate.key].candidate = one.candidate
            return bays

        monkeypatch.setattr("toolkit.choosing.arena.open_bays", opened)
        monkeypatch.setattr("toolkit.choosing.arena.forks", lambda budget: False)

    return make_up
