"""Several ranks train what one process trains: the same batches, masks, sums and figures."""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402  (after the skip)

from tests.toolkit.training.ranks_at_work import (  # noqa: E402
    Reversed,
    job_of,
    on_ranks,
    steps,
)
from toolkit.artifacts import hash_file  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.models import ModelSpec  # noqa: E402
from toolkit.training import jobs  # noqa: E402
from toolkit.training.compute import ranks  # noqa: E402
from toolkit.training.compute.candidates import formats  # noqa: E402
from toolkit.training.compute.draws import GlobalDraws  # noqa: E402
from toolkit.training.compute.ranks import joined  # noqa: E402
from toolkit.training.compute.seats import Seat, seat_of  # noqa: E402

EXACT = 1e-12
DROPOUT = {"epochs": 4, "batch": 64, "flip": True, "shift_pixels": 2, "crop_area": 0.6, "guard": True}
MIXED = {
    **DROPOUT,
    "ema_decay": 0.9,
    "mixup": 0.2,
    "cutmix": 1.0,
    "clip_norm": 1.0,
    "class_weights": "balanced",
}
BALANCED = {**DROPOUT, "sampling": "balanced", "erasing": 0.1, "colour": 0.2}


@given(total=st.integers(1, 600), count=st.integers(1, 70))
def test_every_picture_of_a_batch_has_one_rank_and_every_rank_two_pictures(total: int, count: int) -> None:
    shares = [Seat(rank=rank, count=count).share(total) for rank in range(count)]
    computed = [row for share in shares if share.counts for row in range(total)[share.rows]]
    assert computed == list(range(total))
    assert sum(share.weight for share in shares) == pytest.approx(1, abs=1e-12)
    assert all(share.size >= min(2, total) for share in shares)


@given(things=st.integers(0, 100), count=st.integers(1, 20))
def test_things_to_do_are_shared_out_without_rest(things: int, count: int) -> None:
    done = [turn for rank in range(count) for turn in Seat(rank=rank, count=count).of(things)]
    assert done == list(range(things))


def test_a_launcher_s_variables_are_read_and_strange_ones_refused() -> None:
    told = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "1"}
    assert seat_of(told) == Seat(rank=3, count=8, local=1, here=8)
    assert seat_of({"WORLD_SIZE": "8"}).alone
    for rank, count in (("8", "8"), ("x", "8"), ("-1", "8")):
        with pytest.raises(CnnkitError, match=f"RANK={rank}, WORLD_SIZE={count} name no rank"):
            seat_of({**told, "RANK": rank, "WORLD_SIZE": count})


def stochastic_depth(images: Any) -> Any:
    return images * images.new_empty((len(images), 1, 1, 1)).bernoulli_(0.5)


DRAWS = {
    "dropout": lambda x: functional.dropout(x, 0.5),
    "dropout2d": lambda x: functional.dropout2d(x, 0.5),
    "alpha": lambda x: functional.alpha_dropout(x, 0.5, training=True),
    "fused": lambda x: torch.native_dropout(x, 0.5, True)[0],
    "depth": stochastic_depth,
    "noise": lambda x: x + torch.randn_like(x),
    "uniform": lambda x: x * torch.rand(len(x), 1, 1, 1),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.3)),
    "inside bf16": lambda x: functional.dropout(x.bfloat16(), 0.5).float(),
    "one for all": lambda x: x * torch.rand(1),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", DRAWS)
def test_what_is_drawn_for_a_part_is_what_one_process_draws_for_it(kind: str, layout: Any) -> None:
    images = torch.rand(11, 3, 5, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    images = images.contiguous(memory_format=layout)
    torch.manual_seed(5)
    whole = DRAWS[kind](images)
    for rank in range(3):
        share = Seat(rank=rank, count=3).share(11)
        torch.manual_seed(5)
        with GlobalDraws(share):
            part = DRAWS[kind](images[share.rows].contiguous(memory_format=layout))
        assert torch.equal(part, whole[share.rows])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["dropout", "dropout2d", "inside bf16"])
def test_a_gpu_s_masks_are_those_of_the_whole_batch(kind: str) -> None:
    images = torch.rand(64, 3, 28, 28, device="cuda") + 0.5
    torch.cuda.manual_seed(5)
    whole = DRAWS[kind](images)
    for rank in range(2):
        share = Seat(rank=rank, count=2).share(64)
        torch.cuda.manual_seed(5)
        with GlobalDraws(share):
            part = DRAWS[kind](images[share.rows].clone())
        assert torch.equal(part, whole[share.rows])


