"""The two flavours of TensorRT behind one door: which is here, its module, and what its builder says.

`tensorrt_rtx` (TensorRT for RTX) builds engines ahead of time on a machine without a GPU; `tensorrt`
(classic) needs one. Their Python APIs are equal but for a few names, so whatever differs is here or
is asked of the module with `hasattr`. Nothing in this file imports either before `load` is called.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from toolkit.errors import CnnkitError, UnavailableError, unknown_name
from toolkit.machine.packages import package_version
from toolkit.passports import BuilderMemory

FlavourName = Literal["rtx", "classic"]
# what an engine whose passport says nothing was built with
DEFAULT_FLAVOUR: FlavourName = "rtx"


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One TensorRT: the word for it, its module, the packages that carry it and how to get it."""

    name: FlavourName
    label: str
    module: str
    packages: tuple[str, ...]
    extra: str

    def version(self) -> str | None:
        """Return the installed release without importing it; None where it is not installed."""
        if importlib.util.find_spec(self.module) is None:
            return None
        return next(filter(None, map(package_version, self.packages)), None)


FLAVOURS: dict[str, Flavour] = {
    "rtx": Flavour(
        name="rtx",
        label="TensorRT-RTX",
        module="tensorrt_rtx",
        packages=("tensorrt-rtx-cu13", "tensorrt-rtx", "tensorrt-rtx-cu12"),
        extra="export",
    ),
    "classic": Flavour(
        name="classic",
        label="TensorRT",
        module="tensorrt",
        packages=("tensorrt-cu13", "tensorrt", "tensorrt-cu12", "tensorrt-cu13-bindings"),
        extra="tensorrt",
    ),
}


def flavour(name: str) -> Flavour:
    """Return the flavour of that name. Raises NotFoundError with the nearest match."""
    if name not in FLAVOURS:
        raise unknown_name("TensorRT flavour", name, FLAVOURS)
    return FLAVOURS[name]


def load(name: str) -> ModuleType:
    """Import a flavour's module. Raises UnavailableError in words when it is missing or broken."""
    wanted = flavour(name)
    try:
        return importlib.import_module(wanted.module)
    except ModuleNotFoundError:
        raise UnavailableError(
            f"{wanted.label} is not installed: pip install 'cnnkit[{wanted.extra}]'"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        # the bindings import, but their libraries (libnvinfer, libcudart …) do not load
        first = str(error).strip().splitlines()[0]
        raise UnavailableError(
            f"{wanted.label} is installed but does not load: {first}; "
            f"pip install --force-reinstall 'cnnkit[{wanted.extra}]'"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of TensorRT: its severity (`ERROR`, `WARNING`, `INFO` …) and text."""

    severity: str
    text: str


@dataclass
class BuilderLog:
    """Everything that TensorRT said to one logger, in order."""

    messages: list[Message] = field(default_factory=list)

    def first_error(self) -> str | None:
        """Return the first error's first line, None where there was none."""
        errors = (m.text for m in self.messages if m.severity in ("ERROR", "INTERNAL_ERROR"))
        return next((text.strip().splitlines()[0] for text in errors), None)

    def memory(self) -> BuilderMemory:
        """Read the builder's memory totals; they are on the log only (INFO), in no attribute."""
        return BuilderMemory(
            activation_bytes=self._figure(r"Total Activation Memory: (\d+) bytes"),
            weights_bytes=self._figure(r"Total Weights Memory: (\d+) bytes"),
            scratch_bytes=self._figure(r"Max Scratch Memory: (\d+) bytes"),
        )

    def engine_types(self) -> dict[str, int]:
        """Count the built engine's layers by the type they write, as its kernels were compiled: {"Half": 9}.

        They stand in the builder's listing (DETAILED verbosity), which the inspector would show only on a
        machine with a GPU. Empty where the builder printed none. A build for several compute capabilities
        lists one engine (TensorRT-RTX 1.7.1); the last listing is the one in the file.
        """
        listings = [m.text for m in self.messages if m.severity == "VERBOSE" and m.text.startswith("Layers:")]
        return dict(Counter(_WRITES.findall(listings[-1]) if listings else ()))

    def _figure(self, pattern: str) -> int | None:
        found = [match[1] for message in self.messages if (match := re.search(pattern, message.text))]
        # the last one is that of the engine in the file, should a build ever say it more than once
        return int(found[-1]) if found else None


# the type that a layer of the builder's listing writes first
_WRITES = re.compile(r"^Name: .*?, Outputs: .*?Datatype: (\w+)", re.M)
# TensorRT separates names in an engine's metadata with one of these bytes, or with nothing at all.
# A name may hold brackets itself, so its end is the one before the next entry or the end of the text.
_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=\[|\s|[\x1e\x1f]|$)")


def onnx_nodes(text: str) -> tuple[str, ...]:
    """Read ONNX node names from `layer.metadata`: `[ONNX Layer: a][ONNX Layer: b]` gives (a, b)."""
    return tuple(dict.fromkeys(_ONNX_LAYER.findall(text)))


def new_logger(trt: ModuleType, log: BuilderLog) -> Any:
    """Return a logger of that module which writes into `log`; keep it as long as its builder."""
    base: Any = trt.ILogger

    class Logger(base):  # type: ignore[misc]  # the bindings carry no types
        def log(self, severity: Any, msg: str) -> None:
            log.messages.append(Message(severity=str(severity).rpartition(".")[2], text=msg))

    return Logger()


def new_profiler(trt: ModuleType, seen: list[tuple[str, float]]) -> Any:
    """Return a profiler of that module; `seen` gets each layer that ran, with its milliseconds."""
    base: Any = trt.IProfiler

    class Profiler(base):  # type: ignore[misc]  # the bindings carry no types
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            seen.append((layer_name, float(ms)))

    return Profiler()


def guarded(what: str, log: BuilderLog, work: Callable[[], Any]) -> Any:
    """Run one call into TensorRT; a None or a refusal becomes a CnnkitError with the builder's reason."""
    try:
        made = work()
    except (RuntimeError, TypeError, ValueError) as error:
        raise CnnkitError(f"{what} failed: {log.first_error() or error}") from None
    if made is None:
        raise CnnkitError(f"{what} failed: {log.first_error() or 'TensorRT gave no reason'}")
    return made
