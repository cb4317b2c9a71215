"""A name is served as it was chosen, where the choice holds; batching follows the curve that was measured."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.api.metrics import ServerMetrics
from serve.batching import best_batch, saved_s, taken_ms
from serve.lineup import line_up
from serve.registry import Registry, Version
from serve.reload import Reloader
from serve.settings import BatchingSettings, OpeningSettings
from tests.serve.conftest import MODEL, serving, tensor
from tests.stamping import stamp
from toolkit.artifacts import read_passport, sidecar
from toolkit.choices import (
    Budget,
    ChoiceFile,
    Contender,
    CurvePoint,
    choice_path,
    this_machine,
    weights_of,
    write_choice,
)
from toolkit.errors import CorruptError
from toolkit.resolving import release_of

CURVE = tuple(
    CurvePoint(batch=n, latency_ms=ms)
    for n, ms in ((1, 1.0), (2, 1.2), (4, 1.6), (8, 2.4), (16, 4.8), (32, 9.9))
)


@pytest.fixture
def chosen(shipped: Path, tmp_path: Path) -> ChoiceFile:
    one = Contender(
        backend="ort", artifact=str(shipped), precision="fp32", settings={"level": "extended"}, threads=1
    )
    made = ChoiceFile(
        model=MODEL,
        file=shipped.name,
        sha256=read_passport(shipped).sha256,
        weights=weights_of(tmp_path, MODEL),
        chosen=one,
        baseline=one,
        machine=this_machine({"ort": release_of("ort") or ""}),
        curve=CURVE,
        created="2026-11-28T12:00:00+00:00",
    )
    write_choice(choice_path(tmp_path, MODEL), made)
    return made


def test_a_choice_opens_with_its_settings_and_is_overruled_by_threads(
    chosen: ChoiceFile, tmp_path: Path
) -> None:
    opening = OpeningSettings(root=tmp_path)
    (model,) = line_up([MODEL], "ort", opening, others=False, choices=True)
    options = model.opening.options()
    # spinning is a default that a server would not take: what was measured is what is served
    assert (options.threads, options.chosen) == (1, {"level": "extended", "spinning": "on"})
    assert (model.choice, model.curve) == (chosen, CURVE)
    assert "as chosen: ort fp32, 1 thread, level extended, 2026-11-28" in model.said
    (model,) = line_up([MODEL], "ort", dataclasses.replace(opening, threads=2), others=False, choices=True)
    assert (model.opening.threads, model.curve) == (2, ())  # it was not measured on two
    write_choice(
        choice_path(tmp_path, MODEL),
        dataclasses.replace(chosen, chosen=dataclasses.replace(chosen.chosen, threads=4)),
    )
    for most, curve in ((4, CURVE), (2, ())):  # as of several processes, each of which has its part
        shared = dataclasses.replace(opening, most_threads=most)
        (model,) = line_up([MODEL], "ort", shared, others=False, choices=True)
        assert (model.opening.options().threads, model.curve) == (most, curve)
    (model,) = line_up([MODEL], "ort", opening, others=False)
    assert model.choice is None


def test_no_more_rows_run_together_than_keep_to_the_budget_of_a_choice(
    chosen: ChoiceFile, tmp_path: Path
) -> None:
    opening, path = OpeningSettings(root=tmp_path), choice_path(tmp_path, MODEL)
    told = tuple(dataclasses.replace(one, quantile_ms=2.0 * one.latency_ms) for one in CURVE)
    weighed = tuple(dataclasses.replace(one, memory_bytes=one.batch) for one in CURVE)
    for budget, curve, most in (
        (Budget(memory_bytes=4), CURVE, 1),  # of larger ones than its own nothing is known
        (Budget(memory_bytes=4), weighed, 4),
        (Budget(within_ms=0.5), CURVE, 1),  # which was confirmed
        (Budget(within_ms=2.0), CURVE, 1),  # no quantile was told
        (Budget(within_ms=3.0), told, 2),
    ):
        write_choice(path, dataclasses.replace(chosen, budget=budget, curve=curve))
        (model,) = line_up([MODEL], "ort", opening, others=False, choices=True)
        assert (model.most_batch, model.curve[-1].batch) == (most, most)
    queue = looking(tmp_path, [])().queue
    assert (queue.most_rows, queue.batcher.settings.max_batch) == (2, 2)
    (model,) = line_up([MODEL], "ort", dataclasses.replace(opening, threads=2), others=False, choices=True)
    assert (model.most_batch, model.curve) == (1, ())  # it was measured on one


def test_a_choice_that_does_not_hold_is_told_and_the_usual_file_is_served(
    chosen: ChoiceFile, tmp_path: Path
) -> None:
    write_choice(choice_path(tmp_path, MODEL), dataclasses.replace(chosen, weights="0"))
    told: list[str] = []
    opening = OpeningSettings(root=tmp_path)
    (model,) = line_up([MODEL], "ort", opening, others=False, choices=True, tell=told.append)
    assert model.choice is None
    assert "is not taken: it was made of other weights than the newest; `cnnkit choose" in told[0]
    write_choice(choice_path(tmp_path, MODEL), chosen)
    newer = (
        tmp_path / MODEL / f"{MODEL}.safetensors"
    )  # of which nobody can tell whether it was the chosen one's
    newer.write_bytes(b"weights")
    sidecar(newer).write_text("{")
    with pytest.raises(CorruptError, match=r"safetensors\.json .*no readable JSON"):
        line_up([MODEL], "ort", opening, others=False, choices=True)


def test_a_choice_that_is_made_while_serving_takes_over_and_one_that_does_not_hold_is_told_once(
    chosen: ChoiceFile, tmp_path: Path
) -> None:
    path, said = choice_path(tmp_path, MODEL), []
    path.unlink()
    look = looking(tmp_path, said)
    first = look()
    assert (first.model.choice, said) == (None, [])
    write_choice(path, chosen)
    second = look()
    assert second.model.choice == chosen
    assert second.queue.batcher.settings.curve == CURVE
    assert second.queue.tally is first.queue.tally
    assert "as chosen: ort fp32, 1 thread, level extended" in said[0]
    write_choice(path, dataclasses.replace(chosen, weights="0"))
    assert look().model is look().model is second.model
    assert [text.partition(" is ")[2][:9] for text in said[1:]] == ["not taken"]


def looking(root: Path, said: list[str]) -> Callable[[], Version]:
    """Serve the model of a folder; return what looks for newer files, and returns what is served then."""
    served = line_up([MODEL], "ort", OpeningSettings(root=root), others=False, choices=True)
    metrics = ServerMetrics()
    registry = Registry(served, BatchingSettings(), metrics.batch)
    registry.start()
    reloader = Reloader(registry, metrics, said.append)

    def look() -> Version:
        asyncio.run(reloader.look())
        found = registry.opened(registry.models[MODEL], None)
        assert found is not None
        return found

    return look


def test_newer_weights_end_a_choice_once_their_file_is_here(
    chosen: ChoiceFile, shipped: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    look = looking(tmp_path, said)
    first = look()
    assert (first.model.choice, said) == (chosen, [])
    source = shipped.with_suffix(".safetensors")
    weights = lay(source, tmp_path, source.read_bytes() + b" ")
    assert look().model is look().model is first.model
    assert len(said) == 1
    assert "or until `cnnkit export lenet-maxpool`, what was chosen is served on" in said[0]
    graph = lay(shipped, tmp_path, shipped.read_bytes(), source_sha256=weights)
    found = look()
    assert (found.model.choice, found.model.artifact and found.model.artifact.passport.source_sha256) == (
        None,
        weights,
    )
    assert (
        "made of other weights than the newest; `cnnkit choose lenet-maxpool` chooses again, and" in said[1]
    )
    assert said[2].startswith("reloaded ")
    assert look().model is found.model
    assert (len(said), graph) == (3, read_passport(shipped).sha256)


def lay(source: Path, root: Path, content: bytes, **facts: Any) -> str | None:
    """Put a newer file of an artifact into a folder; return its hash."""
    path = root / MODEL / source.name
    path.write_bytes(content)
    known = dataclasses.replace(read_passport(source), created="2099-01-01T00:00:00+00:00", **facts)
    return stamp(path, known).passport.sha256


def test_a_server_of_a_choice_answers(chosen: ChoiceFile, tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, "--no-page") as server:
        rows = np.zeros((3, 1, 28, 28), np.float32)
        found = server.infer({"inputs": [tensor(rows)]})
    assert (found.status, found.json["outputs"][0]["shape"]) == (200, [3, 10])


def test_waiting_pays_what_one_batch_saves_over_two() -> None:
    assert saved_s(CURVE, 1, 2) == pytest.approx((1.0 + 1.0 - 1.2) / 1e3)
    assert saved_s(CURVE, 4, 4) == 0
    assert taken_ms(CURVE, 3) == pytest.approx(1.4)
    assert taken_ms(CURVE, 64) == pytest.approx(19.8)


def test_no_more_rows_run_together_than_answer_the_most_a_second() -> None:
    # 8 rows take 2.4 ms, 3.33 a millisecond; 16 and 32 are no faster a row
    assert best_batch(CURVE) == 8
    assert best_batch(()) is None


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=7), st.integers(1, 70), st.integers(1, 70))
def test_any_curve_gives_a_window_that_is_no_longer_than_its_batches(
    times: list[float], waiting: int, whole: int
) -> None:
    curve = tuple(CurvePoint(batch=2**n, latency_ms=ms) for n, ms in enumerate(times))
    window = saved_s(curve, waiting, whole)
    assert window >= 0
    if waiting < whole:
        assert window <= (taken_ms(curve, waiting) + taken_ms(curve, whole - waiting)) / 1e3 + 1e-12
    assert best_batch(curve) in {point.batch for point in curve}
