"""What a network is made of: every layer's shape, parameters, multiply-adds and bytes, also in training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import schema, zoo
from toolkit.artifacts import artifacts_root, find_artifacts, open_artifact, path_of
from toolkit.errors import CnnkitError
from toolkit.figures import UNKNOWN, bytes_text, count_text
from toolkit.graphs import GRAPH
from toolkit.graphs.source import is_bare_graph
from toolkit.inspection.graph_layers import rows_of_graph
from toolkit.inspection.training_memory import FIGURE_BYTES, TrainingMemory, training_memory
from toolkit.markup import listed
from toolkit.models import ModelSpec, Recipe
from toolkit.modules import ModuleRow, walk
from toolkit.modules import shadow as build_shadow
from toolkit.opening import is_path, require_torch, take_weights
from toolkit.presence import is_file
from toolkit.seeding import refuse_seeding
from toolkit.tables import TextTable

if TYPE_CHECKING:
    from torch import nn


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
    def macs(self) -> int | None:
        """Return the multiply-adds of the whole batch; None where those of a row are not known."""
        found = [row.macs for row in self.rows if row.macs is not None]
        return sum(found) if len(found) == len(self.rows) else None

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
        return tuple(
            row.weights_bytes + self.training.copies * row.parameters * FIGURE_BYTES + saved
            for row, saved in zip(self.rows, self.training.saved_by_row, strict=True)
        )

    def heaviest(self) -> ModuleRow:
        """Return the layer that holds most bytes, in the sense of `held_bytes`."""
        held = self.held_bytes()
        return self.rows[held.index(max(held))]

    def hungriest(self) -> ModuleRow:
        """Return the layer that needs most multiply-adds."""
        return max(self.rows, key=lambda row: row.macs or 0)

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

    def table(self) -> TextTable:
        """Return a row for each layer, and the sums below them."""
        held = self.training
        rows = []
        for index, row in enumerate(self.rows):
            figures = _figures(row.parameters, row.macs, row.weights_bytes, row.activation_bytes)
            kept = (_size(held.saved_by_row[index]),) if held else ()
            rows.append((row.name, row.type, str(list(row.output_shape)), *figures, *kept))
        sums = _figures(self.parameters, self.macs, self.weights_bytes, self.activation_bytes)
        numbers = ("parameters", "mult-adds", "weights", "output", *(["kept"] if held else []))
        return TextTable(
            title=f"{self.model}, input {list(self.input_shape)}",
            head=("layer", "type", "output shape", *numbers),
            rows=tuple(rows),
            foot=("all", "", "", *sums, *([_size(held.saved_bytes)] if held else [])),
            figures=len(numbers),
        )

    def sentences(self) -> list[str]:
        """Say which layers weigh, hold and compute most, and what a training step holds."""
        held, heavy, hungry, weighty = self.training, self.heaviest(), self.hungriest(), self.weightiest()
        holds = f"{_size(heavy.weights_bytes)} weights, {_size(heavy.activation_bytes)} output"
        if held:
            total, kept = max(zip(self.held_bytes(), held.saved_by_row, strict=True))
            holds = (
                f"{_size(total)}: {_size(heavy.weights_bytes)} weights, "
                f"{_size(total - heavy.weights_bytes - kept)} gradients and optimizer, {_size(kept)} kept"
            )
        lines = [
            f"most weights: {weighty.name} ({_size(weighty.weights_bytes)})",
            f"most memory: {heavy.name} ({holds})",
            f"most compute: {hungry.name} ({_count(hungry.macs or 0)} multiply-adds{self._share(hungry)})",
        ]
        unknown = [f"{row.name} ({row.uncounted or row.type})" for row in self.rows if row.macs is None]
        if unknown:
            lines.append(f"multiply-adds not counted: {', '.join(unknown)}")
        if held:
            sizes = map(
                _size, (self.weights_bytes, held.gradient_bytes, held.optimizer_bytes, held.saved_bytes)
            )
            names = ("weights", "gradients", "optimizer", "kept for the backward pass")
            parts = " + ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
            step = f"a training step ({held.recipe}, {held.optimizer}, fp32)"
            lines.append(f"{step}: {parts} = {_size(self.step_bytes)}")
        return lines

    def _share(self, row: ModuleRow) -> str:
        """Return which share of all multiply-adds a layer does, in words; nothing where not all are known."""
        whole = self.macs
        return "" if whole is None else f", {(row.macs or 0) / max(1, whole):.0%} of all"

    def _repr_html_(self) -> str:
        return self.table().html() + listed(self.sentences())


def show(
    model: str | Path,
    *,
    batch: int = 1,
    training: str | None = None,
    classes: int | None = None,
    channels: int | None = None,
    untrained: bool = False,
    pretrained: Path | str | None = None,
    root: Path | str | None = None,
    model_file: Path | str | None = None,
) -> Layers:
    """Return what a network is made of: each layer's shape, parameters, multiply-adds and bytes, in fp32.

    `model` is a network of the zoo or an artifact, by name or path; `untrained` looks at no artifact of that
    name, `pretrained` is a file of published weights of the package's network that it names. `training` is
    the recipe of which the memory of a step is told, too. `classes` and `channels` None are the model's
    own. Nothing is computed: the shapes are those of torch's meta device. An ONNX file from elsewhere, or an
    artifact that was made of one, shows its nodes.

    Raises NotFoundError with the nearest match, ShapeError for an input that does not fit, MissingExtraError
    where PyTorch is not installed.
    """
    model = take_weights(model, pretrained, artifacts_root(root)) or model
    if untrained:
        refuse_seeding([model], seed=None)
    graph = None if model_file else _graph_of(str(model), artifacts_root(root), untrained=untrained)
    if graph is not None:
        if training or classes or channels:
            raise CnnkitError(
                f"{graph} came as ONNX and has no torch model here: its layers are shown as they are, and "
                "--training, --classes and --channels need a network of the zoo"
            )
        given, rows = rows_of_graph(graph, batch)
        return Layers(input_shape=given, rows=rows, model=graph.name.split(".")[0])
    spec, shape, count = _named(str(model), artifacts_root(root), path_of(model_file), untrained=untrained)
    shape = (channels or shape[0], *shape[1:])
    count = classes or count
    recipe = spec.recipe(training) if training else None
    found = dissect(shadow(spec, shape[0], count), (batch, *shape), training=recipe)
    return dataclasses.replace(found, model=spec.name, classes=count)


def _graph_of(text: str, root: Path, *, untrained: bool) -> Path | None:
    """Return the ONNX file that MODEL names where no network of the zoo or of a package stands behind it."""
    path = Path(text)
    if is_path(text):
        if is_file(path) and is_bare_graph(path):
            return path
        found = [path] if is_file(path) else []
    else:
        found = [] if untrained or zoo.is_built_in(text) else [one for one, _ in find_artifacts(root, text)]
    graphs = [one for one in found if one.suffix == f".{GRAPH}"]
    if not graphs:
        return None
    artifact = open_artifact(graphs[-1])
    return None if zoo.is_built_in(artifact.passport.model) else artifact.path


def _named(
    text: str, root: Path, model_file: Path | None, *, untrained: bool
) -> tuple[ModelSpec, tuple[int, int, int], int]:
    """Return what MODEL names, a network of the zoo or an artifact: its spec, (C, H, W) and classes."""
    known = zoo.is_built_in(text) or (model_file is not None and text in zoo.models_of_file(model_file))
    if known or not (is_path(text) or (not untrained and find_artifacts(root, text))):
        spec = zoo.model(text, model_file=model_file)
        return spec, spec.input_shape, spec.classes
    path = Path(text) if is_path(text) else find_artifacts(root, text)[0][0]
    passport = open_artifact(path).passport
    spec = zoo.model(passport.model, model_file=model_file)
    channels, height, width = (extent or 1 for extent in passport.input.shape[1:])
    return spec, (channels, height, width), passport.columns


def shadow(spec: ModelSpec, channels: int, classes: int) -> nn.Module:
    """Build a network without memory for its weights: shapes only, on torch's `meta` device."""
    require_torch()
    return build_shadow(spec.build, channels, classes)


def dissect(module: nn.Module, input_shape: tuple[int, ...], *, training: Recipe | None = None) -> Layers:
    """Walk a module for (N, C, H, W); with a recipe also say what a training step by it holds."""
    return Layers(
        input_shape=input_shape,
        rows=walk(module, input_shape),
        training=training_memory(module, input_shape, training) if training else None,
    )


def _figures(parameters: int, macs: int | None, weights_bytes: int, activation_bytes: int) -> tuple[str, ...]:
    return _count(parameters), count_text(macs or None), _size(weights_bytes), _size(activation_bytes)


def _count(number: int) -> str:
    return f"{number:,}" if number else UNKNOWN


def _size(number: int | None) -> str:
    return bytes_text(number or None)
