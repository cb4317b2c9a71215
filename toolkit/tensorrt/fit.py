"""Whether an engine fits this machine, told from its passport before TensorRT is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from toolkit.artifacts import Artifact
from toolkit.machine.cuda import device_count, gpus
from toolkit.passports import Target
from toolkit.tensorrt.flavours import FLAVOURS

# compute capability 8.0, as `SM80` has it
AMPERE = 80
# data centres' GPUs, which TensorRT for RTX has no kernels for
ONLY_CLASSIC = ("SM90", "SM100", "SM103")
GET_CLASSIC = "pip install 'cnnkit[tensorrt]' (classic TensorRT)"
# what TensorRT for RTX says of an engine that it will not open
DIAGNOSES = {
    "VERSION_MISMATCH": "another release of TensorRT-RTX built it",
    "UNSUPPORTED_CC": "it holds no kernels for this GPU",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged or no engine",
    "CUDA_ERROR": "CUDA failed while it was looked at",
}


@dataclass(frozen=True, kw_only=True)
class Here:
    """This machine as an engine sees it: the GPU's compute capability, and TensorRT by flavour."""

    capability: str | None
    versions: Mapping[str, str]


def here(index: int = 0) -> Here:
    """Look at this machine; imports no TensorRT and changes nothing."""
    found = {name: version for name, one in FLAVOURS.items() if (version := one.version())}
    capability = gpus()[index].capability if index < device_count() else None
    return Here(capability=capability, versions=found)


def beyond(capability: str, versions: Mapping[str, str]) -> str | None:
    """Say why no TensorRT of those here runs on a GPU; None where one does, or where none is here."""
    if capability not in ONLY_CLASSIC or list(versions) != ["rtx"]:
        return None
    rtx, classic = FLAVOURS["rtx"].label, FLAVOURS["classic"].label
    return f"{rtx}, which is here, does not run on SM {_dotted(capability)}; classic {classic} is needed"


def misfit(artifact: Artifact, machine: Here) -> str | None:
    """Say in one line why an engine cannot run here and what to type next; None where it fits.

    An engine without a passport's target is not judged. A missing GPU is the caller's to say.
    """
    target = artifact.passport.target
    if target is None or target.flavour is None:
        return None
    flavour = FLAVOURS.get(target.flavour)
    if flavour is None:
        return f"{artifact.path} names the unknown TensorRT flavour {target.flavour!r}"
    capabilities = ", ".join(_dotted(name) for name in target.compute_capabilities)
    built = f"{artifact.path.name} was built" + (f" for SM {capabilities}" if capabilities else "")
    built += f" by {flavour.label}" + (f" {target.version}" if target.version else "")
    again = f"`cnnkit export {artifact.name} --format trt --precision {artifact.passport.precision}"
    installed = machine.versions.get(target.flavour)
    if installed is None:
        other = [FLAVOURS[name].label for name in machine.versions]
        have = f"here is {' and '.join(other)}" if other else "no TensorRT is installed here"
        return f"{built}; {have}: {target.install or f'pip install cnnkit[{flavour.extra}]'}"
    if flavour.name == "rtx" and target.version and installed != target.version:
        # an engine of TensorRT for RTX opens with the very release that built it and no other
        return f"{built}; here is {installed}: {target.install}, or {again}` builds it anew"
    name = machine.capability
    if name is None or _runs_on(target, name):
        return None
    here = f"{built}; this GPU is SM {_dotted(name)}"
    if name in ONLY_CLASSIC and flavour.name == "rtx":
        if "classic" not in machine.versions:
            return (
                f"{here}, which {flavour.label} does not run on: {GET_CLASSIC}, then {again}` builds it here"
            )
        return f"{here}, which {flavour.label} does not run on: {again} --flavour classic` builds it here"
    if flavour.name == "classic":  # it builds for the GPU that it runs on, so no target can be typed
        return f"{here}: `cnnkit verify {artifact.path} --rebuild` builds it here"
    return f"{here}: {again} --target {name.lower()}`"


def _runs_on(target: Target, capability: str) -> bool:
    """Tell whether an engine has kernels for a GPU, as far as its passport knows."""
    if not target.compute_capabilities or capability in target.compute_capabilities:
        return True
    return target.hardware_compatibility == "AMPERE_PLUS" and int(capability.removeprefix("SM")) >= AMPERE


def explain_refusal(trt: ModuleType, runtime: Any, data: bytes) -> str | None:
    """Ask TensorRT for RTX why it refused an engine; None where the flavour cannot say."""
    if not hasattr(runtime, "get_engine_validity"):
        return None
    _, found = runtime.get_engine_validity(data)
    reasons = [
        text
        for name, text in DIAGNOSES.items()
        if int(getattr(trt.EngineInvalidityDiagnostics, name)) & found
    ]
    return ", ".join(reasons) or None


def _dotted(capability: str) -> str:
    """Return `SM89` as 8.9 and `SM120` as 12.0."""
    digits = capability.upper().removeprefix("SM")
    return f"{digits[:-1]}.{digits[-1]}"
