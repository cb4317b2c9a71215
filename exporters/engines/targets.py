"""Which TensorRT builds an engine, and for which GPUs; what cannot be had is said before building."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Literal

from toolkit.errors import UnavailableError
from toolkit.exporting import Option
from toolkit.machine.cuda import device_count
from toolkit.passports import Precision
from toolkit.tensorrt.fit import ONLY_CLASSIC
from toolkit.tensorrt.flavours import FLAVOURS, Flavour, FlavourName, flavour
from toolkit.tensorrt.network import ParsedNetwork

TURING = "SM75"
# what TensorRT for RTX cannot build for at all
NEVER: dict[Precision, tuple[str, ...]] = {"bf16": (TURING,)}


@dataclass(frozen=True, kw_only=True)
class TrtOptions:
    """What only this exporter is asked: which TensorRT builds, and for which GPUs and releases."""

    target: Annotated[tuple[str, ...], Option(help="TensorRT-RTX: GPUs to build for.", metavar="sm89,…")] = ()
    flavour: Annotated[
        FlavourName | None, Option(help="TensorRT to build with.", choices=("rtx", "classic"))
    ] = None
    compatible: Annotated[
        Literal["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"] | None,
        Option(
            help="Classic TensorRT: GPUs that the engine runs on (default: the one here).",
            choices=("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
        ),
    ] = None
    version_compatible: Annotated[bool, Option(help="Classic TensorRT: for later releases, too.")] = False


def choose_flavour(asked: TrtOptions) -> Flavour:
    """Return the TensorRT to build with: the one named, else classic where it can build, else RTX.

    A named target is RTX's. Raises UnavailableError where none is installed, and for what RTX cannot do.
    """
    chosen = _flavour_of(asked)
    if chosen.name == "rtx" and asked.compatible not in (None, "NONE"):
        raise UnavailableError(
            "--compatible is for classic TensorRT on a GPU (--flavour classic); TensorRT-RTX builds for the "
            "GPUs that --target names, for all by default"
        )
    if chosen.name == "rtx" and asked.version_compatible:
        raise UnavailableError(
            "--version-compatible is for classic TensorRT on a GPU (--flavour classic); an engine of "
            "TensorRT-RTX opens with the release that built it, so leave it away and build again for another"
        )
    return chosen


def _flavour_of(asked: TrtOptions) -> Flavour:
    if asked.flavour:
        return flavour(asked.flavour)
    if asked.target:  # classic TensorRT has the GPU that is here, and no other
        return FLAVOURS["rtx"]
    if FLAVOURS["classic"].version() and device_count():
        return FLAVOURS["classic"]
    if FLAVOURS["rtx"].version():
        return FLAVOURS["rtx"]
    raise UnavailableError("no TensorRT is installed here: pip install 'cnnkit[export]' (x86-64 Linux)")


def capabilities(trt: ModuleType) -> list[str]:
    """Return the compute capabilities that TensorRT for RTX builds for, oldest first: SM75, SM80 …"""
    names = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    return sorted(names, key=lambda name: int(name.removeprefix("SM")))


def choose_targets(
    trt: ModuleType, made_by: Flavour, asked: TrtOptions, precision: Precision
) -> tuple[str, ...]:
    """Return the compute capabilities to build for: those named, else all that are known.

    Raises UnavailableError for one that the flavour or the precision cannot have.
    """
    if made_by.name == "classic":
        if asked.target:
            raise UnavailableError(
                "classic TensorRT builds for the GPU that it runs on; "
                "leave --target away, or take TensorRT-RTX with --flavour rtx"
            )
        if not device_count():
            raise UnavailableError(
                "classic TensorRT builds on an NVIDIA GPU and none is visible; "
                "--flavour rtx builds without one"
            )
        return ()
    known = capabilities(trt)
    never = NEVER.get(precision, ())
    wanted = tuple(dict.fromkeys(name.upper().replace(".", "").replace("_", "") for name in asked.target))
    for name in wanted:
        if name not in known:
            hint = "classic TensorRT on that GPU builds for it" if name in ONLY_CLASSIC else "no such target"
            raise UnavailableError(
                f"TensorRT-RTX cannot build for {name} ({hint}); possible: {', '.join(known).lower()}"
            )
        if name in never:
            raise _without(name, f"has no {precision}", known)
    return wanted or tuple(name for name in known if name not in never)


def narrow_targets(
    targets: tuple[str, ...], network: ParsedNetwork, asked: TrtOptions, precision: Precision
) -> tuple[str, ...]:
    """Leave out targets that cannot have this network's matrix products; refuse one that was named.

    Turing's compiler in TensorRT for RTX has none in fp32, which int8 falls back to and which an fp16
    graph may have kept; a network of convolutions alone builds for it.
    """
    products = [
        layer
        for layer in network.layers
        if layer.type == "MATRIX_MULTIPLY" and layer.precision in ("FLOAT", "INT8")
    ]
    if not products:
        return targets
    fitting = tuple(name for name in targets if name != TURING)
    if asked.target and fitting != targets:
        node = next((name for layer in products for name in layer.onnx_nodes), products[0].name)
        raise _without(TURING, f"has no {precision} matrix products ({node})", list(targets))
    return fitting


def _without(name: str, lacks: str, known: list[str]) -> UnavailableError:
    able = ",".join(other.lower() for other in known if other != name)
    instead = f"`--target {able}` or " if able else ""
    return UnavailableError(f"TensorRT-RTX {lacks} for {name}; {instead}--precision fp16 is possible")
