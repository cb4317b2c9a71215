"""A graph asked about itself: batches, repeated calls, which output holds the scores, and what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests import odd_graphs as odd
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.graphs.asking import Nature, ask, scale_of
from toolkit.graphs.completing import complete
from toolkit.graphs.normalising import normalise
from toolkit.graphs.running import session
from toolkit.graphs.shaping import squeeze_scores


def asked(model: Any, **more: Any) -> Nature:
    return ask(normalise(onnx.ModelProto.FromString(model.SerializeToString())).model, **more)


def ending(*nodes: Any, outputs: list[Any] | None = None, constants: list[Any] | None = None) -> Any:
    """Return the classifier with more nodes behind its scores, which are then called `raw`."""
    return odd.network(
        [*odd.layers(out="raw"), *nodes],
        outputs=outputs or [odd.end("scores", None)],
        constants=[*odd.plain_weights(), *(constants or [])],
    )


def test_a_plain_classifier_has_logits_of_any_batch() -> None:
    assert asked(odd.network()) == Nature(outputs=("scores",), columns=4, kind="logits")


@pytest.mark.parametrize(
    ("ops", "kind"),
    [
        (["Softmax"], "probabilities"),
        (["Softmax", "Identity"], "probabilities"),
        (["Sigmoid"], "shares"),
        (["HardSigmoid"], "shares"),
        (["LogSoftmax"], "log-probabilities"),
        (["Softmax", "Log"], "log-probabilities"),
        (["Relu"], "logits"),
        (["Tanh"], "logits"),
    ],
    ids=str,
)
def test_what_scores_are_is_read_off_their_values(ops: list[str], kind: str) -> None:
    names = ["raw", *(f"v{index}" for index in range(len(ops) - 1)), "scores"]
    nodes = [odd.node(op, [names[i]], names[i + 1]) for i, op in enumerate(ops)]
    assert asked(ending(*nodes)).kind == kind


def test_an_answer_that_depends_on_its_batch_is_found_with_its_node() -> None:
    found = asked(ending(odd.node("Softmax", ["raw"], "scores", axis=0)))
    assert found.mixes == "scores/Softmax"


def test_a_node_that_leaves_the_first_of_a_batch_as_it_is_is_found_too() -> None:
    sums = odd.node("CumSum", ["raw", "first"], "sums")
    model = ending(sums, odd.node("Neg", ["sums"], "scores"), constants=[odd.stored("first", 0, np.int64)])
    assert asked(model).mixes == "sums/CumSum"


@pytest.mark.parametrize("first", ["n", 4])
def test_statistics_of_the_batch_are_found_with_their_node_in_an_open_and_a_fixed_batch(
    first: int | str,
) -> None:
    nodes = odd.layers()
    nodes[1:2] = [
        odd.node("ReduceMean", ["conv"], "mean", axes=[0], keepdims=1),
        odd.node("Sub", ["conv", "mean"], "centred"),
        odd.node("Relu", ["centred"], "act"),
    ]
    found = asked(odd.network(nodes, inputs=[odd.end("pictures", [first, 3, 8, 8])]))
    assert found.mixes in ("mean/ReduceMean", "centred/Sub")


def test_an_answer_that_changes_from_call_to_call_is_found_with_its_node() -> None:
    noise = odd.node("RandomNormalLike", ["raw"], "noise")
    found = asked(ending(noise, odd.node("Add", ["raw", "noise"], "scores")))
    assert found.changes in ("noise/RandomNormalLike", "scores/Add")


def test_a_batch_that_is_baked_in_is_found() -> None:
    nodes = odd.layers()
    nodes[3] = odd.node("Reshape", ["pool", "row"], "flat")
    row = odd.stored("row", [1, 6], np.int64)
    found = asked(odd.network(nodes, constants=[*odd.plain_weights(), row]))
    assert (found.batch, found.columns, found.mixes) == (1, 4, None)


def test_a_larger_batch_that_is_baked_in_is_found_among_what_it_reshapes_to() -> None:
    shape = odd.stored("shape", [7, 4], np.int64)
    found = asked(ending(odd.node("Reshape", ["raw", "shape"], "scores"), constants=[shape]))
    assert (found.batch, found.columns) == (7, 4)


def test_one_number_an_input_is_its_score_and_is_brought_to_a_column() -> None:
    mean = odd.node("ReduceMean", ["raw"], "mean", axes=[1], keepdims=0)
    model = normalise(ending(mean, odd.node("Sigmoid", ["mean"], "scores"))).model
    found = ask(model)
    assert (found.columns, found.kind, found.batch) == (1, "shares", None)
    squeeze_scores(complete(model))
    opened = session(model).session
    assert opened.get_outputs()[0].name == "scores"
    assert opened.run(None, {"pictures": np.zeros((3, 3, 8, 8), np.float32)})[0].shape == (3, 1)


@pytest.mark.parametrize("keep", [0, 1])
def test_the_best_of_the_scores_is_not_taken_for_them(keep: int) -> None:
    outputs = [odd.end("best", None), odd.end("scores", None)]
    nodes = [
        odd.node("Softmax", ["raw"], "scores"),
        odd.node("ReduceMax", ["scores"], "best", axes=[1], keepdims=keep),
    ]
    assert asked(ending(*nodes, outputs=outputs)).outputs == ("scores", "best")


def test_outputs_that_could_be_the_scores_as_well_are_told_unless_their_number_is_known() -> None:
    two = odd.stored("two", np.ones((6, 2)))
    nodes = [odd.node("MatMul", ["flat", "two"], "other")]
    outputs = [odd.end("raw", None), odd.end("other", None)]
    model = ending(*nodes, outputs=outputs, constants=[two])
    assert asked(model).rivals == ("other",)
    assert (asked(model, classes=2).outputs[0], asked(model, classes=2).rivals) == ("other", ())


@pytest.mark.parametrize("extents", [[0, 4, 1, 1], [0, 4, 1], [0, 1, 4], [0, 1, 1, 4]])
def test_scores_that_squeeze_to_a_row_are_scores(extents: list[int]) -> None:
    shape = odd.stored("shape", extents, np.int64)
    found = asked(ending(odd.node("Reshape", ["raw", "shape"], "scores"), constants=[shape]))
    assert (found.columns, found.batch) == (4, None)


def test_the_scores_are_found_among_other_outputs() -> None:
    outputs = [odd.end("label", None, TensorProto.INT64), odd.end("act", None), odd.end("raw", None)]
    label = odd.node("ArgMax", ["raw"], "label", axis=1, keepdims=0)
    assert asked(ending(label, outputs=outputs)).outputs == ("raw", "label", "act")


def test_features_that_scores_are_computed_from_are_no_scores() -> None:
    outputs = [odd.end("flat", None), odd.end("raw", None)]
    assert asked(ending(outputs=outputs)).outputs == ("raw", "flat")
    assert asked(ending(outputs=outputs), output="flat").columns == 6


def test_an_output_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFoundError, match="no output 'nothing'; it has: scores"):
        asked(odd.network(), output="nothing")


@pytest.mark.parametrize(
    ("nodes", "outputs", "words"),
    [
        ([odd.node("ArgMax", ["raw"], "y", axis=1, keepdims=0)], ["y"], "'y' is N of int64, made by ArgMax"),
        ([], ["act"], "'act' is N×6×8×8 of float32"),
        (
            [onnx.helper.make_node("TopK", ["raw", "k"], ["best", "places"])],
            ["best", "places"],
            "'best' is N×2 of float32, made by TopK",
        ),
    ],
    ids=["labels", "maps", "best"],
)
def test_what_is_no_row_of_scores_is_refused_in_words(
    nodes: list[Any], outputs: list[str], words: str
) -> None:
    ends = [odd.end(name, None, TensorProto.UNDEFINED) for name in outputs]
    k = [odd.stored("k", [2], np.int64)]
    with pytest.raises(CnnkitError, match=words):
        asked(ending(*nodes, outputs=ends, constants=k))


def test_a_network_of_no_numbers_names_the_weight_that_holds_none() -> None:
    broken = odd.weights()["kernel"].copy()
    broken[0] = np.nan
    constants = [odd.stored("kernel", broken), *odd.plain_weights()[1:]]
    with pytest.raises(CnnkitError, match="its weight 'kernel' holds values that are no numbers"):
        asked(odd.network(constants=constants))


@pytest.mark.parametrize(
    ("op", "constant", "scale"),
    [("Div", 255.0, "pixels"), ("Mul", 1 / 255, "pixels"), ("Sub", 127.5, "pixels"), ("Mul", 2.0, "normal")],
)
def test_a_graph_that_takes_pixels_is_known_by_its_first_step(op: str, constant: float, scale: str) -> None:
    nodes = [odd.node(op, ["pictures", "c"], "ready"), *odd.layers("ready")]
    model = odd.network(nodes, constants=[*odd.plain_weights(), odd.stored("c", constant)])
    assert scale_of(model) == scale
    assert scale_of(odd.network()) == "normal"


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_a_batch_that_is_baked_in_is_found_however_large(rows: int) -> None:
    nodes = odd.layers()
    nodes[3] = odd.node("Reshape", ["pool", "to"], "flat")
    constants = [*odd.plain_weights(), odd.stored("to", [rows, 6], np.int64)]
    assert asked(odd.network(nodes, constants=constants)).batch == rows


def test_rows_that_a_graph_adds_itself_make_its_batch_and_its_answers_mix() -> None:
    added = odd.stored("added", np.random.default_rng(3).standard_normal((4, 4)))
    found = asked(ending(odd.node("Add", ["raw", "added"], "scores"), constants=[added]))
    assert (found.batch, found.mixes) == (4, "scores/Add")


def test_a_label_as_a_float_is_no_score() -> None:
    nodes = [
        odd.node("ArgMax", ["raw"], "label", axis=1),
        odd.node("Cast", ["label"], "scores", to=TensorProto.FLOAT),
    ]
    with pytest.raises(CnnkitError, match="no output holds one row of scores"):
        asked(ending(*nodes))


def test_an_output_that_reads_no_picture_is_refused() -> None:
    given = odd.stored("given", np.full((1, 3, 8, 8), 0.5))
    model = odd.network(odd.layers("given"), constants=[*odd.plain_weights(), given])
    with pytest.raises(CnnkitError, match="'scores' does not depend on its input 'pictures'"):
        asked(model)


def test_answers_that_are_all_alike_are_noticed() -> None:
    empty = [odd.stored(name, values * 0) for name, values in odd.weights().items()]
    assert asked(odd.network(constants=empty)).alike


@pytest.mark.parametrize("op", ["Sigmoid", "HardSigmoid"])
def test_a_sigmoid_that_is_saturated_gives_shares(op: str) -> None:
    """Whatever goes in, it answers exactly 1: of which no sigmoid is to be taken again."""
    above = odd.stored("above", [1e6])
    first = odd.stored("first", [0], np.int64)
    one = odd.node("Gather", ["raw", "first"], "single", axis=1)
    nodes = [odd.node("Abs", ["single"], "size"), odd.node("Add", ["size", "above"], "high")]
    found = asked(ending(one, *nodes, odd.node(op, ["high"], "scores"), constants=[above, first]))
    assert (found.columns, found.kind, found.alike) == (1, "shares", True)


def test_a_sequence_alone_is_no_output_of_scores() -> None:
    model = ending(
        odd.node("SequenceConstruct", ["raw"], "scores"),
        outputs=[onnx.helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, None)],
    )
    with pytest.raises(CnnkitError, match="no output holds numbers: 'scores' is sequence"):
        asked(model)
