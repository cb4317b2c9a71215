"""What OpenVINO opens: its format, its releases, and in one line what it says of a file that it cannot."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

from toolkit.artifacts import Artifact
from toolkit.errors import ShapeError, UnavailableError
from toolkit.figures import shape_text
from toolkit.machine.cpu import cpu
from toolkit.machine.packages import package_version
from toolkit.passports import Format, Precision

# the format of its own files, and what lies in such a folder
IR: Format = "openvino"
GRAPH_FILE, WEIGHTS_FILE = "model.xml", "model.bin"
PACKAGE = "openvino"
DEVICE = "CPU"


@functools.cache
def core() -> Any:
    """Return OpenVINO's `Core`, the one of this process.

    Each one that loads the CPU plug-in gives its thread a stack for signals and takes that away at its end.
    Two that overlap leave the first one's behind, which is no memory by then: the next signal, a Ctrl-C or
    a SIGTERM, would end the process with SIGSEGV (seen with 2026.4.1).
    """
    import_openvino()
    from openvino import Core

    return Core()


def import_openvino() -> None:
    """Import OpenVINO, and start nothing."""
    # the first import would tell Google Analytics of it: without that package OpenVINO takes its own stub
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so Python bars a module
    import openvino  # noqa: F401


def refuse(artifact: Artifact) -> None:
    """Raise ShapeError or UnavailableError for what cannot be opened here, whatever is in the file."""
    known = artifact.passport
    if None in known.input.shape[1:]:
        raise ShapeError(
            f"{artifact.path} takes {shape_text(known.input.shape)}, and OpenVINO is given one size of "
            "pictures: only the batch may be open; export it at one size"
        )
    why = lacks(known.precision)
    if why:
        raise UnavailableError(f"{artifact.path} was asked for in {known.precision}, and {why}")
    wrote = known.target.version if known.target and known.format == IR else None
    if wrote and _numbers(wrote) > _numbers(release()):
        raise UnavailableError(
            f"{artifact.path} was written by OpenVINO {wrote}, and {release()} is installed, which need not "
            f"read files of later releases: pip install {PACKAGE}=={wrote}, or export it again here"
        )


def lacks(precision: Precision) -> str | None:
    """Return why OpenVINO does not compute a precision on this processor; None where it does."""
    if precision != "bf16" or "BF16" in core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        return None
    return f"OpenVINO computes no bf16 on this processor ({cpu().name}): `--precision fp32` runs here"


def release() -> str:
    """Return the installed release, empty where there is none."""
    return package_version(PACKAGE) or ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


_MESSAGE = " with a message:"


def _blamed(lines: Sequence[str]) -> dict[str, str]:
    """Return the operators that could not be converted, each with the last line of its own message."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith("-- ") or line == "Summary:":
            name = line.removeprefix("-- ").removesuffix(_MESSAGE) if line.endswith(_MESSAGE) else ""
        elif name:
            found[name] = line
    return found


def reason(error: Exception) -> str:
    """Return what OpenVINO says in one line: its texts begin with where in its source they come from."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    blamed = _blamed(lines)
    if blamed:
        return "; ".join(f"{name}: {why}" for name, why in blamed.items())
    listed = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    told = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return next(iter(listed or told or lines), "no reason given")
