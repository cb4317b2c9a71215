"""What one kernel for all modules of a row must move, and what fusing them saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toolkit.profiling.network.modules import Module, total


class Traffic:
    """The bytes that groups of one network's modules move."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self._readers: dict[str, set[str]] = {}
        for module in modules:
            for tensor in module.flow.reads if module.flow else ():
                self._readers.setdefault(tensor, set()).add(module.name)

    def ideal(self, modules: Sequence[Module]) -> int | None:
        """Return what must move: inputs that no module of the group makes, weights, and what others read."""
        if not modules:
            return None
        weights = total(m.weights_bytes for m in modules)
        written = total(m.written_bytes for m in self._leaving(modules))
        return total((self._read(modules), weights, written))

    def saved(self, modules: Sequence[Module]) -> int | None:
        """Return what fusing a group saves: what only its own modules read is not written and read again."""
        if len(modules) < 2:
            return None
        leaving = {m.name for m in self._leaving(modules)}
        inner = total(m.written_bytes for m in modules if m.name not in leaving)
        return None if inner is None else 2 * inner

    def _read(self, modules: Sequence[Module]) -> int | None:
        flows = [module.flow for module in modules]
        if len(modules) == 1 or None in flows:
            return modules[0].read_bytes
        made = {tensor for flow in flows if flow for tensor in flow.writes}
        read = {t: size for flow in flows if flow for t, size in flow.reads.items() if t not in made}
        return total(read.values())

    def _leaving(self, modules: Sequence[Module]) -> list[Module]:
        """Return the modules that others read from; where no graph tells that, the last one that writes."""
        if len(modules) == 1 or any(module.flow is None for module in modules):
            return [m for m in modules if m.written_bytes != 0][-1:]
        names = {module.name for module in modules}
        return [
            m
            for m in modules
            if m.flow and (m.flow.answers or any(self._readers.get(t, set()) - names for t in m.flow.writes))
        ]
