from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from serve.classifier import Classifier
from serve.lineup import line_up
from serve.page.asked import PageQuery
from serve.settings import Limits, OpeningSettings
from tests.serve.conftest import MODEL
from toolkit.answering import Invert, read_picture
from toolkit.artifacts import open_artifact
from toolkit.backends import BACKENDS
from toolkit.errors import CnnkitError, ImageSizeError, NotFoundError
from toolkit.grounds import Ground
from toolkit.preprocessing import Preprocessing


@pytest.fixture
def classifier(shipped: Path, tmp_path: Path) -> Classifier:
    return Classifier(OpeningSettings(root=tmp_path).find(MODEL, "ort"), "ort")


def picture(shade: int, size: tuple[int, int] = (28, 28)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, shade).save(out, "PNG")
    return out.getvalue()


def test_an_answer_holds_the_very_tensor_that_the_network_saw(classifier: Classifier) -> None:
    answer = classifier.classify(picture(0), top=10)
    logits = classifier.run(answer.prepared.rows)[0]
    probabilities = classifier.probabilities(logits)[0]
    assert answer.top[0][1] == pytest.approx(float(probabilities.max()))
    assert sum(p for _, p in answer.top) == pytest.approx(1.0)
    assert answer.prepared.pixels.shape == (1, 28, 28)
    assert answer.infer_ms > 0


@pytest.mark.parametrize(
    ("ground", "shade", "invert", "expected"),
    [
        (None, 255, "auto", True),
        (None, 0, "auto", False),
        (None, 255, "no", False),
        (None, 0, "yes", True),
        ("light", 255, "auto", False),
        ("light", 0, "auto", True),
        ("light", 255, "yes", True),
    ],
)
def test_when_a_picture_is_inverted(
    ground: Ground | None, shade: int, invert: Invert, expected: bool
) -> None:
    settings = Preprocessing(size=(28, 28), channels=1, ground=ground)
    assert read_picture(picture(shade), settings, invert).inverted is expected


def test_the_pages_own_test_pictures_are_inverted_only_when_told() -> None:
    ours = [PageQuery(invert=how, ours=True).way for how in get_args(Invert)]
    theirs = [PageQuery(invert=how).way for how in get_args(Invert)]
    assert (ours, theirs) == (["no", "yes", "no"], ["auto", "yes", "no"])


def test_limits_hold_before_decoding() -> None:
    settings = Preprocessing(size=(28, 28), channels=1)
    with pytest.raises(ImageSizeError, match="100×100"):
        read_picture(picture(0, (100, 100)), settings, max_pixels=9_999)
    with pytest.raises(ImageSizeError, match="over the limit"):
        read_picture(picture(0), settings, max_bytes=10)


def test_answers_that_are_no_numbers_are_refused(classifier: Classifier) -> None:
    with pytest.raises(CnnkitError, match="no finite answer"):
        classifier.probabilities(np.array([[np.nan, 1.0]]))


def test_an_engine_answers_one_caller_at_a_time(shipped: Path, counting: Any) -> None:
    classifier = Classifier(open_artifact(shipped), "counting")
    rows = np.zeros((1, 1, 28, 28), dtype=np.float32)
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(classifier.run, rows) for _ in range(6)]
        calls += [pool.submit(classifier.classify, picture(0)) for _ in range(6)]  # type: ignore[arg-type]
        for call in calls:
            call.result()
    assert counting.opened[0].most_at_once == 1


def test_closing_waits_for_the_answer_and_then_the_engine_is_run_no_more(
    shipped: Path, counting: Any
) -> None:
    classifier = Classifier(open_artifact(shipped), "counting")
    (engine,) = counting.opened
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(classifier.classify, picture(0))
        while not engine.inside:
            time.sleep(0.0001)
        classifier.close()
        assert call.result().top
    classifier.close()
    assert engine.closed == 1
    with pytest.raises(CnnkitError, match="was closed"):
        classifier.classify(picture(0))


def test_an_engine_is_closed_when_nobody_holds_its_classifier(shipped: Path, counting: Any) -> None:
    classifier = Classifier(open_artifact(shipped), "counting")
    run = classifier.run
    del classifier
    run(np.zeros((1, 1, 28, 28), dtype=np.float32))
    del run
    assert counting.opened[0].closed == 1


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="lenet"):
        OpeningSettings(root=tmp_path).find("lenett", "ort")


def test_what_cannot_be_served_stays_listed_with_its_reason(shipped: Path, tmp_path: Path) -> None:
    entries = line_up([MODEL], "ort", OpeningSettings(root=tmp_path), others=True)
    assert entries[0].why_not is None
    assert sorted(entry.backend.name for entry in entries) == BACKENDS.names()
    for entry in entries:
        if entry.why_not:
            with pytest.raises(CnnkitError, match=entry.why_not[:12]):
                entry.classifier()


def test_the_served_artifact_is_not_newer_than_itself(shipped: Path, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra serve)")
    from serve.reload import newer

    (served,) = line_up([MODEL], "ort", OpeningSettings(root=tmp_path), others=False)
    served.classifier()
    assert newer(served, served.default) is None


def test_looking_inside_finds_layers_and_heat(shipped: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")
    from serve.explaining import Explainer

    explainer = Explainer(OpeningSettings(root=tmp_path).find(MODEL, "pytorch"), Limits())
    side = np.zeros((28, 28), dtype=np.uint8)
    side[4:24, 8:20] = 200
    out = io.BytesIO()
    Image.fromarray(side).save(out, "PNG")
    insight = explainer.look(out.getvalue())
    assert insight.heat.shape == insight.maps.shape[1:]
    assert 0.0 <= float(insight.heat.min()) <= float(insight.heat.max()) <= 1.0
    for layer in insight.layers:
        assert explainer.look(out.getvalue(), layer=layer).layer == layer
    with pytest.raises(NotFoundError, match="no layer of"):
        explainer.look(out.getvalue(), layer="nope")
