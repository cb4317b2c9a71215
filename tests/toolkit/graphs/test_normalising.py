"""The one pass over graphs from elsewhere: what is put right, and that answers stay what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests import odd_graphs as odd
from toolkit.errors import CnnkitError, CorruptError
from toolkit.graphs.normalising import Normalised, normalise
from toolkit.graphs.reading import load_graph, read_normalised
from toolkit.graphs.recognising import dialect_of


def passed(model: Any) -> Normalised:
    return normalise(onnx.ModelProto.FromString(model.SerializeToString()))


def same(model: Any, *, exact: bool = True) -> Normalised:
    """Normalise a model that runs as it is, and hold its answers to those from before."""
    found = passed(model)
    np.testing.assert_allclose(odd.answer(found.model), odd.answer(model), atol=0 if exact else 1e-6)
    return found


@settings(max_examples=20, deadline=None)
@given(st.permutations(odd.layers()))
def test_nodes_in_any_order_are_sorted(nodes: list[Any]) -> None:
    found = passed(odd.network(nodes)).model
    assert [n.op_type for n in found.graph.node] == [n.op_type for n in odd.layers()]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b"]), min_size=5, max_size=5))
def test_every_node_has_a_name_of_its_own(names: list[str]) -> None:
    model = odd.network()
    for one, name in zip(model.graph.node, names, strict=True):
        one.name = name
    found = [n.name for n in passed(model).model.graph.node]
    assert all(found)
    assert len(set(found)) == 5


@pytest.mark.parametrize("first", [-1, 0, None, "n"])
def test_a_batch_of_any_spelling_is_an_open_one(first: int | str | None) -> None:
    model = odd.network(
        inputs=[odd.end("pictures", [first, 3, 8, 8])], outputs=[odd.end("scores", [first, 4])]
    )
    found = passed(model).model
    dims = found.graph.input[0].type.tensor_type.shape.dim
    assert not dims[0].HasField("dim_value")
    assert [d.dim_value for d in dims[1:]] == [3, 8, 8]
    assert odd.answer(found).shape == (5, 4)


def test_weights_among_the_inputs_are_weights() -> None:
    listed = [odd.end(t.name, list(t.dims)) for t in odd.plain_weights()]
    model = odd.network(inputs=[*listed, odd.end("pictures", ["n", 3, 8, 8])], opset=8, ir=3)
    found = passed(model).model
    assert [value.name for value in found.graph.input] == ["pictures"]
    np.testing.assert_allclose(odd.answer(found), odd.answer(odd.network()), atol=1e-6)


def behind(op: str, name: str, tensor: Any, more: tuple[Any, ...] = (), **attributes: Any) -> Any:
    """Return the network with one weight behind a node."""
    others = [t for t in odd.plain_weights() if t.name != name]
    tensor.name = "stored"
    inputs = ["stored", *(t.name for t in more)]
    return odd.network(
        [odd.node(op, inputs, name, **attributes), *odd.layers()], constants=[*others, tensor, *more]
    )


TABLE = odd.weights()["table"]


@pytest.mark.parametrize(
    "model",
    [
        behind("Identity", "kernel", odd.stored("", odd.weights()["kernel"])),
        behind("Transpose", "table", odd.stored("", np.ascontiguousarray(TABLE.T)), perm=[1, 0]),
        behind("Reshape", "table", odd.stored("", TABLE.ravel()), (odd.stored("to", [6, 4], np.int64),)),
        behind("Cast", "table", odd.stored("", TABLE, np.float16), to=TensorProto.FLOAT),
        odd.network(
            [
                *(helper.make_node("Constant", [], [t.name], value=t) for t in odd.plain_weights()),
                *odd.layers(),
            ],
            constants=[],
        ),
    ],
    ids=["identity", "transpose", "reshape", "cast", "constants"],
)
def test_weights_behind_nodes_are_stored(model: Any) -> None:
    found = same(model)
    assert [n.op_type for n in found.model.graph.node] == [n.op_type for n in odd.layers()]
    assert found.precision == "fp32"
    assert {t.name for t in found.model.graph.initializer} == set(odd.weights())


def test_weights_in_8_bits_are_read_as_floats_and_that_is_said() -> None:
    scale = np.abs(TABLE).max() / 127
    codes = odd.stored("", np.round(TABLE / scale), np.int8)
    found = same(behind("DequantizeLinear", "table", codes, (odd.stored("scale", scale),)))
    assert found.precision == "fp32"
    assert found.form is None
    assert found.notes == ("its weights were kept as int8; they are read as floats",)
    assert "DequantizeLinear" not in {n.op_type for n in found.model.graph.node}


@pytest.mark.parametrize("spelling", ["4 bits", "blocks", "com.microsoft", "bf16"])
def test_weights_in_other_small_types_are_read_as_floats(spelling: str) -> None:
    """Neither numpy nor the runtime's inputs know 4 bits and bf16."""
    codes = np.round(TABLE / np.abs(TABLE).max() * 7).astype(np.int8)
    scale, more = odd.stored("scale", 0.25), {}
    tensor = odd.stored("", codes, np.int8)
    if spelling == "4 bits":
        tensor = helper.make_tensor("", TensorProto.INT4, codes.shape, codes.ravel().tolist())
    elif spelling == "blocks":
        scale, more = odd.stored("scale", [[0.25] * 4, [0.5] * 4]), {"axis": 0, "block_size": 3}
    elif spelling == "com.microsoft":
        more = {"domain": spelling}
    model = behind("DequantizeLinear", "table", tensor, (scale,), **more)
    if spelling == "bf16":
        halves = helper.make_tensor("", TensorProto.BFLOAT16, codes.shape, codes.ravel().tolist())
        model = behind("Cast", "table", halves, to=TensorProto.FLOAT)
    model.opset_import[0].version, model.ir_version = 21, 10
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = same(model, exact=False)
    assert found.precision == "fp32"
    assert {n.op_type for n in found.model.graph.node} == {n.op_type for n in odd.layers()}


