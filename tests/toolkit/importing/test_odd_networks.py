"""Networks whose files are odd in one thing come in by `import` and answer as they do elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnkit
from tests.toolkit.importing.conftest import NAMES, ODD, SIZE, Odd, constant, figure, node, replaced, value
from toolkit.errors import CnnkitError, NotFoundError, ShapeError
from toolkit.exporting import ExportOptions

onnx = pytest.importorskip("onnx")

# what has to be said of each
SAID: dict[str, dict[str, Any]] = {
    "open": {"size": (SIZE, SIZE)},
    "bgr-0-to-255": {"order": "bgr", "scale": 1.0},
    "scaled-by-another": {"fixed": {"times": 1}},
}
SHAPES: dict[str, tuple[tuple[int | None, ...], str, str]] = {
    "nhwc": ((None, SIZE, SIZE, 3), "float32", "NHWC"),
    "nhwc-uint8": ((None, SIZE, SIZE, 3), "uint8", "NHWC"),
    "int32": ((None, 3, SIZE, SIZE), "int32", "NCHW"),
    "row": ((None, 192), "float32", "NCHW"),
    "half": ((None, 3, SIZE, SIZE), "float16", "NCHW"),
    "batch-of-1": ((1, 3, SIZE, SIZE), "float32", "NCHW"),
}
# one channel of whole pixels
GREY = Odd(
    shape=("n", 1, SIZE, SIZE),
    kind=onnx.TensorProto.UINT8,
    before=[
        node("Cast", ["pixels"], ["floats"], to=onnx.TensorProto.FLOAT),
        node("Div", ["floats", "most"], ["grey"]),
        node("Concat", ["grey", "grey", "grey"], ["x"], axis=1),
    ],
    constants=[figure("most", 255)],
)


def scaled_by(kind: str) -> Odd:
    """Return the network whose second input, which its values are multiplied with, is of another type."""
    return replaced(
        ODD["scaled-by-another"],
        before=[
            node("Cast", ["times"], ["factor"], to=onnx.TensorProto.FLOAT),
            node("Mul", ["pixels", "factor"], ["x"]),
        ],
        inputs=[value("times", [1], getattr(onnx.TensorProto, kind))],
    )


@pytest.mark.parametrize("name", ODD)
def test_an_odd_network_is_right_through_import_eval_and_predict(
    name: str, colours: Path, tmp_path: Path
) -> None:
    path = ODD[name].save(tmp_path / f"{name}.onnx")
    whole = {"nhwc-uint8", "int32"}
    said = {"scale": 1 / 255, **SAID.get(name, {})} if name not in whole else {}
    made = cnnkit.import_(path, dataset=f"folder:{colours}", root=tmp_path / "out", **said)
    assert made.accuracy == 1.0
    assert made.images == 48
    known = made.passport
    shape, dtype, layout = SHAPES.get(name, ((None, 3, SIZE, SIZE), "float32", "NCHW"))
    assert (known.input.shape, known.input.dtype, known.input.layout) == (shape, dtype, layout)
    assert known.output.shape == (shape[0], 4)
    assert known.classes == tuple(sorted(NAMES))
    assert known.softmax is (name in ("probabilities", "shares"))
    with cnnkit.load(made.name, root=tmp_path / "out") as network:
        assert network.evaluate().accuracy == 1.0
        shown = network.predict(np.full((30, 20, 3), (30, 50, 210), np.uint8))
        assert shown[0].label == "blue"


def test_classes_of_another_order_are_matched_by_their_names(colours: Path, tmp_path: Path) -> None:
    """The folder's are in the order of their names, the network's as it learned them."""
    path = replaced(ODD["plain"], order=(2, 0, 3, 1)).save(tmp_path / "a.onnx")
    own = tuple(NAMES[at] for at in (2, 0, 3, 1))
    made = cnnkit.import_(path, classes=own, dataset=f"folder:{colours}", scale=1 / 255, root=tmp_path)
    assert made.accuracy == 1.0
    assert made.passport.classes == own
    with cnnkit.load("a", root=tmp_path) as network:
        assert network.evaluate().accuracy == 1.0


def test_a_column_alone_is_the_second_of_two_classes(colours: Path, tmp_path: Path) -> None:
    after = [
        node("Slice", ["scores", "two", "three", "one"], ["red"]),
        node("Sub", ["red", "threshold"], ["above"]),
        node("Sigmoid", ["above"], ["answers"]),
    ]
    places = (("two", 2), ("three", 3), ("one", 1))
    held = [*(constant(name, at, dtype=np.int64) for name, at in places), figure("threshold", 2)]
    path = replaced(ODD["plain"], after=after, constants=held, outputs=[value("answers", ["n", 1])])
    folder = tmp_path / "two"
    for name, other in (("blue", "a blue one"), ("red", "b red one")):
        for part in ("train", "test"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / other).symlink_to(colours / part / name)
    saved = path.save(tmp_path / "one.onnx")
    made = cnnkit.import_(saved, dataset=f"folder:{folder}", scale=1 / 255, root=tmp_path)
    assert made.passport.output.shape == (None, 1)
    assert made.passport.softmax is True
    assert made.passport.classes == ("a blue one", "b red one")
    assert made.accuracy == 1.0


@pytest.mark.parametrize(
    ("odd", "said", "words"),
    [
        (ODD["open"], {}, r"takes N×3×\?×\?, and its height and width are open: --size HxW"),
        (ODD["plain"], {"size": (9, 9)}, "so --size can only be 8x8"),
        (ODD["scaled-by-another"], {}, r"has 2 inputs, pixels \(float32 N×3×8×8\), times \(float32 1\)"),
        (ODD["scaled-by-another"], {"fixed": {"time": 1}}, "no input 'time'; known: pixels, times"),
        (ODD["scaled-by-another"], {"fixed": {"times": "a"}}, "--fix times=a is no number"),
        (ODD["scaled-by-another"], {"fixed": {"times": "1,2"}}, "gives 2 numbers for 1"),
        (ODD["scaled-by-another"], {"fixed": {"times": "1e39"}}, "does not fit float32, which takes numbers"),
        (scaled_by("INT64"), {"fixed": {"times": 1.5}}, "times=1.5 does not fit int64, which takes whole"),
        (scaled_by("UINT8"), {"fixed": {"times": 300}}, "fit uint8, which takes whole numbers from 0 to 255"),
        (scaled_by("INT32"), {"fixed": {"times": "nan"}}, "does not fit int32"),
        (scaled_by("BOOL"), {"fixed": {"times": 0.5}}, "does not fit bool, which takes true or false"),
        (ODD["plain"], {"logits": "score"}, "no output 'score'; known: scores"),
        (ODD["labels-first"], {"logits": "label"}, "the output 'label' does not hold one row of scores"),
        (ODD["plain"], {"mean": (123.7,)}, "is of pixels from 0 to 255: add --scale 1"),
        (ODD["plain"], {"mean": (0.1, 0.2)}, "--mean takes one figure, or one for each of the 3 channels"),
        (ODD["plain"], {"std": (0.0,)}, "std holds a 0"),
        (ODD["plain"], {"scale": float("nan")}, "scale is nan; it is a number above 0"),
        (ODD["plain"], {"scale": float("inf")}, "scale is inf; it is a number above 0"),
        (ODD["plain"], {"scale": 0.0}, "scale is 0; it is a number above 0"),
        (ODD["plain"], {"crop_share": 1.5}, "crop_share is 1.5; it is above 0 and at most 1"),
        (ODD["plain"], {"resize": "pad", "crop_share": 0.9}, "--crop-share is of what is cut out"),
        (GREY, {"order": "bgr"}, "--order bgr is the order of three channels, and the network takes one"),
        (replaced(GREY, kind=onnx.TensorProto.FLOAT), {"order": "bgr"}, "takes one: leave it away"),
        (replaced(ODD["int32"], kind=onnx.TensorProto.INT8), {}, "'pixels' takes int8, and pictures become"),
        (
            ODD["nhwc-uint8"],
            {"mean": (0.5,)},
            "whole pixels go in, and --scale, --mean and --std",
        ),
        (ODD["nhwc"], {"layout": "NCHW"}, "which is no NCHW of 1 or 3 channels"),
        (ODD["plain"], {"classes": ("a", "b")}, "--classes names 2 and the network answers with 4"),
        (ODD["plain"], {"model": "lenet"}, "--model belong to weights"),
        (ODD["plain"], {"find": True}, "add --dataset NAME, or folder:PATH"),
    ],
)
def test_what_does_not_fit_is_refused_in_words_and_leaves_nothing(
    odd: Odd, said: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CnnkitError, match=words):
        cnnkit.import_(odd.save(tmp_path / "a.onnx"), root=tmp_path / "out", **said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("after", "outputs", "words"),
    [
        (
            [node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)],
            [value("label", ["n"], onnx.TensorProto.INT64)],
            "no output holds one row of scores .* 'label' is N of int64, made by ArgMax",
        ),
        (
            [node("Identity", ["x"], ["maps"])],
            [value("maps", ["n", 3, SIZE, SIZE])],
            "no output holds one row of scores",
        ),
        (
            [node("Neg", ["scores"], ["others"])],
            [value("scores", ["n", 4]), value("others", ["n", 4])],
            "2 outputs could be the class scores: .* --logits NAME says which",
        ),
    ],
)
def test_outputs_that_are_no_class_scores_are_named(
    after: list[Any], outputs: list[Any], words: str, tmp_path: Path
) -> None:
    path = replaced(ODD["plain"], after=after, outputs=outputs).save(tmp_path / "a.onnx")
    with pytest.raises(CnnkitError, match=words):
        cnnkit.import_(path, root=tmp_path / "out")


def test_pictures_of_strange_classes_are_refused(colours: Path, tmp_path: Path) -> None:
    path = ODD["plain"].save(tmp_path / "a.onnx")
    with pytest.raises(ShapeError, match="classes that the network has not, such as 'blue'"):
        cnnkit.import_(path, classes=("a", "b", "c", "d"), dataset=f"folder:{colours}", root=tmp_path)
    few = tmp_path / "few"
    (few / "train").mkdir(parents=True)
    for name in NAMES[:2]:
        (few / "train" / name).symlink_to(colours / "train" / name)
    (few / "test").symlink_to(few / "train")
    with pytest.raises(ShapeError, match="has 2 classes and the network answers with 4"):
        cnnkit.import_(path, dataset=f"folder:{few}", root=tmp_path)
    some = cnnkit.import_(path, dataset=f"folder:{few}", classes=NAMES, scale=1 / 255, root=tmp_path)
    assert some.accuracy == 1.0


def test_weights_need_the_name_of_their_network(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--model NAME says of which network"):
        cnnkit.import_(tmp_path / "a.pth", root=tmp_path)


def test_a_network_whose_batch_changes_its_answers_is_given_one_picture_at_a_time(tmp_path: Path) -> None:
    over_the_batch = [node("Softmax", ["scores"], ["answers"], axis=0)]
    path = replaced(ODD["plain"], after=over_the_batch, outputs=[value("answers", ["n", 4])])
    told: list[str] = []
    made = cnnkit.import_(path.save(tmp_path / "a.onnx"), root=tmp_path, tell=told.append)
    assert made.passport.input.shape[0] == made.passport.output.shape[0] == 1
    assert any("what else is in a batch changes its answers" in line for line in told)


def test_a_network_that_draws_random_numbers_is_told(tmp_path: Path) -> None:
    after = [
        node("RandomNormalLike", ["scores"], ["noise"]),
        node("Add", ["scores", "noise"], ["answers"]),
    ]
    path = replaced(ODD["plain"], after=after, outputs=[value("answers", ["n", 4])])
    told: list[str] = []
    made = cnnkit.import_(path.save(tmp_path / "a.onnx"), root=tmp_path, tell=told.append)
    assert made.passport.input.shape[0] is None
    assert any("answers the same picture differently each time" in line for line in told)


def test_a_graph_of_whole_bgr_pixels_is_turned_once_and_before_it_is_judged(
    colours: Path, tmp_path: Path
) -> None:
    given = {"dataset": f"folder:{colours}", "root": tmp_path}
    made = cnnkit.import_(
        ODD["bgr-0-to-255"].save(tmp_path / "a.onnx"), order="bgr", scale=1.0, name="floats", **given
    )
    cnnkit.export("floats", formats=("onnx",), options=ExportOptions(root=tmp_path, pixels=True)).require()
    written = tmp_path / "floats-uint8" / "floats-uint8.onnx"
    whole = replaced(
        ODD["bgr-0-to-255"],
        kind=onnx.TensorProto.UINT8,
        before=[
            node("Gather", ["pixels", "turn"], ["turned"], axis=1),
            node("Cast", ["turned"], ["floats"], to=onnx.TensorProto.FLOAT),
            node("Div", ["floats", "most"], ["x"]),
        ],
    ).save(tmp_path / "b.onnx")
    for file, said in (
        (written, {}),
        (written, {"order": "bgr"}),
        (whole, {"order": "bgr"}),
        (whole, {"order": "bgr", "find": True}),
        (whole, {"find": True}),
    ):
        again = cnnkit.import_(file, name="again", fresh=True, **said, **given)
        assert (again.accuracy, again.passport.preprocessing.order) == (made.accuracy, "rgb")
        with cnnkit.load("again", root=tmp_path) as network:
            assert network.evaluate().accuracy == 1.0


def test_a_row_of_values_whose_channels_come_last_is_noticed(colours: Path, tmp_path: Path) -> None:
    path = replaced(
        ODD["row"],
        before=[
            node("Reshape", ["pixels", "to"], ["last"]),
            node("Transpose", ["last"], ["x"], perm=[0, 3, 1, 2]),
        ],
        constants=[constant("to", -1, SIZE, SIZE, 3, dtype=np.int64)],
    ).save(tmp_path / "a.onnx")
    made = cnnkit.import_(path, dataset=f"folder:{colours}", root=tmp_path)
    assert (made.passport.input.layout, made.accuracy) == ("NHWC", 1.0)


@pytest.mark.parametrize("default", [False, True])
def test_a_flag_that_branches_of_the_graph_hang_on_is_fixed(default: bool, tmp_path: Path) -> None:
    """Exporters keep a training flag so, with or without a value that holds where none is given."""

    def branch(name: str, kind: str, *reads: str) -> onnx.GraphProto:
        made = value(f"{name}/x", None)
        return onnx.helper.make_graph([node(kind, [*reads], [made.name])], name, [], [made])

    branches = {
        "then_branch": branch("training", "Mul", "pixels", "half"),
        "else_branch": branch("else", "Identity", "pixels"),
    }
    held = [figure("half", 0.5), *([onnx.numpy_helper.from_array(np.array(True), "flag")] * default)]
    path = replaced(
        ODD["plain"],
        before=[node("If", ["flag"], ["x"], **branches)],
        constants=held,
        inputs=[value("flag", [], onnx.TensorProto.BOOL)],
    ).save(tmp_path / "a.onnx")
    for given, halved in (("true", True), ("0", False)):
        made = cnnkit.import_(path, fixed={"flag": given}, root=tmp_path, fresh=True)
        kinds = [one.op_type for one in onnx.load(made.path).graph.node]
        assert "If" not in kinds
        assert ("Mul" in kinds) is halved
    with pytest.raises(NotFoundError, match="no input 'flags'; known: flag, pixels"):
        cnnkit.import_(path, fixed={"flags": "0"}, root=tmp_path)


@pytest.mark.parametrize(("kind", "dtype"), [("FLOAT16", "float16"), ("DOUBLE", "float64")])
def test_the_type_of_the_scores_is_the_one_that_the_network_answers_in(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    """Servers tell it to clients, who read an answer's bytes by it."""
    number = getattr(onnx.TensorProto, kind)
    after = [node("Cast", ["scores"], ["answers"], to=number)]
    path = replaced(ODD["plain"], after=after, outputs=[value("answers", ["n", 4], number)])
    made = cnnkit.import_(path.save(tmp_path / "a.onnx"), root=tmp_path)
    assert made.passport.output.dtype == dtype
    with cnnkit.load("a", root=tmp_path) as network:
        assert network.run(np.zeros((2, 3, SIZE, SIZE), np.float32))[0].dtype.name == dtype
