"""A network's heads, whose outputs are the classes, and how deep below them its other layers lie."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError

if TYPE_CHECKING:
    from torch import nn

_MOST = 0.8  # what holds a greater share of a body's figures is the body, not a block of it


def heads(module: nn.Module, by_classes: Collection[str] = ()) -> dict[str, nn.Module | nn.Parameter]:
    """Return, by path, what the classes' scores come of: several where a network averages those of layers.

    That is what a network calls its classifier by itself, as timm's do, with all others whose weights are
    `by_classes` (`weights_by_classes`), else the last layer of those, with what is scaled by classes behind
    it, else the last layer that holds parameters. Of a network, or of a part with other layers in it, that
    holds such weights itself they alone are the head. Raises CnnkitError where no layer learns.
    """
    parts = dict(module.named_modules())
    called = {id(part) for part in _layers_in(_classifier(module))}
    found: dict[str, nn.Module | nn.Parameter] = {
        path: part for path, part in parts.items() if path and id(part) in called
    }
    scoring, mixing = _scoring(module, by_classes)
    if found:
        # a network may name one of its heads alone, as timm's VOLO does, whose patches score for the other
        known = {id(weight) for top in found.values() for weight in weights_of(top)}
        return found | {
            path: top for path, top in scoring.items() if known.isdisjoint(map(id, weights_of(top)))
        }
    learning = [
        path for path, part in parts.items() if next(part.parameters(recurse=False), None) is not None
    ]
    if not learning:
        raise CnnkitError("the network has no layer that learns")
    if scoring:
        names = list(scoring)
        return {name: scoring[name] for name in (names[names.index(mixing[-1]) :] if mixing else names)}
    last = _owner(learning[-1])
    return {last: parts[last]}


def _scoring(
    module: nn.Module, by_classes: Collection[str]
) -> tuple[dict[str, nn.Module | nn.Parameter], list[str]]:
    """Return the layers or weights whose shape goes by the classes, in order, and which of them mix inputs.

    A scale or a norm does not mix what comes into it.
    """
    tops: dict[str, nn.Module | nn.Parameter] = {}
    mixing: list[str] = []
    for name, weight in module.named_parameters():
        if name not in by_classes:
            continue
        path = _owner(name.rpartition(".")[0])
        owner = module.get_submodule(path)
        is_layer = path and not any(_learns(word, child) for word, child in owner.named_children())
        top = path if is_layer else name
        tops[top] = owner if is_layer else weight
        if weight.ndim > 1 and top not in mixing:
            mixing.append(top)
    return tops, mixing


def _learns(word: str, child: nn.Module) -> bool:
    """Tell whether a child has weights of its own: not those that it computes its owner's from."""
    return word != "parametrizations" and next(child.parameters(), None) is not None


def weights_by_classes(module: nn.Module, other: nn.Module) -> frozenset[str]:
    """Return the names of the weights whose shape is another in the same network for other classes.

    Scores come of them, wherever they are registered.
    """
    shapes = {name: weight.shape for name, weight in other.named_parameters()}
    return frozenset(
        name for name, weight in module.named_parameters() if shapes.get(name, weight.shape) != weight.shape
    )


def weights_of(head: nn.Module | nn.Parameter) -> Iterator[nn.Parameter]:
    """Yield the weights of a head: a layer's, or the one that it is."""
    from torch import nn

    if isinstance(head, nn.Module):
        yield from head.parameters()
    else:
        yield head


def _owner(path: str) -> str:
    """Return the path of the layer whose weights a parametrization (weight_norm) computes, or the same."""
    return f".{path}".partition(".parametrizations.")[0][1:]


def _classifier(module: nn.Module) -> Any:
    """Return what a network answers when it is asked for its classifier; None where it cannot be asked."""
    ask: Any = getattr(module, "get_classifier", None)
    if not callable(ask):
        return None
    try:
        inspect.signature(ask).bind()
    except TypeError:  # a method of the same name that wants something
        return None
    return ask()