@pytest.mark.parametrize("opset", [6, 7])
def test_graphs_of_before_opset_7_are_brought_to_13(opset: int) -> None:
    nodes = odd.layers()
    if opset < 7:
        nodes[-1].attribute.append(helper.make_attribute("broadcast", 1))
    listed = [odd.end(t.name, list(t.dims)) for t in odd.plain_weights()]
    model = odd.network(nodes, inputs=[odd.end("pictures", ["n", 3, 8, 8]), *listed], opset=opset, ir=3)
    found = passed(model).model
    assert found.opset_import[0].version == 13
    np.testing.assert_allclose(odd.answer(found), odd.answer(odd.network()), atol=1e-6)


def test_a_large_weight_that_nothing_reads_is_dropped() -> None:
    model = odd.network(constants=[*odd.plain_weights(), odd.stored("idle", np.zeros(5000))])
    assert {t.name for t in same(model).model.graph.initializer} == set(odd.weights())


def test_two_weights_of_one_name_are_refused_unless_they_are_one() -> None:
    """Which of them ONNX Runtime takes depends on nothing that a file says."""
    twice = odd.network(constants=[*odd.plain_weights(), odd.stored("table", TABLE)])
    assert len(passed(twice).model.graph.initializer) == 4
    other = odd.network(constants=[*odd.plain_weights(), odd.stored("table", TABLE * 2)])
    with pytest.raises(CorruptError, match="holds two weights called 'table'"):
        passed(other)


@pytest.mark.parametrize("place", ["stored", "constant"])
@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_weights_are_read_as_ordinary_ones(place: str, coordinates: bool) -> None:
    table = np.where(np.abs(TABLE) > 0.5, TABLE, 0)
    at = np.flatnonzero(table)
    places = np.argwhere(table) if coordinates else at
    sparse = helper.make_sparse_tensor(
        odd.stored("table", table.ravel()[at]), odd.stored("places", places, np.int64), table.shape
    )
    others = [t for t in odd.plain_weights() if t.name != "table"]
    node = helper.make_node("Constant", [], ["table"], sparse_value=sparse)
    model = odd.network([*([node] if place == "constant" else []), *odd.layers()], constants=others)
    if place == "stored":
        model.graph.sparse_initializer.append(sparse)
    wanted = odd.answer(odd.network(constants=[*others, odd.stored("table", table)]))
    np.testing.assert_array_equal(odd.answer(passed(model).model), wanted)


