"""A file of weights, or a network's code, taken apart: a part a call of a layer, and what no call holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from toolkit import zoo
from toolkit.artifacts import Artifact, read_passport, sidecar
from toolkit.checkpoints import insist_on_its_code
from toolkit.errors import CnnkitError
from toolkit.opening import require_torch
from toolkit.profiling.comparing.parts import NetworkPart, ReadNetwork, WeightTensor
from toolkit.weights import read_weights, unwrap

if TYPE_CHECKING:
    from torch import nn

    from toolkit.modules import WiredRows

COUNTERS = ("num_batches_tracked",)


def code_network(name: str, model_file: Path | None) -> ReadNetwork:
    """Take a network of the zoo, of a package or of one's own file apart, by its code alone."""
    require_torch()
    spec = zoo.model(name, model_file=model_file)
    note = f"{name}: no trained weights are here, so shapes are compared and values are not"
    module = _shadow(spec.build, spec.input_shape[0], spec.classes)
    return _network(name, module, (1, *spec.input_shape), {}, (note,))


def weights_network(path: Path, model_file: Path | None) -> ReadNetwork:
    """Take a file of weights apart: by its network's code where its passport names one, else by its names."""
    require_torch()
    said: list[str] = []
    state = {
        name: WeightTensor(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch."), values=_array(t))
        for name, t in unwrap(read_weights(path), said).items()
        if name.rpartition(".")[2] not in COUNTERS
    }
    module, shape = _module_of(path, model_file)
    if module is not None:
        try:
            return _network(str(path), module, shape, state, tuple(said))
        except CnnkitError:
            pass  # its code no longer takes its input: the names of its weights remain
    parts = tuple(_by_owner(state.items()))
    return ReadNetwork(name=str(path), dialect="names", parts=parts, notes=tuple(said))


def by_owners(part: NetworkPart) -> Iterator[NetworkPart]:
    """Yield what a part's weights are by their names alone: a part for each module that owns some of them."""
    own = {role: tensor for role, tensor in part.weights.items() if "." not in role}
    if own:
        yield replace(part, weights=own)
    inner = [(f"{part.modules[0]}.{role}", one) for role, one in part.weights.items() if role not in own]
    yield from _by_owner(inner, called=part.called)


def _by_owner(state: Iterable[tuple[str, WeightTensor]], *, called: bool = True) -> Iterator[NetworkPart]:
    """Yield weights by the modules that own them; one that the network itself owns stands alone."""
    owners: dict[str, dict[str, WeightTensor]] = {}
    for name, tensor in state:
        owner, _, role = name.rpartition(".")
        owners.setdefault(owner or name, {})[role] = tensor
    for name, own in owners.items():
        yield NetworkPart(modules=(name,), type=None, weights=own, called=called)


def _array(tensor: Any) -> NDArray[Any]:
    """Return a tensor's values; numpy has no bf16, whose values are fp32's."""
    import torch

    plain = tensor.detach().cpu()
    found: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return found


def _module_of(path: Path, model_file: Path | None) -> tuple[nn.Module | None, tuple[int, ...]]:
    """Return the network that a passport beside a file names, without memory, and its input's shape."""
    if not sidecar(path).is_file():
        return None, ()
    passport = read_passport(path)
    spec = zoo.known(passport.model, model_file=model_file)
    if spec is None:
        return None, ()
    insist_on_its_code(Artifact(path=path, passport=passport), spec, model_file)
    shape = (1, *(extent or 1 for extent in passport.input.shape[1:]))
    return _shadow(spec.build, shape[1], passport.columns or spec.classes), shape


def _shadow(build: Callable[[int, int], nn.Module], channels: int, classes: int) -> nn.Module:
    from toolkit.modules import shadow

    return shadow(build, channels, classes)


def _network(
    name: str,
    module: nn.Module,
    shape: tuple[int, ...],
    state: Mapping[str, WeightTensor],
    notes: tuple[str, ...],
) -> ReadNetwork:
    """Return a network of torch. Raises ShapeError where a shape does not pass through it."""
    from toolkit.modules import wired_walk

    wired = wired_walk(module, shape)
    held = (path for path, _ in (*module.named_parameters(), *module.named_buffers()))
    return ReadNetwork(
        name=name,
        dialect="torch",
        parts=tuple(_of_module(module, wired, state)),
        given=("input", *held),
        answers={str(place): value for place, value in enumerate(wired.answers)},
        notes=notes,
    )


def _of_module(
    module: nn.Module, wired: WiredRows, state: Mapping[str, WeightTensor]
) -> Iterator[NetworkPart]:
    """Yield a part for each call of a layer, then what no such call holds, by its owner.

    Those are what blocks own themselves (class tokens, layer scales), and layers that run in training alone.
    Weights that are not in `state` are known by shape only.
    """
    layers = dict(module.named_modules())
    held = {**{name: _shape_only(tensor) for name, tensor in module.state_dict().items()}, **state}
    left = {name: tensor for name, tensor in held.items() if name.rpartition(".")[2] not in COUNTERS}
    for row in wired.rows:
        layer = layers.get(row.name.partition("#")[0])
        roles = layer.state_dict() if layer is not None and row.call == 1 else ()
        names = {role: f"{row.name}.{role}" for role in roles}
        yield NetworkPart(
            modules=(row.name,),
            type=row.type,
            output_shape=row.output_shape,
            settings={
                "settings": layer.extra_repr() if layer is not None else wired.settings.get(row.name, "")
            },
            weights={role: left.pop(name) for role, name in names.items() if name in left},
            takes=(wired.reads[row.name],),
            makes=(wired.writes[row.name],),
        )
    yield from _by_owner(left.items(), called=False)


def _shape_only(tensor: Any) -> WeightTensor:
    return WeightTensor(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