def _layers_in(found: Any) -> Iterator[nn.Module]:
    """Yield the layers that learn in a layer, or in several in a row."""
    from torch import nn

    if isinstance(found, (tuple, list, nn.ModuleList)):
        for part in found:
            yield from _layers_in(part)
    elif isinstance(found, nn.Module) and next(found.parameters(), None) is not None:
        yield found


def heads_with_dropout(
    module: nn.Module, by_classes: Collection[str] = ()
) -> tuple[tuple[nn.Module, ...], ...]:
    """Return each head that is a layer, behind the dropout that stands directly before it among the modules.

    That dropout is part of how the head learns, not of what the layers before it answer. One that is
    registered before another layer with parameters is not found, whenever it is called.
    """
    from torch import nn

    parts = list(module.modules())
    tops = heads(module, by_classes).values()
    return tuple((*_dropout_before(last, parts), last) for last in tops if isinstance(last, nn.Module))


def _dropout_before(last: nn.Module, parts: Sequence[nn.Module]) -> list[nn.Module]:
    from torch import nn

    found: list[nn.Module] = []
    for part in reversed(parts[: parts.index(last)]):
        if next(part.children(), None) is not None:
            continue
        if not isinstance(part, (nn.modules.dropout._DropoutNd, nn.Flatten, nn.Identity)):
            break
        found.append(part)
    while found and not isinstance(found[-1], nn.modules.dropout._DropoutNd):
        found.pop()
    return found[::-1]


def depths(module: nn.Module, by_classes: Collection[str] = ()) -> dict[str, int]:
    """Return for each parameter how many blocks lie between it and the heads, whose own are at 0.

    A block is a child of the network, such as a convolution. What holds nearly all of the body (`features`,
    `backbone`), what holds the head and what holds nothing but numbered children (`layer1`) is no block: its
    children are. A norm, or what a network holds beside its children, belongs to the block before it.
    """
    tops = heads(module, by_classes)
    body = _size(module) - sum(weight.numel() for top in tops.values() for weight in weights_of(top))
    blocks: list[_Block] = []
    last: list[str] = []
    for block in _blocks(module, "", tops, body):
        if block.is_head:
            last += block.names
        elif blocks and (block.joins or (blocks[0].joins and len(blocks) == 1)):
            before = blocks.pop()
            blocks.append(_Block(names=before.names + block.names, joins=block.joins and before.joins))
        else:
            blocks.append(block)
    found = {name: depth for depth, block in enumerate(reversed(blocks), 1) for name in block.names}
    return {**found, **dict.fromkeys(last, 0)}


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Parameters by name that learn at one rate; `joins` tells that they belong to the block before them."""

    names: tuple[str, ...]
    joins: bool
    is_head: bool = False


def _blocks(part: nn.Module, path: str, tops: Collection[str], body: int) -> Iterator[_Block]:
    """Yield the blocks of a part that is none itself, in order; `body` is how much the whole body holds."""
    names = [name for name, _ in part.named_parameters(path, recurse=False)]
    own = tuple(name for name in names if name not in tops)
    for name in set(names) - set(own):
        yield _Block(names=(name,), joins=False, is_head=True)
    if own:
        yield _Block(names=own, joins=path not in tops, is_head=path in tops)
    for word, child in part.named_children():
        inner = f"{path}.{word}" if path else word
        named = tuple(name for name, _ in child.named_parameters(inner))
        inside = [word for word, one in child.named_children() if next(one.parameters(), None) is not None]
        numbered = all(word.isdigit() for word in inside) and (not path or not word.isdigit())
        holds = any(top.startswith(f"{inner}.") for top in tops)
        if inner in tops:
            yield _Block(names=named, joins=False, is_head=True)
        elif inside and (holds or numbered or _size(child) > _MOST * body):
            yield from _blocks(child, inner, tops, body)
        elif named:
            thin = all(parameter.ndim < 2 for parameter in child.parameters())
            yield _Block(names=named, joins=thin)


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