def test_an_output_that_is_a_sequence_is_left_out_and_said() -> None:
    nodes = [*odd.layers(), odd.node("SequenceConstruct", ["act", "pool"], "features")]
    sequence = helper.make_tensor_sequence_value_info("features", TensorProto.FLOAT, None)
    model = odd.network(nodes, outputs=[sequence, odd.end("scores", ["n", 4])])
    found = passed(model)
    assert [value.name for value in found.model.graph.output] == ["scores"]
    assert found.notes == ("left out, as it holds no numbers: the output 'features' (sequence)",)


def test_a_constant_that_would_blow_up_a_file_stays_as_it_is() -> None:
    large = odd.node("ConstantOfShape", ["extents"], "zeros")
    added = odd.node("ReduceMax", ["zeros"], "most", keepdims=0)
    nodes = [*odd.layers(out="raw"), large, added, odd.node("Add", ["raw", "most"], "scores")]
    extents = odd.stored("extents", [4000, 4000], np.int64)
    found = same(odd.network(nodes, constants=[*odd.plain_weights(), extents]))
    assert "ConstantOfShape" in {n.op_type for n in found.model.graph.node}


@pytest.mark.parametrize("rows", [3, 4])
def test_a_weight_that_is_cut_into_a_sequence_is_read_from_it_as_before(rows: int) -> None:
    """Exporters of PyTorch write `chunk` so; the parts are of one size, or the last one is smaller."""
    cut = odd.node("SplitToSequence", ["cut", "rows"], "parts", axis=0)
    picked = [odd.node("SequenceAt", ["parts", place], f"part {place}") for place in ("0", "1")]
    joined = odd.node("Concat", ["part 0", "part 1"], "table", axis=0)
    constants = [t for t in odd.plain_weights() if t.name != "table"]
    constants += [odd.stored("cut", TABLE), odd.stored("rows", rows, np.int64)]
    constants += [odd.stored(place, int(place), np.int64) for place in ("0", "1")]
    same(odd.network([cut, *picked, joined, *odd.layers()], constants=constants))


def test_the_branch_that_is_always_taken_takes_the_place_of_its_if() -> None:
    inner = odd.stored("twice", 2.0)
    then = helper.make_graph(
        [odd.node("Mul", ["raw", "twice"], "m")], "then", [], [odd.end("m", None)], [inner]
    )
    other = helper.make_graph([odd.node("Neg", ["raw"], "m")], "else", [], [odd.end("m", None)])
    choice = odd.node("If", ["always"], "scores", then_branch=then, else_branch=other)
    always = odd.stored("always", True, np.bool_)
    found = same(odd.network([*odd.layers(out="raw"), choice], constants=[*odd.plain_weights(), always]))
    assert "If" not in {n.op_type for n in found.model.graph.node}


def test_types_that_onnx_cannot_infer_are_told_by_the_runtime() -> None:
    nodes = odd.layers()
    nodes[1] = odd.node("Gelu", ["conv"], "act", domain="com.microsoft")
    found = same(odd.network(nodes, domains=("com.microsoft",))).model
    told = {v.name: v.type.tensor_type for v in found.graph.value_info}
    assert told["act"].elem_type == TensorProto.FLOAT
    assert [d.dim_value for d in told["act"].shape.dim[1:]] == [6, 8, 8]


def test_an_output_says_its_true_shape() -> None:
    found = same(odd.network(outputs=[odd.end("scores", ["n", 9])])).model
    assert found.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 4


def test_a_file_without_an_opset_is_read_by_its_ir_version_and_that_is_said() -> None:
    model = odd.network()
    del model.opset_import[:]
    found = passed(model)
    assert found.notes == ("the file names no opset; it is read as opset 18, as its IR version 8 suggests",)
    np.testing.assert_array_equal(odd.answer(found.model), odd.answer(odd.network()))


