"""How long a network's default training would take on this machine, from two of its steps."""

from __future__ import annotations

from toolkit.datasets import dataset_of
from toolkit.models import ModelSpec
from toolkit.outputs import logits_of
from toolkit.traces import timed


def minutes_to_train(spec: ModelSpec) -> str | None:
    """Measure two training steps here and scale them to the default recipe; None where unknown."""
    dataset = dataset_of(spec.dataset) if spec.dataset else None
    recipe = spec.recipes.get("default")
    if recipe is None or dataset is None or dataset.train_images is None:
        return None
    try:
        import torch
    except ImportError:
        return None
    module = spec.build(spec.input_shape[0], spec.classes)
    batch = min(recipe.batch, 16)
    images = torch.zeros(batch, *spec.input_shape)
    labels = torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(logits_of(module(images)), labels)
        if loss.requires_grad:  # else nothing in it learns, which `train` says
            loss.backward()  # type: ignore[no-untyped-call]

    step_ms = min(timed(step, 3)[1:])  # the first step also pays for the libraries' warm-up
    minutes = step_ms / batch * dataset.train_images * recipe.epochs / 60_000
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} minutes"
