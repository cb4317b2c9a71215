"""What frozen layers make of the training pictures, computed once: the head then learns from that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from toolkit.figures import bytes_text
from toolkit.heads import heads_with_dropout
from toolkit.outputs import logits_of
from toolkit.recipes import Recipe
from toolkit.telling import Tell
from toolkit.training import seeding
from toolkit.training.compute.format import Compute
from toolkit.training.data.augmentation import augmenting
from toolkit.training.data.batches import Batches, epoch_order
from toolkit.training.data.mixing import mixing

# more features than that are computed anew in each epoch
_MOST_BYTES = 2 << 30


class FrozenFeatures:
    """A training split as the head's inputs, in memory, dealt out in the order of its pictures.

    `learner` is what they are for: the head, behind dropout of its own where it has any.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        learner: nn.Module,
        *,
        recipe: Recipe,
        seed: int,
        batches: Batches,
    ) -> None:
        self._features, self._labels, self.learner = features, labels, learner
        self._recipe, self._seed = recipe, seed
        self.steps, self.images, self._seat = batches.steps, batches.images, batches.seat

    def epoch(self, epoch: int, first: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (features, labels) from step `first` of an epoch on; the features are a rank's own."""
        order = epoch_order(self._labels.cpu(), self._recipe, self._seed, epoch).to(self._features.device)
        size = self._recipe.batch
        for step in range(first, self.steps):
            chosen = order[step * size : (step + 1) * size]
            own = chosen[self._seat.share(len(chosen)).rows]
            yield self._features[own], self._labels[chosen]


def frozen_features(
    module: nn.Module,
    batches: Batches,
    recipe: Recipe,
    *,
    seed: int,
    compute: Compute,
    by_classes: Collection[str],
    alive: Callable[[], None],
    tell: Tell,
) -> FrozenFeatures | None:
    """Compute the head's inputs of every training picture; None where they are not the same each time.

    They are not where pictures are augmented or mixed, where something is random in eval mode, too, or where
    more than the head comes after them. `tell` hears what came of it, and why. `alive` is called after each
    batch; the module is left in training mode.
    """
    again = "the frozen layers compute in each epoch"
    words = [*augmenting(recipe), *mixing(recipe)]
    if words:
        changing = ", ".join(words)
        tell(f"{again}, since {changing} would change the pictures; without, they would compute once")
        return None
    tails = heads_with_dropout(module, by_classes)
    if not tails:
        tell(f"{again}: what learns is no layer, but a weight of the network itself")
        return None
    tail, *more = tails
    if more:
        tell(f"{again}: {len(more) + 1} heads learn from what they answer")
        return None
    learner: nn.Module | None = None
    seen: list[Tensor] = []
    reached: list[Tensor] = []
    found: list[Tensor] = []
    labels: list[Tensor] = []
    hooks = [_note_inputs(tail[0], seen), _note_inputs(tail[-1], reached)]
    module.eval()
    try:
        with torch.no_grad(), compute.autocast(), contextlib.closing(batches.plain()) as dealt:
            for images, truth in dealt:
                seen.clear()
                reached.clear()
                seeding.reseed(compute.device, seed, seeding.DROPOUT, 0, len(found))
                # first: a network may change its input in place
                same = images.clone() if learner is None else None
                answers = logits_of(module(images))
                if same is not None:
                    seeding.reseed(compute.device, 1, seeding.DROPOUT, 0, 0)
                    others = logits_of(module(same))
                    learner = _learner(tail, seen, reached, (answers, others))
                    if learner is None:
                        tell(
                            f"{again}: something in them is random, the head takes more than one tensor, "
                            "or more than a layer comes after them"
                        )
                        return None
                size = seen[0].numel() * seen[0].element_size() / len(truth) * batches.count
                if size > _MOST_BYTES:
                    tell(f"{again}: to keep their answers would take {bytes_text(size)}")
                    return None
                # a view, as of a ViT's first token, would hold all that it is a part of
                found.append(seen[0].clone())
                labels.append(truth)
                alive()
    finally:
        for hook in hooks:
            hook.remove()
        module.train()
    assert learner is not None  # an epoch has batches
    tell("the frozen layers' answers were computed once, for every epoch")
    return FrozenFeatures(
        torch.cat(found), torch.cat(labels), learner, recipe=recipe, seed=seed, batches=batches
    )


def _note_inputs(part: nn.Module, found: list[Tensor]) -> RemovableHandle:
    """Add to `found` what a layer is given in each call; nothing of one that has more to it than a tensor."""

    def note(part: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if len(given) == 1 and not named and isinstance(given[0], Tensor):
            found.append(given[0])

    return part.register_forward_pre_hook(note, with_kwargs=True)


def _learner(
    tail: Sequence[nn.Module],
    seen: Sequence[Tensor],
    reached: Sequence[Tensor],
    answers: tuple[Tensor, Tensor],
) -> nn.Module | None:
    """Return what learns: it makes the answers of what the tail was given, at another draw, too; else None.

    `seen` is what the tail's first part was given in two calls of the network, `reached` what the head was.
    A function may flatten between dropout and the head, as torch.flatten, and is among no network's parts.
    """
    if not len(seen) == len(reached) == 2 or not _equal(*seen) or not _equal(*answers):
        return None
    *before, head = tail
    given = nn.Sequential(*before)(seen[0])
    between = [nn.Flatten()] if given.ndim > 2 and reached[0].ndim == 2 else []
    # not tried where the head was given something else, which it may not be able to take
    if not _equal(nn.Sequential(*between)(given), reached[0]):
        return None
    learner = nn.Sequential(*before, *between, head)
    return learner if _equal(learner(seen[0]), answers[0]) else None


def _equal(one: Any, other: Any) -> bool:
    """Tell whether two answers are one tensor's figures; those of an LSTM, which are several, are not."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.shape == other.shape and torch.equal(one, other)