@pytest.mark.gpu
def test_ranks_on_gpus_end_with_equal_bytes_and_near_one_process(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("ranks on GPUs need two of them, and there is one")
    given = {"dataset": "fashion-mnist-sample", "device": "cuda", "epochs": 2, "precision": "fp32"}
    one = jobs.train("lenet-relu", root=tmp_path / "one", **given)
    first, second = (
        jobs.train("lenet-relu", root=tmp_path / name, ranks=2, **given) for name in ("first", "second")
    )
    assert first.checkpoint.passport.sha256 == second.checkpoint.passport.sha256
    assert first.records[-1].train_loss == pytest.approx(one.records[-1].train_loss, rel=0.02)


def far(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Return the largest ‖Δ‖/‖w‖ of a tensor."""
    return max(
        float(np.linalg.norm(found[name] - value) / max(np.linalg.norm(value), 1e-30))
        for name, value in wanted.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    )


@pytest.mark.parametrize(
    ("changes", "count", "taken"),
    [(MIXED, 2, 30), pytest.param(BALANCED, 3, 30, marks=pytest.mark.slow), (DROPOUT, 4, 40)],
)
def test_ranks_end_with_one_process_s_weights(
    changes: dict[str, Any], count: int, taken: int, tmp_path: Path
) -> None:
    (one,) = on_ranks(1, steps, "lenet-dropout", tmp_path, changes, taken)
    for found in on_ranks(count, steps, "lenet-dropout", tmp_path, changes, taken):
        assert far(found, one) < EXACT
        assert (found["right"], found["seen"]) == (pytest.approx(one["right"]), one["seen"])
        assert found["loss"] == pytest.approx(one["loss"], rel=1e-12)


def test_ranks_without_pictures_in_a_last_batch_count_for_nothing(tmp_path: Path) -> None:
    # 3 pictures are left for the last step, which suffice for one rank
    changes = {**DROPOUT, "batch": 100, "validation_fraction": 0.0, "select": "last"}
    (one,) = on_ranks(1, few_steps, tmp_path, changes)
    for found in on_ranks(4, few_steps, tmp_path, changes):
        assert far(found, one) < EXACT
        assert found["seen"] == one["seen"] == 203


def few_steps(root: Path, changes: dict[str, Any]) -> dict[str, Any]:
    return steps("lenet-dropout", root, changes, 9, images=203)


def normed(channels: int, classes: int) -> Any:
    from torch import nn

    return nn.Sequential(
        # a bias before batch norm has a gradient of nothing but rounding, which Adam makes as large as any
        nn.Conv2d(channels, 8, 5, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(8 * 12 * 12, 16, bias=False),
        nn.BatchNorm1d(16, momentum=None),
        nn.ReLU(),
        nn.Linear(16, classes),
    )


def spec_of(build: Any) -> ModelSpec:
    from toolkit import zoo

    return replace(zoo.model("lenet-relu"), name="normed", build=build)


def normed_steps(root: Path, shared: bool) -> dict[str, Any]:
    return steps(spec_of(normed), root, DROPOUT, 30, sync_batch_norm=shared)


def test_batch_norm_of_the_whole_batch_is_one_process_s_and_of_its_parts_is_not(tmp_path: Path) -> None:
    (one,) = on_ranks(1, normed_steps, tmp_path, False)
    for found in on_ranks(3, normed_steps, tmp_path, True):
        assert far(found, one) < EXACT
    parts = on_ranks(2, normed_steps, tmp_path, False)
    assert far(parts[0], one) > 1e-4
    assert far(parts[1], parts[0]) == 0  # running figures, too


def pretrained(channels: int, classes: int) -> Any:
    from torch import nn

    body = (nn.Conv2d(channels, 8, 5, stride=4), nn.BatchNorm2d(8), nn.Flatten())
    for name in ("running_mean", "running_var"):
        setattr(body[1], name, torch.arange(1, 9) / 7)
    return nn.Sequential(*body, nn.Linear(8 * 6 * 6, classes))


def frozen_steps(root: Path, flip: bool) -> dict[str, Any]:
    changes = {"epochs": 2, "batch": 50, "flip": flip, "shift_pixels": 0}
    return steps(spec_of(pretrained), root, changes, 8, None, images=200, freeze=True)


@pytest.mark.parametrize("augments", [False, True], ids=["answered once", "answered each time"])
def test_frozen_layers_keep_their_running_figures_on_any_number_of_ranks(
    augments: bool, tmp_path: Path
) -> None:
    kept = (np.arange(1, 9, dtype=np.float32) / 7).tolist()
    for found in on_ranks(3, frozen_steps, tmp_path, augments):
        assert found["1.running_mean"].tolist() == found["1.running_var"].tolist() == kept


def trained(root: Path, kill: int | None = None, **more: Any) -> tuple[str, int, list[str]]:
    """Train; return the weights' hash, how many pictures were counted, and what was said."""
    from toolkit.training.run import train

    class Counter:
        def __init__(self) -> None:
            self.count, self.said = 0, []

        def say(self, text: str) -> None:
            self.said.append(text)

        def start(self, *, epochs: int, images: int, done: int) -> None:
            self.said.append(f"start at {done}")

        def read(self, done: int, total: int) -> None: ...

        def epoch(self, record: object) -> None: ...

        def images(self, count: int) -> None:
            self.count += count
            if kill is not None and self.count >= kill:
                os.kill(os.getpid(), signal.SIGKILL)

    counter = Counter()
    changes = {"epochs": 2, "batch": 64, "ema_decay": 0.9, "flip": True}
    outcome = train(job_of("lenet-dropout", root, changes, save_every_s=0.0, **more), counter)  # type: ignore[arg-type]
    return hash_file(outcome.checkpoint.path), counter.count, counter.said


def resumed(root: Path) -> tuple[str, int, list[str]]:
    return trained(root, resume=True)


def killed(root: Path) -> tuple[str, int, list[str]]:
    return trained(root, kill=23 * 64)


def misled(root: Path, how: str) -> tuple[str, int, list[str]]:
    rank = int(os.environ["RANK"])
    if how == "release" and rank:
        about = root.parent / "other" / "cnnkit-99.dist-info" / "METADATA"
        about.parent.mkdir(parents=True)
        about.write_text("Metadata-Version: 2.1\nName: cnnkit\nVersion: 99\n")
        sys.path.insert(0, str(about.parents[1]))
    more = {"seed": {"seed": rank}, "images": {"images": 200 + rank}}.get(how, {})
    return trained(root, **more)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow), 1])
