"""What each layer makes of the current picture: from the graph that serves, else from the checkpoint.

A graph tells all that its nodes put out, whatever it came from; a checkpoint needs PyTorch.
"""

from __future__ import annotations

import base64
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve.page.messages import LayerPicture
from toolkit.answering import filled
from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.backends import opener
from toolkit.errors import CnnkitError, NotFoundError, needs_extra
from toolkit.graphs import GRAPH
from toolkit.passports import Format
from toolkit.profiling.rows.claims import module_of

if TYPE_CHECKING:
    import torch

    from toolkit.modules import ModuleRow

# nodes that only carry values, or turn them into codes and back
PASSING = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity", "Shape", "Gather", "Unsqueeze"}
)
# of all layers together: what a page can draw while somebody draws
ALL_TILES_BYTES = 400_000
# of one layer that is looked at closely
ONE_TILES_BYTES = 1_500_000
SIDE, LARGE_SIDE = 32, 96
MOST, FEWEST, LARGE_MOST = 64, 4, 256
# layers of a deep network are shown so many, spread over all of it
MOST_LAYERS = 48


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """One layer's output for one picture, without the batch: (C, H, W), or any other shape."""

    name: str
    type: str
    values: NDArray[Any]


class Interior(ABC):
    """A network opened so that every layer's output comes out. Threads may call at once.

    `package` is what opening one needs, which the `extra` installs.
    """

    package: ClassVar[str]
    extra: ClassVar[str]

    def __init__(self, artifact: Artifact, model_file: Path | None = None) -> None:
        self.artifact = artifact

    @abstractmethod
    def outputs(self, rows: NDArray[Any]) -> list[LayerOutput]:
        """Run one picture's input; return each layer's output in the order of execution."""


class GraphInterior(Interior):
    """An ONNX file with every node's output made one of the graph's."""

    package = GRAPH  # which has the name of the format that it reads
    extra = "export"

    def __init__(self, artifact: Artifact, model_file: Path | None = None) -> None:
        """Open the graph. Raises MissingExtraError without onnx, CorruptError."""
        super().__init__(artifact)
        with needs_extra(self.extra):
            import onnx  # noqa: F401  (else its absence is told by what reads graphs)
        from toolkit.graphs.naming import modules_of
        from toolkit.graphs.reading import load_graph
        from toolkit.graphs.running import inner_session

        model = load_graph(artifact.path)
        layers: dict[str, tuple[str, str]] = {}
        for node in model.graph.node:
            if node.op_type not in PASSING and node.output and node.output[0]:
                modules = modules_of(node)
                name = modules[0] if modules else module_of(node.name or node.output[0])
                # the last node of a module is what the module puts out
                layers.pop(name, None)
                layers[name] = (node.op_type, node.output[0])
        self.layers = layers
        self.wanted = [output for _, output in layers.values()]
        self.opened = inner_session(model, self.wanted)

    def outputs(self, rows: NDArray[Any]) -> list[LayerOutput]:
        from toolkit.graphs.running import inner_values

        least = self.artifact.passport.input.shape[0] or 1
        values = inner_values(self.opened, filled(rows, least), self.wanted)
        return [
            LayerOutput(name=name, type=type, values=values[output][0])
            for name, (type, output) in self.layers.items()
            if values[output].ndim > 1 and values[output].dtype.kind == "f"
        ]


class CheckpointInterior(Interior):
    """A checkpoint's network of its own, walked call by call."""

    package = "torch"
    extra = "train"

    def __init__(self, artifact: Artifact, model_file: Path | None = None) -> None:
        """Load the network. Raises MissingExtraError without torch."""
        super().__init__(artifact)
        with needs_extra(self.extra):
            from toolkit.checkpoints import load_module

            self.module = load_module(artifact, model_file=model_file)
        self._lock = threading.Lock()

    def outputs(self, rows: NDArray[Any]) -> list[LayerOutput]:
        import torch

        from toolkit.modules import visit

        found: list[LayerOutput] = []

        def keep(row: ModuleRow, output: torch.Tensor) -> None:
            # a copy, because the next layer may work in place
            found.append(LayerOutput(name=row.name, type=row.type, values=output[0].float().numpy().copy()))

        with self._lock:
            visit(self.module, torch.from_numpy(np.asarray(rows, dtype=np.float32)), keep)
        return [layer for layer in found if layer.values.ndim]


