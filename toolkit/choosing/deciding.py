"""When measuring may end: what is worth a choice, what keeps to a budget, and who may still win."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.choosing.measuring import Gain
from toolkit.choosing.standing import Entrant, Standing

# a choice pays where all of its gain's interval lies above
WORTH = 1.02
# what could gain less than this is not measured on to be sure of: the baseline is as good
INDIFFERENT = 1.05
# as good as the fastest finalist, and after the least sets not given up beside it
AS_GOOD, STAYS = 0.98, 0.95
# a budget that all calls seen so far miss by so much is not kept in further processes either
MISSED = 1.15
# of the rounds: beyond it, what is not clear is not told
TOO_NOISY = 0.34


def keeps(one: Entrant, standing: Standing) -> bool:
    """Tell whether its latency and its memory are surely within the budget."""
    return seems(one, standing) and (standing.budget.within_ms is None or standing.tells(one))


def seems(one: Entrant, standing: Standing) -> bool:
    """Tell whether it keeps to the budget as far as its calls tell, be they too few."""
    budget = standing.budget
    if budget.memory_bytes is not None and (
        one.memory_bytes is None or one.memory_bytes > budget.memory_bytes
    ):
        return False
    return budget.within_ms is None or standing.worst(one) <= budget.within_ms


def decided(standing: Standing) -> bool:
    """Tell whether one of the fastest surely is worth a choice, or none will be, or gains next to nothing.

    Of a latency asked for, one must keep to it, or all miss it by far. That others' work makes times scatter
    is no sign that more draws tell nothing.
    """
    alive = [one for one in standing.finalists if one.why_not is None and one.gain]
    if standing.budget.within_ms is not None:
        every = [one for one in (standing.baseline, *alive) if one is not None]
        able = [one for one in every if keeps(one, standing)]
        if not able:
            return all(standing.misses(one, MISSED) for one in every)
        if doubtful(standing, able):
            return False
        alive = [one for one in alive if one in able]
    found = [one.gain for one in alive if one.gain]
    best = max((one.times for one in found), default=0.0)
    surely = any(one.low > WORTH and one.times >= AS_GOOD * best for one in found)
    noisy = standing.disturbed > TOO_NOISY
    hopeful = (one.high >= INDIFFERENT and one.hope > WORTH for one in found)
    return surely or not (any(hopeful) or (noisy and any(map(may_gain, found))))


def doubtful(standing: Standing, able: Sequence[Entrant]) -> list[Entrant]:
    """Return the finalists that look faster than all that surely keep to a latency, the fastest first.

    They do not surely keep to it, nor miss it by far: more calls, in further processes, would tell.
    """
    best = max((one.gain.times for one in able if one.gain), default=1.0)
    found = [
        one
        for one in standing.finalists
        if one.why_not is None
        and one not in able
        and one.gain is not None
        and one.gain.times > WORTH * best
        and not standing.misses(one, MISSED)
    ]
    return sorted(found, key=lambda one: -one.gain.times if one.gain else 0.0)


def may_gain(gain: Gain) -> bool:
    """Tell whether it looks no slower, and may, as far as was measured, gain more than next to nothing.

    One that looks slower is only its own scatter away from that: on machines of a shared host, which are
    never quite quiet, nearly every choosing has one.
    """
    return gain.times >= 1 and gain.high >= INDIFFERENT


def staying(everyone: Sequence[Entrant], standing: Standing) -> list[Entrant]:
    """Return who is measured on: the baseline and those that may still turn out as the fastest."""
    if standing.budget.within_ms is not None:
        return list(everyone)
    best = max((one.gain.times for one in everyone if one.gain), default=0.0)
    return [one for one in everyone if one.gain is None or one.gain.times >= STAYS * best]
