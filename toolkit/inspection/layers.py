"""What a network is made of: every layer's shape, parameters, multiply-adds and bytes, also in training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import schema, zoo
from toolkit.artifacts import artifacts_root, find_artifacts, open_artifact
from toolkit.errors import MissingExtraError
from toolkit.models import ModelSpec, Recipe
from toolkit.modules import ModuleRow, visit, walk
from toolkit.opening import is_path

if TYPE_CHECKING:
    from torch import nn


_FIGURE_BYTES = 4  # parameters, gradients and the optimizer's state are fp32


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A network's rows for a batch, and what training it holds in memory; bytes, None where not asked.

    `model` and `classes` are those of a network with a name.
    """

    input_shape: tuple[int, ...]
    rows: tuple[ModuleRow, ...]
    training: TrainingMemory | None = None
    model: str = ""
    classes: int | None = None

    @property
    def parameters(self) -> int:
        """Return the number of trainable figures."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Return the multiply-adds of the whole batch."""
        return sum(row.macs for row in self.rows)

    @property
    def weights_bytes(self) -> int:
        """Return the bytes of parameters and buffers."""
        return sum(row.weights_bytes for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Return the bytes of all outputs together; a runtime that frees them needs fewer at once."""
        return sum(row.activation_bytes for row in self.rows)

    def weightiest(self) -> ModuleRow:
        """Return the layer that holds most bytes of weights."""
        return max(self.rows, key=lambda row: row.weights_bytes)

    def held_bytes(self) -> tuple[int, ...]:
        """Return what each layer holds: weights and output, or in training all that a step keeps for it."""
        if self.training is None:
            return tuple(row.weights_bytes + row.activation_bytes for row in self.rows)
        copies = self.training.copies
        return tuple(
            row.weights_bytes + copies * row.parameters * _FIGURE_BYTES + saved
            for row, saved in zip(self.rows, self.training.saved_by_row, strict=True)
        )

    def heaviest(self) -> ModuleRow:
        """Return the layer that holds most bytes, in the sense of `held_bytes`."""
        held = self.held_bytes()
        return self.rows[held.index(max(held))]

    def hungriest(self) -> ModuleRow:
        """Return the layer that needs most multiply-adds."""
        return max(self.rows, key=lambda row: row.macs)

    @property
    def step_bytes(self) -> int | None:
        """All that a training step holds, in bytes; None where training was not asked about."""
        held = self.training
        if held is None:
            return None
        return self.weights_bytes + held.gradient_bytes + held.optimizer_bytes + held.saved_bytes

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the sums, the largest of all, every row, and the memory of a training step."""
        rows = [schema.plain(row) for row in self.rows]
        held = self.training
        for row, kept, whole in zip(rows, held.saved_by_row if held else (), self.held_bytes(), strict=False):
            row.update(saved_bytes=kept, held_bytes=whole)
        return {
            "model": self.model,
            "batch": self.input_shape[0],
            "classes": self.classes,
            "input_shape": list(self.input_shape),
            "parameters": self.parameters,
            "macs": self.macs,
            "weights_bytes": self.weights_bytes,
            "activation_bytes": self.activation_bytes,
            "most_weights": self.weightiest().name,
            "most_memory": self.heaviest().name,
            "most_compute": self.hungriest().name,
            "rows": rows,
            "training": held
            and {
                "recipe": held.recipe,
                "optimizer": held.optimizer,
                "gradient_bytes": held.gradient_bytes,
                "optimizer_bytes": held.optimizer_bytes,
                "saved_bytes": held.saved_bytes,
                "total_bytes": self.step_bytes,
            },
        }

    def _repr_html_(self) -> str:
        from toolkit.inspection.layer_texts import sentences, table
        from toolkit.markup import listed

        return table(self).html() + listed(sentences(self))


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """What one training step holds beside the weights, in bytes.

    `copies` counts the figures held for each parameter beside itself: its gradient and the optimizer's.
    `saved_bytes` are the tensors that autograd keeps for the backward pass, without the weights.
    `saved_by_row` tells which row made it keep them, in the order of the rows.
    """

    recipe: str
    optimizer: str
    copies: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    saved_by_row: tuple[int, ...]


def show(
    model: str | Path,
    *,
    batch: int = 1,
    training: str | None = None,
    classes: int | None = None,
    channels: int | None = None,
    untrained: bool = False,
    root: Path | str | None = None,
    model_file: Path | None = None,
) -> Layers:
    """Return what a network is made of: each layer's shape, parameters, multiply-adds and bytes, in fp32.

    `model` is a network of the zoo or an artifact, by name or path; `untrained` looks at no artifact of that
    name. `training` is the recipe of which the memory of a step is told, too. `classes` and `channels` None
    are the model's own. Nothing is computed: the shapes are those of torch's meta device.

    Raises NotFoundError with the nearest match, ShapeError for an input that does not fit, MissingExtraError
    where PyTorch is not installed.
    """
    spec, shape, count = _named(str(model), artifacts_root(root), model_file, untrained=untrained)
    shape = (channels or shape[0], *shape[1:])
    count = classes or count
    recipe = spec.recipe(training) if training else None
    found = dissect(shadow(spec, shape[0], count), (batch, *shape), training=recipe)
    return dataclasses.replace(found, model=spec.name, classes=count)


def _named(
    text: str, root: Path, model_file: Path | None, *, untrained: bool
) -> tuple[ModelSpec, tuple[int, int, int], int]:
    """Return what MODEL names, a network of the zoo or an artifact: its spec, (C, H, W) and classes."""
    known = {**zoo.models(), **(zoo.models_of_file(model_file) if model_file else {})}
    if text in known or not (is_path(text) or (not untrained and find_artifacts(root, text))):
        spec = zoo.model(text, model_file=model_file)
        return spec, spec.input_shape, spec.classes
    path = Path(text) if is_path(text) else find_artifacts(root, text)[0][0]
    passport = open_artifact(path).passport
    spec = zoo.model(passport.model, model_file=model_file)
    channels, height, width = (extent or 1 for extent in passport.input.shape[1:])
    return spec, (channels, height, width), len(passport.classes)


def shadow(spec: ModelSpec, channels: int, classes: int) -> nn.Module:
    """Build a network without memory for its weights: shapes only, on torch's `meta` device."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "train") from None
    with torch.device("meta"):
        return spec.build(channels, classes)


def dissect(module: nn.Module, input_shape: tuple[int, ...], *, training: Recipe | None = None) -> Layers:
    """Walk a module for (N, C, H, W); with a recipe also say what a training step by it holds."""
    rows = walk(module, input_shape)
    return Layers(
        input_shape=input_shape,
        rows=rows,
        training=_training(module, input_shape, training) if training else None,
    )


def optimizer_copies(recipe: Recipe) -> int:
    """Return how many figures a recipe's optimizer keeps for each parameter.

    Source: torch.optim: SGD keeps a momentum buffer where momentum is not 0, Adam and AdamW two moments.
    An average of the weights (EMA) is a third copy.
    """
    copies = {"sgd": int(recipe.momentum != 0), "adam": 2, "adamw": 2}[recipe.optimizer]
    return copies + int(recipe.ema_decay is not None)


def _training(module: nn.Module, input_shape: tuple[int, ...], recipe: Recipe) -> TrainingMemory:
    saved = _saved(module, input_shape)
    weights = sum(tensor.nbytes for tensor in module.parameters() if tensor.requires_grad)
    return TrainingMemory(
        recipe=recipe.name,
        optimizer=recipe.optimizer,
        copies=1 + optimizer_copies(recipe),
        gradient_bytes=weights,
        optimizer_bytes=weights * optimizer_copies(recipe),
        saved_bytes=sum(saved),
        saved_by_row=tuple(saved),
    )


def _saved(module: nn.Module, input_shape: tuple[int, ...]) -> list[int]:
    """Return what autograd keeps for the backward pass, in bytes, by the row that first asked for it.

    Counted once for each piece of memory, whole, since a view keeps all of what it looks into.
    """
    import torch

    weights = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    seen: dict[int, torch.Tensor] = {}
    fresh, by_row = [0], list[int]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory._cdata not in weights and memory._cdata not in seen:
            seen[memory._cdata] = tensor  # held, so that its address is not given to another
            fresh[0] += memory.nbytes()
        return tensor

    def next_row(row: ModuleRow, output: torch.Tensor) -> None:
        by_row.append(fresh[0])
        fresh[0] = 0

    first = next(module.parameters(), None)
    given = torch.zeros(input_shape, device=first.device if first is not None else None)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        visit(module, given, next_row, training=True)
    return by_row
