"""Mixup and cutmix: what a mixed picture holds, and that its labels say so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.toolkit.training.conftest import objective_for  # noqa: E402  (after the skip)
from toolkit.datasets import Split  # noqa: E402
from toolkit.models import Recipe  # noqa: E402
from toolkit.preprocessing import Preprocessing  # noqa: E402
from toolkit.training import Watcher  # noqa: E402
from toolkit.training.compute.format import Compute  # noqa: E402
from toolkit.training.data.batches import InputTransform, MemoryBatches  # noqa: E402
from toolkit.training.data.mixing import beta, cutmix, mixed, mixup  # noqa: E402
from toolkit.training.loop import Loop, LoopSetup  # noqa: E402


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(
    mixup=st.sampled_from([0.0, 0.2, 1.0, 10.0]),
    cutmix=st.sampled_from([0.1, 1.0]),
    count=st.integers(2, 9),
    place=st.tuples(st.integers(0, 2**40), st.integers(0, 99), st.integers(0, 999)),
)
def test_labels_are_the_shares_of_what_the_picture_holds(
    mixup: float, cutmix: float, count: int, place: tuple[int, int, int]
) -> None:
    # each picture is of its label's brightness, so the mean brightness of a mixed one is its labels' mean
    labels = torch.arange(count)
    images = labels.float()[:, None, None, None].expand(count, 3, 8, 10)
    recipe = Recipe(name="x", mixup=mixup, cutmix=cutmix)
    found, shares = mixed(images, labels, recipe, classes=count, place=place)
    assert found.shape == images.shape
    assert torch.allclose(shares.sum(1), torch.ones(count))
    assert torch.allclose(found.mean((1, 2, 3)), shares @ labels.float(), atol=1e-4)
    again = mixed(images, labels, recipe, classes=count, place=place)
    assert torch.equal(found, again[0])
    assert torch.equal(shares, again[1])


def test_a_pasted_part_is_one_rectangle_of_the_partner() -> None:
    images = torch.stack([torch.zeros(1, 20, 20), torch.ones(1, 20, 20)])
    found, share = cutmix(images, torch.tensor([1, 0]), 1.0, random(3))
    pasted = found[0, 0] == 1
    rows, columns = pasted.any(1).nonzero().flatten(), pasted.any(0).nonzero().flatten()
    assert 0 < pasted.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    assert float(share[0]) == pytest.approx(1 - float(pasted.float().mean()))


def test_shares_of_mixup_are_drawn_from_a_beta_distribution() -> None:
    for alpha in (0.2, 1.0, 4.0):
        drawn = beta(alpha, 20_000, random())
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) <= 1
        assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)
    for alpha in (0.03, 0.01, 0.003, 0.001, 0.0003):  # gammas that float64 cannot hold
        drawn = beta(alpha, 20_000, random())
        spread = float((drawn - 0.5).square().mean())  # about 0.5, as a lost draw stands for both ends
        assert spread == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.01)
    _, share = mixup(torch.zeros(4, 1, 2, 2), torch.arange(4), 0.2, random())
    assert len(set(share.tolist())) == 4  # each picture has a share of its own


def test_right_answers_of_mixed_pictures_are_as_many_however_often_a_run_saves() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)
    data = Split(images=pixels, labels=np.arange(60) % 3)
    transform = InputTransform(
        preprocessing=Preprocessing(size=(4, 4), channels=1), device=torch.device("cpu")
    )
    recipe = Recipe(name="x", batch=4, mixup=0.4)
    found = []
    for every in (1, 4, 100):
        torch.manual_seed(0)
        setup = LoopSetup(
            recipe=recipe,
            compute=Compute(device="cpu", threads=1, arithmetic="fp32", channels_last=False),
            seed=0,
            batches=MemoryBatches(data, recipe, 0, transform),
            objective=objective_for(data.labels, classes=3),
            guard=None,
            watcher=Watcher(),
        )
        loop = Loop(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), setup)
        loop.epoch(lambda: loop.settle() if loop.progress.step % every == 0 else None)  # noqa: B023
        found.append(loop.progress.right)
    assert found[0] == found[1] == found[2]
    assert found[0] != round(found[0])
