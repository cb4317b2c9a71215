"""Which networks stand for all in tests that take seconds for each: no list, the zoo decides."""

from __future__ import annotations

from functools import cache

from toolkit import zoo
from toolkit.inspection.layers import shadow

# what a test in every `make test` may cost is that of networks with no more parameters
LIGHT_PARAMETERS = 100_000


@cache
def light_models() -> tuple[str, ...]:
    """Return the fewest small networks that cover every family and every kind of layer of the small ones."""
    brings: dict[str, set[str]] = {}
    for spec in zoo.models().values():
        module = shadow(spec, spec.input_shape[0], spec.classes)
        if sum(value.numel() for value in module.parameters()) <= LIGHT_PARAMETERS:
            leaves = (part for part in module.modules() if not any(True for _ in part.children()))
            brings[spec.name] = {f"family {spec.family}", *(type(part).__name__ for part in leaves)}
    found: list[str] = []
    covered: set[str] = set()
    while set().union(*brings.values()) - covered:
        found.append(max(brings, key=lambda name: len(brings[name] - covered)))
        covered |= brings[found[-1]]
    return tuple(found)
