"""The networks that can be named: the zoo's families, and those of a user's own Python file."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from toolkit.artifacts import check_name
from toolkit.errors import CnnkitError, NotFoundError, unknown_name
from toolkit.models import FAMILIES, ModelSpec
from toolkit.outputs import build_answering


@cache
def models() -> dict[str, ModelSpec]:
    """Return every model of the zoo by name, in the order of its file. Imports no torch."""
    return {spec.name: spec for family in FAMILIES.all() for spec in family}


def model(name: str, *, model_file: Path | None = None) -> ModelSpec:
    """Return the model of that name, from the user's own `model_file` first when one is given."""
    known = {**models(), **(models_of_file(model_file) if model_file else {})}
    if name in known:
        return known[name]
    error = unknown_name("model", name, known)
    # an artifact of a net of one's own names it, but not the file it came from: that file is run
    if model_file is None:
        error = NotFoundError(f"{error}; a net of your own needs --model-file FILE.py")
    raise error


def models_of_file(path: Path) -> dict[str, ModelSpec]:
    """Run a user's own Python file and return the models of its `MODELS` constant by name.

    The file is code that its user named: it runs with the user's rights.
    """
    if not path.is_file():
        raise NotFoundError(f"no model file {path}; --model-file takes a Python file with MODELS")
    spec = importlib.util.spec_from_file_location(f"cnnkit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CnnkitError(f"{path} is no Python file; --model-file takes one with MODELS = (…,)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything; the file is what to look at
        raise CnnkitError(f"{path} failed to import: {type(error).__name__}: {error}") from error
    declared = getattr(module, "MODELS", None)
    if declared is None:
        raise CnnkitError(f"{path} declares no MODELS; see `MODELS` in toolkit/models/lenet.py")
    declared = tuple(declared) if isinstance(declared, (list, tuple)) else (declared,)
    if not all(isinstance(entry, ModelSpec) for entry in declared):
        raise CnnkitError(f"MODELS in {path} holds something that is no toolkit.models.ModelSpec")
    for entry in declared:
        if check_name(entry.name) in models():
            raise CnnkitError(
                f"{path} calls a network {entry.name!r}, as one of the zoo is called: its artifacts would be "
                "taken for that one's; give it a name of its own"
            )
    return {entry.name: replace(entry, build=partial(build_answering, entry.build)) for entry in declared}