def test_a_value_that_nothing_makes_is_named() -> None:
    with pytest.raises(CnnkitError, match=r"the node 'Conv' reads 'kernel', which no node makes"):
        passed(odd.network(constants=odd.plain_weights()[1:]))


def test_a_halved_file_keeps_its_precision() -> None:
    assert passed(odd.halved(odd.network())).precision == "fp16"


@pytest.mark.parametrize(
    ("form", "known"), [("QDQ", "QDQ"), ("QOperator", "QLinear"), ("dynamic", "dynamic")]
)
def test_a_quantised_file_is_recognised(tmp_path: Path, form: str, known: str) -> None:
    source = odd.save(odd.network(), tmp_path / "plain.onnx")
    path = odd.quantised(source, tmp_path / "q.onnx", form=form)
    found = read_normalised(path)
    assert (found.precision, found.form) == ("int8", known)
    np.testing.assert_array_equal(odd.answer(found.model), odd.answer(load_graph(path)))
    assert dialect_of(found.model) == ("U8S8" if known == "QDQ" else None)


def test_weights_survive_bit_for_bit() -> None:
    found = passed(odd.network()).model
    for tensor in found.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), odd.weights()[tensor.name])


def coded(kind: int, opset: int, *, weights: bool) -> Any:
    """Return the classifier with a Q/DQ pair before its picture, or around its first weights."""
    name = "kernel" if weights else "pictures"
    nodes = [
        odd.node("QuantizeLinear", [name, "step", "zero"], "codes"),
        odd.node("DequantizeLinear", ["codes", "step", "zero"], "back"),
        *odd.layers(),
    ]
    nodes[2].input[1 if weights else 0] = "back"
    zero = helper.make_tensor("zero", kind, [], [0])
    constants = [*odd.plain_weights(), odd.stored("step", 0.02), zero]
    return odd.network(nodes, constants=constants, opset=opset, ir=10)


@pytest.mark.parametrize(
    ("kind", "opset", "word"),
    [
        (TensorProto.FLOAT8E4M3FN, 19, "float8e4m3fn"),
        (TensorProto.UINT16, 21, "uint16"),
        (TensorProto.INT4, 21, "int4"),
    ],
)
def test_what_was_quantised_to_other_than_8_bits_is_never_called_int8(
    kind: int, opset: int, word: str
) -> None:
    with pytest.raises(CnnkitError, match=f"quantised to {word} by its source, at its node"):
        passed(coded(kind, opset, weights=False))
    found = passed(coded(kind, opset, weights=True))
    assert (found.precision, found.form, found.decoded) == ("fp32", None, True)


def test_weights_behind_a_pair_of_codes_are_floats() -> None:
    found = same(coded(TensorProto.INT8, 17, weights=True), exact=False)
    assert (found.precision, found.form) == ("fp32", None)
    assert {n.op_type for n in found.model.graph.node} == {n.op_type for n in odd.layers()}


def test_inputs_that_nothing_reads_are_left_out() -> None:
    idle = odd.end("idle", [1])
    found = passed(odd.network(inputs=[idle, odd.end("pictures", ["n", 3, 8, 8])]))
    assert [value.name for value in found.model.graph.input] == ["pictures"]
    assert found.notes == ("left out, as nothing reads it: the input 'idle'",)
    assert found.dropped


def test_text_beside_the_scores_is_left_out_with_what_makes_it() -> None:
    nodes = [
        *odd.layers(),
        odd.node("ArgMax", ["scores"], "place", axis=1, keepdims=0),
        odd.node(
            "LabelEncoder",
            ["place"],
            "word",
            domain="ai.onnx.ml",
            keys_int64s=[0, 1, 2, 3],
            values_strings=["a", "b", "c", "d"],
        ),
    ]
    outputs = [odd.end("word", None, TensorProto.STRING), odd.end("scores", None)]
    found = passed(odd.network(nodes, outputs=outputs, domains=["ai.onnx.ml"]))
    assert [value.name for value in found.model.graph.output] == ["scores"]
    assert [n.op_type for n in found.model.graph.node] == [n.op_type for n in odd.layers()]
