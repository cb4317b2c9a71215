"""What a training leaves: its folder, snapshots, kept weights, logs and charts."""

from __future__ import annotations

from importlib.util import find_spec

# packages that only write for people to look at: a training does without them, and says so
LEFT_OUT = {"tensorboard": "TensorBoard files", "matplotlib": "pictures of curves and confusions"}


def lacks(package: str) -> bool:
    """Tell whether a package is not installed, without importing it."""
    return find_spec(package) is None


def left_out() -> str | None:
    """Say which files a run leaves out here and what brings them; None where it leaves out none."""
    missing = [name for name in LEFT_OUT if lacks(name)]
    if not missing:
        return None
    what = ", no ".join(LEFT_OUT[name] for name in missing)
    return f"note: no {what}, which need {', '.join(missing)}: pip install 'cnnkit[train]'"
