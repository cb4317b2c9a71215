"""Which of the finalists is chosen under a budget; what is the nearest where none keeps to it."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choosing.contest import Contest
from toolkit.choosing.deciding import MISSED, TOO_NOISY, WORTH, doubtful, keeps, may_gain, seems
from toolkit.choosing.measuring import fewest_calls
from toolkit.choosing.standing import Entrant
from toolkit.errors import CnnkitError, GateError, UndecidedError
from toolkit.figures import bytes_text, ms_text
from toolkit.machine.cpu import cpu

QUIET = "try again on a quiet machine, or for longer with `--time`"


@dataclass(frozen=True, kw_only=True)
class Elected:
    """Who was chosen, and in words why."""

    entrant: Entrant
    why: str


def select(contest: Contest) -> Elected:
    """Return the fastest that keeps to the budget and surely beats the baseline, else the baseline.

    Raises GateError with the nearest that can be met where none keeps to it, CnnkitError where the machine
    was too noisy to tell, UndecidedError where too few calls were timed for the budget's quantile.
    """
    standing = contest.standing
    baseline = standing.baseline
    assert baseline is not None
    able = [one for one in [baseline, *standing.finalists] if one.why_not is None and keeps(one, standing)]
    noisy = standing.disturbed > TOO_NOISY and not contest.settings.allow_noise
    if not able:
        if noisy and not all(standing.misses(one, MISSED) for one in [baseline, *standing.finalists]):
            raise CnnkitError(f"{_noise(contest)}, and {nearest(contest)}; {QUIET}")
        _refuse_few_calls(contest)
        raise GateError(nearest(contest))
    rivals = [one for one in able if one is not baseline and one.gain is not None]
    unsure = doubtful(standing, able) if contest.budget.within_ms is not None else []
    if unsure and noisy:
        raise CnnkitError(f"{_noise(contest)}, and {_doubt(unsure[0], contest)}; {QUIET}")
    beside = f"; {_doubt(unsure[0], contest)}" if unsure else ""
    surely = [one for one in rivals if one.gain is not None and one.gain.low > WORTH]
    best = max(surely or rivals, key=_times, default=None)
    if best is not None and (surely or baseline not in able):
        return Elected(entrant=best, why=f"{_said(best, baseline not in able)}{beside}")
    unclear = max((one for one in rivals if one.gain and may_gain(one.gain)), key=_times, default=None)
    if unclear is not None and noisy:
        raise CnnkitError(
            f"{_noise(contest)}, and {_label(unclear)} may be {_interval(unclear)} times as fast; {QUIET}, "
            "or have the baseline chosen with `--allow-noise`"
        )
    near = f": {_label(best)} came nearest, {_interval(best)} times" if best else ""
    keeping = "that surely keeps to the latency " if unsure else ""
    return Elected(
        entrant=baseline,
        why=f"nothing {keeping}is surely over {WORTH - 1:.0%} faster than the baseline{near}{beside}",
    )


def _doubt(one: Entrant, contest: Contest) -> str:
    """Say of a finalist that it may be the faster one, and may not keep to the latency."""
    budget, worst = contest.budget, contest.standing.worst(one)
    return (
        f"{_label(one)}, {_interval(one)} times as fast, does not surely keep to it: in a further process "
        f"p{100 * budget.quantile:g} may be {ms_text(worst)} of {ms_text(budget.within_ms or 0)} ms"
    )


def _refuse_few_calls(contest: Contest) -> None:
    """Raise UndecidedError where someone keeps to the budget as far as too few calls tell."""
    standing, budget = contest.standing, contest.budget
    everyone = [one for one in [standing.baseline, *standing.finalists] if one and one.why_not is None]
    near = [one for one in everyone if one.confirmed is not None and seems(one, standing)]
    if near:
        raise UndecidedError(
            f"p{100 * budget.quantile:g} within {budget.within_ms:g} ms cannot be told of {_label(near[0])}: "
            f"that takes {fewest_calls(budget.quantile):,} calls, and the time was too short; add `--time S`"
        )


def nearest(contest: Contest) -> str:
    """Say what comes nearest to a budget that nothing keeps to."""
    standing, budget = contest.standing, contest.budget
    baseline = standing.baseline
    assert baseline is not None
    parts = []
    pool = [one for one in [baseline, *standing.finalists] if one.confirmed is not None]
    if budget.within_ms is not None and pool:
        one = min(pool, key=standing.worst)
        parts.append(
            f"p{100 * budget.quantile:g} within {ms_text(standing.worst(one))} ms ({_label(one)}; "
            f"{ms_text(budget.within_ms)} asked)"
        )
    if budget.memory_bytes is not None:
        held = [one for one in standing.entrants if one.memory_bytes is not None and not _lossy(one)]
        least = min(held, key=lambda each: each.memory_bytes or 0, default=None)
        if least is not None and least.memory_bytes is not None:
            unknown = "" if least.ruling else ", its answers not judged"
            parts.append(
                f"{bytes_text(least.memory_bytes)} ({_label(least)}{unknown}; "
                f"{bytes_text(budget.memory_bytes)} asked)"
            )
    lossy = [one for one in standing.entrants if _lossy(one) and one.ruling and one.ruling.drop]
    if budget.within_ms is not None and lossy:
        fast = min(lossy, key=standing.score)
        assert fast.ruling is not None
        assert fast.ruling.drop is not None
        parts.append(
            f"{ms_text(standing.score(fast))} ms in the median by {_label(fast)}, which loses "
            f"{fast.ruling.drop.words()}"
        )
    return f"nothing keeps to the budget; the nearest: {'; or '.join(parts)}"


def _lossy(one: Entrant) -> bool:
    return one.ruling is not None and one.ruling.why_not is not None


def _noise(contest: Contest) -> str:
    standing = contest.standing
    return (
        f"too noisy to choose: {standing.disturbed:.0%} of the rounds were disturbed by other work, which "
        f"kept {standing.others_cores:.1f} of {cpu().cores} cores busy"
    )


def _times(one: Entrant) -> float:
    return one.gain.times if one.gain else 0.0


def _label(one: Entrant) -> str:
    return one.candidate.contender(1).label


def _interval(one: Entrant) -> str:
    return f"{one.gain.low:.2f} to {one.gain.high:.2f}" if one.gain else "an unknown number of"


def _said(best: Entrant, alone: bool) -> str:
    beside = "; the baseline does not keep to the budget" if alone else ""
    times = f"{_times(best):.2f}" if best.gain else "an unknown number of"
    return f"{times} times as fast as the baseline ({_interval(best)} in fresh processes){beside}"
