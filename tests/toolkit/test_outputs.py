"""Whatever a network returns, its logits come first; what else it returns is kept."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest

from toolkit.outputs import answer_first, logits_of

torch = pytest.importorskip("torch")
nn = torch.nn


Pair = namedtuple("Pair", ["features", "scores"])


@dataclass
class Answer:
    hidden: Any
    logits: Any


def maps() -> Any:
    return torch.zeros(2, 8, 4, 4)


def scores() -> Any:
    return torch.ones(2, 5)


class Net(nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, given: Any) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "count"),
    [
        (scores(), 1),
        ({"logits": scores()}, 1),
        ({"feat": maps(), "logits": scores()}, 2),
        ({"embedding": torch.zeros(2, 5), "pred": scores()}, 2),
        ((scores(), maps()), 2),
        ((maps(), [maps(), scores()]), 3),
        ([scores(), torch.zeros(2, 5)], 2),
        (Pair(maps(), scores()), 2),
        (Answer(maps(), scores()), 2),
        ({"pred": torch.zeros(2, dtype=torch.int64), "logits": scores()}, 2),
        ({"pred": torch.full((2, 5), 0.2), "logits": scores()}, 2),
        ({"output": torch.zeros(2, 64), "logits": scores()}, 2),
        ({"out": maps(), "kinds": scores()}, 2),
        ({"aux": {"logits": torch.zeros(2, 5)}, "logits": scores()}, 2),
    ],
)
def test_logits_come_first(result: Any, count: int) -> None:
    answered = answer_first(Net(result), 5)(torch.zeros(1))
    assert torch.equal(logits_of(answered), scores())
    assert len(answered) == count if isinstance(answered, tuple) else count == 1


def test_what_holds_no_logits_stays_as_it_is() -> None:
    result = {"a": maps(), "b": maps()}
    assert answer_first(Net(result), 5)(torch.zeros(1)) is result


@pytest.mark.parametrize("score", [torch.ones(2, 1), torch.ones(2)])
def test_a_single_score_by_its_name_comes_before_features_as_wide_as_the_classes(score: Any) -> None:
    answered = answer_first(Net({"embedding": torch.zeros(2, 2), "logits": score}), 2)(torch.zeros(1))
    assert torch.equal(logits_of(answered), score)
