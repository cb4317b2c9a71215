"""Trained weights ↔ checkpoint artifacts: safetensors, so that opening one never runs code."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import zoo
from toolkit.artifacts import CHECKPOINT, Artifact, artifact_name, artifact_path, hash_file
from toolkit.errors import CnnkitError, CorruptError, ShapeError, needs_extra
from toolkit.machine.packages import DISTRIBUTION, package_version
from toolkit.models import ModelSpec
from toolkit.passports import Passport, TensorSpec
from toolkit.preprocessing import CHANNELS, Preprocessing
from toolkit.publishing import publish
from toolkit.weights import give, unshared

if TYPE_CHECKING:
    from torch import Tensor, nn


def tool_versions(*packages: str) -> dict[str, str]:
    """Return the exact versions of the packages that are installed, read without importing them."""
    found = {name: package_version(name) for name in (DISTRIBUTION, *packages)}
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {"python": python, **{name: version for name, version in found.items() if version}}


def new_passport(
    spec: ModelSpec,
    *,
    preprocessing: Preprocessing | None,
    classes: tuple[str, ...],
    trained: bool,
    columns: int | None = None,
) -> Passport:
    """Return the passport of a fresh checkpoint of `spec`; dataset, recipe and metrics are the caller's.

    `preprocessing` is None for a network that takes no pictures; its input is then the spec's. `columns` is
    how many scores a picture gets, None for one a class.
    """
    channels, height, width = spec.input_shape
    if preprocessing is not None:
        channels, (height, width) = preprocessing.channels, preprocessing.size
    return Passport(
        format=CHECKPOINT,
        model=spec.name,
        precision="fp32",
        trained=trained,
        input=TensorSpec(name="input", shape=(None, channels, height, width), layout="NCHW"),
        output=TensorSpec(name="logits", shape=(None, columns or len(classes)), layout="NC"),
        classes=classes,
        preprocessing=preprocessing,
        tools=tool_versions("torch", "torchvision", "numpy"),
    )


def save_checkpoint(path: Path, state: dict[str, Tensor], passport: Passport) -> Artifact:
    """Write weights and passport; equal weights give equal bytes (no time or path is inside).

    A weight that the network knows under two names is written under both.
    """
    from safetensors.torch import save

    clean = unshared({name: value.detach().cpu().contiguous() for name, value in sorted(state.items())})

    def draft(part: Path) -> Passport:
        # bytes first: safetensors' own writer hides a full disk in an error of its own
        part.write_bytes(save(clean))
        return passport

    return publish(path, draft)


def load_state(artifact: Artifact) -> dict[str, Tensor]:
    """Read a checkpoint's tensors by name. Raises CorruptError."""
    with needs_extra("train"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    try:
        return load_file(artifact.path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptError(f"{artifact.path} is no readable safetensors file: {error}") from None


def build_module(spec: ModelSpec, passport: Passport) -> nn.Module:
    """Build the untrained module that a passport's weights fit, in eval mode."""
    with needs_extra("train"):
        import torch  # noqa: F401  (only to name the extra when it is missing)
    channels = passport.input.shape[1]
    return spec.build(channels or spec.input_shape[0], passport.columns).eval()


def load_module(artifact: Artifact, *, model_file: Path | None = None, lean: bool = False) -> nn.Module:
    """Build a checkpoint's network with its weights, on the CPU, in fp32 and eval mode.

    `lean` neither fills weights at random first nor copies them, for large networks that are only
    run: weights that two modules share are then equal rather than one. It is for the zoo's: a network
    of one's own may keep tensors where nobody finds them, and they would be without values. Raises
    ShapeError with the keys that do not fit.
    """
    spec = zoo.model(artifact.passport.model, model_file=model_file)
    insist_on_its_code(artifact, spec, model_file)
    state = load_state(artifact)
    if lean and spec.name in zoo.models():  # other packages' networks may keep tensors anywhere, too
        ready = _without_random_start(spec, artifact.passport, state)
        if ready is not None:
            return ready
    module = build_module(spec, artifact.passport)
    wanted = module.state_dict()
    shapes, wanted_shapes = ({k: v.shape for k, v in held.items()} for held in (state, wanted))
    wrong = [k for k in {**wanted, **state} if shapes.get(k) != wanted_shapes.get(k)]
    if wrong:
        raise ShapeError(
            f"{artifact.path} does not hold the weights of {spec.name}; keys that do not fit: "
            f"{', '.join(sorted(wrong)[:8])}{' …' if len(wrong) > 8 else ''}"
        )
    give(module, state)
    return module


def _without_random_start(spec: ModelSpec, passport: Passport, state: dict[str, Tensor]) -> nn.Module | None:
    """Build a network without memory and give it the weights; None where that is not the same.

    It is not where building computes with weights, or keeps values that no checkpoint holds.
    """
    import torch

    try:
        with torch.device("meta"):
            module = build_module(spec, passport)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None  # its author computes with values that are not there
    wanted = module.state_dict()
    if {k: (v.shape, v.dtype) for k, v in wanted.items()} != {
        k: (v.shape, v.dtype) for k, v in state.items()
    }:
        return None
    give(module, state, assign=True)
    empty = any(value.is_meta for value in (*module.parameters(), *module.buffers()))
    return None if empty else module.eval()


def untrained_name(model: str) -> str:
    """Return the artifact name of a model's seeded, untrained weights; never a trained one's."""
    return f"{artifact_name(model)}-untrained"


def model_file_hash(spec: ModelSpec, model_file: Path | None) -> str | None:
    """Return the hash of the file that a network of one's own is written in; None for the zoo's.

    It stands in the passport, so that an edited file begins anew.
    """
    if model_file is None or zoo.is_built_in(spec.name):
        return None
    return hash_file(Path(model_file))


def insist_on_its_code(artifact: Artifact, spec: ModelSpec, model_file: Path | None) -> None:
    """Raise CnnkitError where a network's own file is another one than its checkpoint was made with.

    Weights fit an edited network as long as their shapes do, and it answers otherwise.
    """
    wanted, found = artifact.passport.model_file_sha256, model_file_hash(spec, model_file)
    if wanted is None or found is None or wanted == found:
        return
    raise CnnkitError(
        f"{artifact.path} was made with another version of {model_file} (SHA-256 {wanted[:12]}…, now "
        f"{found[:12]}…): restore that one, `cnnkit train {spec.name} --model-file {model_file}` again, or "
        f"take the weights into the file as it is now: `cnnkit import {artifact.path} --model {spec.name} "
        f"--model-file {model_file} --replace`"
    )


def write_untrained(
    spec: ModelSpec, root: Path, *, seed: int = 0, model_file: Path | None = None
) -> Artifact:
    """Write seeded weights of a model, so that PyTorch and its exports share them.

    The passport says trained: false; the preprocessing is the published one, else pixels / 255. It is null
    where the network takes other channels than pictures have.
    """
    with needs_extra("train"):
        import torch
    channels, height, width = spec.input_shape
    preprocessing = None
    if spec.published:
        preprocessing = dataclasses.replace(spec.published.preprocessing, size=(height, width))
    elif channels in CHANNELS:
        preprocessing = Preprocessing(
            size=(height, width),
            channels=channels,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            formula="divide",
        )
    classes = tuple(str(index) for index in range(spec.classes))
    passport = new_passport(spec, preprocessing=preprocessing, classes=classes, trained=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = spec.build(channels, spec.classes)
    path = artifact_path(root, untrained_name(spec.name))
    passport = dataclasses.replace(passport, seed=seed, model_file_sha256=model_file_hash(spec, model_file))
    return save_checkpoint(path, module.state_dict(), passport)
