"""What `import cnnkit` offers: these names and no others, documented, typed, imported when asked for."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnnkit

REPO = Path(__file__).parents[1]
FUNCTIONS = [
    "augmented",
    "check",
    "choose",
    "clean",
    "compare",
    "compare_networks",
    "confirm_choice",
    "datasets",
    "doctor",
    "export",
    "features",
    "find_rate",
    "import_",
    "import_profile",
    "load",
    "models",
    "profile",
    "serve",
    "show",
    "sweep",
    "train",
    "verify",
]
RESULTS = [
    "AugmentedPictures",
    "CacheContents",
    "Choice",
    "Comparison",
    "Evaluation",
    "Features",
    "Findings",
    "Imported",
    "Layers",
    "Network",
    "NetworkComparison",
    "Outcome",
    "Profile",
    "RateCurve",
    "Report",
    "Table",
    "Verdict",
]
CONTRACTS = [
    "Artifact",
    "Availability",
    "Backend",
    "BackendSetting",
    "Engine",
    "EngineOptions",
    "ExportOptions",
    "Exporter",
    "ModelSpec",
    "Passport",
    "Preprocessing",
]
SETTINGS = [
    "BatchingSettings",
    "Budget",
    "ChooseSettings",
    "OpeningSettings",
    "ProfileSettings",
    "Reading",
    "Recipe",
    "ServeSettings",
    "Watcher",
]
# those that neither read nor write artifacts
ROOTLESS = {"clean", "compare", "datasets", "doctor", "models"}

# a user's own file: what it rightly ignores must be an error, or the surface would be Any
USERS = """
from pathlib import Path

import numpy as np

import cnnkit
from cnnkit import errors


class Losses(cnnkit.Watcher):
    def say(self, text: str) -> None:
        print(text)


def main(root: Path) -> float:
    outcome = cnnkit.train("lenet", epochs=1, watcher=Losses(), root=root)
    report: cnnkit.Report = cnnkit.export("lenet", formats=["onnx"], root=root).require()
    paths: list[Path] = [made.artifact.path for made in report.artifacts]
    with cnnkit.load("lenet", root=root) as network:
        labels: list[str] = [one.label for one in network.predict([paths[0], np.zeros((8, 8), np.uint8)])]
        print(labels, network.evaluate().accuracy)
    found: cnnkit.Profile = cnnkit.profile("lenet", batches=[1, 8])
    try:
        cnnkit.compare(found, "before.json", fail_over=0.1).require()
    except errors.GateError as error:
        print(error)
    cnnkit.verify(3)  # type: ignore[arg-type]
    cnnkit.nothing  # type: ignore[attr-defined]
    cnnkit.show("lenet").parametres  # type: ignore[attr-defined]
    cnnkit.sweep("lenet", on=3)  # type: ignore[arg-type]
    cnnkit.serve(settings=cnnkit.ServeSettings(port="8000"))  # type: ignore[arg-type]
    return outcome.test_accuracy
"""


def test_the_surface_is_these_names() -> None:
    wanted = [*FUNCTIONS, *RESULTS, *CONTRACTS, *SETTINGS, "errors", "__version__"]
    assert dir(cnnkit) == sorted(wanted)
    every: dict[str, object] = {}
    exec("from cnnkit import *", every)  # what people type into a notebook
    assert {*every} - {"__builtins__"} == {*wanted} - {"__version__"}


@pytest.mark.parametrize("name", [*FUNCTIONS, *RESULTS, *CONTRACTS, *SETTINGS])
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(cnnkit, name)
    assert inspect.getdoc(found)
    assert callable(found)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_of_one_mould(name: str) -> None:
    signature = inspect.signature(getattr(cnnkit, name))
    assert ("root" in signature.parameters) == (name not in ROOTLESS)
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        if parameter.name == "root":
            assert parameter.default is None
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert signature.return_annotation is not inspect.Signature.empty
    raises = inspect.getdoc(getattr(cnnkit, name))
    assert "Raises" in str(raises) or name == "doctor"  # which looks, and never fails


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'cnnkit' has no attribute 'lode'"):
        cnnkit.lode  # type: ignore[attr-defined]  # noqa: B018


def test_a_users_file_is_checked_strictly_against_the_surface(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    file = tmp_path / "users.py"
    file.write_text(USERS)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(REPO / "pyproject.toml")]
    # what `make check` has parsed already: torch's types alone take 15 s
    command += ["--cache-dir", str(REPO / ".mypy_cache"), str(file)]
    environment = {**os.environ, "MYPYPATH": str(REPO)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout
