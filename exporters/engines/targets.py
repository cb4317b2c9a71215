"""Which TensorRT builds an engine, and for which GPUs; what cannot be had is said before building."""

from __future__ import annotations

from types import ModuleType

from toolkit.artifacts import Precision
from toolkit.errors import UnavailableError
from toolkit.exporting import ExportOptions
from toolkit.machine.cuda import device_count
from toolkit.tensorrt.flavours import FLAVOURS, Flavour, flavour
from toolkit.tensorrt.network import ParsedNetwork

TURING = "SM75"
# what TensorRT for RTX cannot build for at all
NEVER: dict[Precision, tuple[str, ...]] = {"bf16": (TURING,)}
ONLY_CLASSIC = ("SM90", "SM100")


def choose_flavour(options: ExportOptions) -> Flavour:
    """Return the TensorRT to build with: the one named, else classic where it can build, else RTX.

    A named target is RTX's. Raises UnavailableError where none is installed, and for what RTX cannot do.
    """
    chosen = _flavour_of(options)
    if chosen.name == "rtx":
        _refuse_compatibility(options)
    return chosen


def _flavour_of(options: ExportOptions) -> Flavour:
    named = options.extra.get("flavour")
    if named:
        return flavour(str(named))
    if options.targets:  # classic TensorRT has the GPU that is here, and no other
        return FLAVOURS["rtx"]
    if FLAVOURS["classic"].version() and device_count():
        return FLAVOURS["classic"]
    if FLAVOURS["rtx"].version():
        return FLAVOURS["rtx"]
    raise UnavailableError("no TensorRT is installed here: pip install 'cnnkit[export]' (x86-64 Linux)")


def _refuse_compatibility(options: ExportOptions) -> None:
    if options.extra.get("compatible") not in (None, "NONE"):
        raise UnavailableError(
            "--compatible is for classic TensorRT on a GPU (--flavour classic); TensorRT-RTX builds for the "
            "GPUs that --target names, for all by default"
        )
    if options.extra.get("version_compatible"):
        raise UnavailableError(
            "--version-compatible is for classic TensorRT on a GPU (--flavour classic); an engine of "
            "TensorRT-RTX opens with the release that built it, so leave it away and build again for another"
        )


def capabilities(trt: ModuleType) -> list[str]:
    """Return the compute capabilities that TensorRT for RTX builds for, oldest first: SM75, SM80 …"""
    names = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    return sorted(names, key=lambda name: int(name.removeprefix("SM")))


def choose_targets(trt: ModuleType, made_by: Flavour, options: ExportOptions) -> tuple[str, ...]:
    """Return the compute capabilities to build for: those named, else all that are known.

    Raises UnavailableError for one that the flavour or the precision cannot have.
    """
    if made_by.name == "classic":
        if options.targets:
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
    never = NEVER.get(options.precision, ())
    wanted = tuple(dict.fromkeys(name.upper().replace(".", "").replace("_", "") for name in options.targets))
    for name in wanted:
        if name not in known:
            hint = "classic TensorRT on that GPU builds for it" if name in ONLY_CLASSIC else "no such target"
            raise UnavailableError(
                f"TensorRT-RTX cannot build for {name} ({hint}); possible: {', '.join(known).lower()}"
            )
        if name in never:
            raise _without(name, f"has no {options.precision}", known)
    return wanted or tuple(name for name in known if name not in never)


def narrow_targets(
    targets: tuple[str, ...], network: ParsedNetwork, options: ExportOptions
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
    if options.targets and fitting != targets:
        node = next((name for layer in products for name in layer.onnx_nodes), products[0].name)
        raise _without(TURING, f"has no {options.precision} matrix products ({node})", list(targets))
    return fitting


def _without(name: str, lacks: str, known: list[str]) -> UnavailableError:
    able = ",".join(other.lower() for other in known if other != name)
    instead = f"`--target {able}` or " if able else ""
    return UnavailableError(f"TensorRT-RTX {lacks} for {name}; {instead}--precision fp16 is possible")