INTERIORS: Mapping[Format, type[Interior]] = {GRAPH: GraphInterior, CHECKPOINT: CheckpointInterior}


def why_no_interior(artifact: Artifact) -> str | None:
    """Return why the layers of a file cannot be shown here; None where they can."""
    kind = INTERIORS.get(artifact.passport.format)
    if kind is None:
        return f"{artifact.path.name} does not tell what its layers put out"
    if find_spec(kind.package) is None:
        return f"what the layers make of a picture needs {kind.package}: `pip install 'cnnkit[{kind.extra}]'`"
    return None


def open_interior(artifact: Artifact, model_file: Path | None) -> Interior:
    """Open a file that `why_no_interior` has nothing against. Raises CnnkitError."""
    why = why_no_interior(artifact)
    if why is not None:
        raise CnnkitError(why)
    return INTERIORS[artifact.passport.format](artifact, model_file)


def why_no_heat(artifact: Artifact | None, why_not: str | None) -> str | None:
    """Return why no heat map can be made of a checkpoint here; None where one can."""
    if artifact is not None:
        return None
    return f"{opener(CHECKPOINT).title} makes heat maps, from a checkpoint: {why_not or 'there is none here'}"


def drawn(layers: Sequence[LayerOutput]) -> list[LayerPicture]:
    """Return layers as pictures, as many channels of each as all together may take."""
    if len(layers) > MOST_LAYERS:
        kept = {round(at) for at in np.linspace(0, len(layers) - 1, MOST_LAYERS)}
        layers = [layer for at, layer in enumerate(layers) if at in kept]
    each = ALL_TILES_BYTES // max(1, len(layers))
    return [draw(layer, side=SIDE, most=MOST, most_bytes=each) for layer in layers]


def drawn_large(layers: Sequence[LayerOutput], name: str) -> LayerPicture:
    """Return one layer as a picture, larger and with more channels. Raises NotFoundError."""
    found = next((layer for layer in layers if layer.name == name), None)
    if found is None:
        known = ", ".join(layer.name for layer in layers)
        raise NotFoundError(f"no layer {name!r}; known: {known}")
    return draw(found, side=LARGE_SIDE, most=LARGE_MOST, most_bytes=ONE_TILES_BYTES)


def draw(layer: LayerOutput, *, side: int, most: int, most_bytes: int) -> LayerPicture:
    """Return a layer's channels as bytes on one scale; what is no picture is one row of figures."""
    values = np.asarray(layer.values, dtype=np.float32)
    shape = list(values.shape)
    is_picture = values.ndim == 3 and values.shape[1] * values.shape[2] > 1
    maps = values if is_picture else values.reshape(-1, 1, 1)
    low, high = float(np.nanmin(maps)), float(np.nanmax(maps))
    height, width = min(side, maps.shape[1]), min(side, maps.shape[2])
    count = len(maps)
    few = max(FEWEST, min(most, most_bytes // (height * width)))
    shown = min(count, few if is_picture else most_bytes)
    scaled = (maps[:shown] - low) * (255 / ((high - low) or 1.0))
    tiles = np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)
    if (height, width) != tiles.shape[1:]:
        small = [Image.fromarray(tile).resize((width, height), Image.Resampling.BOX) for tile in tiles]
        tiles = np.stack([np.asarray(tile) for tile in small])
    return LayerPicture(
        name=layer.name,
        type=layer.type,
        shape=shape,
        count=count,
        shown=shown,
        height=height,
        width=width,
        low=low,
        high=high,
        tiles=base64.b64encode(np.ascontiguousarray(tiles).tobytes()).decode(),
    )