def test_a_killed_training_goes_on_with_as_many_ranks_or_others(count: int, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended with -9"):
        on_ranks(2, killed, tmp_path)
    sha, counted, said = on_ranks(count, resumed, tmp_path)[0]
    done = next(int(text.removeprefix("start at ")) for text in said if text.startswith("start at "))
    assert 20 * 64 < done < 24 * 64
    assert done + counted == 2 * 1800
    assert (count == 2) != any("goes on with" in text for text in said)
    if count == 2:
        whole, counted, _ = on_ranks(2, trained, tmp_path / "whole")[0]
        assert (whole, counted) == (sha, 2 * 1800)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("seed", "seed 0 on rank 0, on rank 1 1;"),
        pytest.param("images", "images 200 on rank 0, on rank 1 201;", marks=pytest.mark.slow),
        pytest.param(
            "release",
            r"python \S+ with cnnkit \S+ with torch \S+ on rank 0, on rank 1 python \S+ with cnnkit 99 "
            r"with torch \S+;",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_ranks_that_train_something_else_are_refused_by_number(how: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"rank 1 trains something else: {said} start all ranks alike"):
        on_ranks(2, misled, tmp_path / "runs", how)
    assert not list(tmp_path.glob("runs/*"))


def test_a_batch_smaller_than_the_ranks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CnnkitError, match=re.escape("fewer pictures than there are ranks (4): give --batch 8")
    ):
        jobs.train("lenet-relu", dataset="fashion-mnist-sample", root=tmp_path, batch=3, ranks=4)
    with (
        pytest.raises(CnnkitError, match="the launcher started 1"),
        joined(job_of("lenet-relu", tmp_path, {}, ranks=2)),
    ):
        pass
    with pytest.raises(CnnkitError, match="--find-lr tries rates in one process"):
        jobs.find_rate("lenet-relu", dataset="fashion-mnist-sample", root=tmp_path, ranks=2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_in_fp32_ranks_differ_no_more_than_another_order_of_a_batch_s_pictures(
    count: int, tmp_path: Path
) -> None:
    changes = {"epochs": 4, "batch": 64, "flip": False, "shift_pixels": 0}
    (one,) = on_ranks(1, steps, "lenet-relu", tmp_path, changes, 100, None)
    # most orders end within 3e-6, and of eight that were looked at two within 1.2e-4, as 4 ranks do: where
    # rounding tips a picture over a ReLU's edge, its gradient is there or not
    orders = (partial(Reversed, turn=turn) for turn in (1, 7, 11, 23, 50))
    most = max(
        far(on_ranks(1, steps, "lenet-relu", tmp_path, changes, 100, order)[0], one) for order in orders
    )
    found = on_ranks(count, steps, "lenet-relu", tmp_path, changes, 100, None)[0]
    assert 0 < far(found, one) <= 10 * most


@pytest.mark.parametrize(("device", "left"), [("cpu", ["destroyed"]), ("cuda", ["aborted"])])
def test_an_error_on_gpus_waits_for_no_lost_rank(
    device: str, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL waits for sums that a lost rank never adds to: the group is aborted there, not destroyed."""
    import torch.distributed as dist

    done: list[str] = []
    monkeypatch.setattr(ranks, "seat_of", lambda: Seat(rank=0, count=2))
    monkeypatch.setattr(ranks, "_group", lambda job, seat: ranks.Ranks())
    monkeypatch.setattr(dist, "destroy_process_group", lambda: done.append("destroyed"))
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: done.append("aborted"))
    job = replace(job_of("lenet-relu", tmp_path, {}), device=device)
    with pytest.raises(CnnkitError, match="rank 1 ended"), joined(job):
        raise CnnkitError("rank 1 ended")
    assert done == left


@pytest.mark.parametrize(("major", "wanted"), [(7, ("fp32", "fp16")), (8, ("fp32", "bf16", "fp16"))])
def test_bf16_is_offered_where_a_gpu_has_it(
    major: int, wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`is_bf16_supported` is true where it is emulated, too."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    assert formats("cuda:1") == wanted
