"""cnnkit in Python: train, export, verify, profile, compare and serve small convolutional networks.

Every name is imported when it is first asked for; `__init__.pyi` lists them. Pictures in arrays are uint8,
a network's input is (N, C, H, W) of its passport's dtype, its answers are (N, K). Expected failures are
`errors.CnnkitError`, told in one line. `root` is always the folder of artifacts: None is $CNNKIT_ARTIFACTS,
else ./artifacts.
"""

from __future__ import annotations


def _modules() -> dict[str, str]:
    """Return the module that defines each public name, as the stub beside this file imports it."""
    import ast
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes())
    lines = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in lines for alias in line.names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        found: object = version("cnnkit")
    elif name == "__all__":  # `from cnnkit import *` asks for it, and imports every one of these
        found = sorted(_modules())
    elif name.startswith("_") or (module := _modules().get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        found = getattr(__import__(module, fromlist=[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted((*_modules(), "__version__"))
