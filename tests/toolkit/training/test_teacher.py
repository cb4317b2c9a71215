"""A student that learns from a teacher's answers: what the teacher is shown, and what it brings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402
from toolkit.artifacts import hash_file  # noqa: E402  (after the skip)
from toolkit.checkpoints import load_module, new_passport, save_checkpoint  # noqa: E402
from toolkit.datasets import Dataset, Split  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.preprocessing import Preprocessing  # noqa: E402
from toolkit.training import Outcome, Watcher  # noqa: E402
from toolkit.training.compute.rule import by_rule  # noqa: E402
from toolkit.training.data.prepare import PreparedData, prepare  # noqa: E402
from toolkit.training.run import train  # noqa: E402
from toolkit.training.teacher import distance, teacher_for  # noqa: E402

PLAIN = {"epochs": 2, "batch": 50}
# a student's, by colour
MEAN, STD = (0.25, 0.5, 0.75), (0.5, 0.25, 1.0)


@pytest.fixture
def taught_by(make_job: Any) -> Outcome:
    return train(make_job("lenet-relu", name="wise", changes=PLAIN, threads=1))


def test_the_teacher_sees_the_students_pictures_as_it_knows_them(taught_by: Outcome, make_job: Any) -> None:
    job = make_job("lenet-maxpool", images=200, changes={**PLAIN, "pixels": "half"}, teacher="wise")
    prepared = prepare(job)
    # this teacher is worth a shorter format from a larger batch on than its student is
    teacher = teacher_for(job, prepared)
    assert teacher is not None
    assert teacher.compute == by_rule(job, zoo.model("lenet-relu").build(1, 10), (50, 1, 28, 28))
    levels = torch.rand(4, 1, 28, 28)
    known = taught_by.checkpoint.passport.preprocessing
    assert known is not None
    its_own = (levels - known.mean[0]) / known.std[0]
    answers = load_module(taught_by.checkpoint)(its_own)
    half = (levels - 0.5) / 0.5
    assert float(distance(answers, teacher.answers(half), 4.0).detach()) == pytest.approx(0, abs=1e-5)
    assert float(distance(answers.flip(1), teacher.answers(half), 4.0).detach()) > 0.1


def wise_reading(root: Path, *, columns: int = 10, count: int = 10, **facts: Any) -> Preprocessing:
    """Save an untrained teacher of three channels that was fed as these facts say; return that.

    It tells `count` classes apart by so many `columns` of scores.
    """
    spec = zoo.model("lenet-relu")
    known = Preprocessing(size=(28, 28), channels=3, **facts)
    classes = tuple(str(number) for number in range(count))
    passport = new_passport(spec, preprocessing=known, classes=classes, columns=columns, trained=True)
    save_checkpoint(root / "wise" / "wise.safetensors", spec.build(3, columns).state_dict(), passport)
    return known


def coloured(*, count: int = 10, **facts: Any) -> PreparedData:
    """Return data of three channels, in the classes that `wise_reading` tells apart."""
    empty = Split(images=np.zeros((4, 3, 28, 28), np.uint8), labels=np.arange(4, dtype=np.int64))
    classes = tuple(str(number) for number in range(count))
    data = Dataset(name="colours", train=empty, test=empty, classes=classes, source="here", fingerprint="x")
    own = Preprocessing(size=(28, 28), channels=3, mean=MEAN, std=STD, **facts)
    return PreparedData(dataset=data, learned=empty, held=None, preprocessing=own)


def test_a_teacher_that_takes_blue_first_is_given_blue_first_in_its_own_units(make_job: Any) -> None:
    job = make_job("lenet-relu", changes=PLAIN, teacher="wise")
    known = wise_reading(job.root, order="bgr", scale=1.0, mean=(1.0, 2.0, 3.0), std=(51.0, 102.0, 255.0))
    teacher = teacher_for(job, coloured())
    assert teacher is not None
    red_first = torch.rand(4, 3, 28, 28)
    mean, std = (torch.tensor(figures)[:, None, None] for figures in (known.mean, known.std))
    answers = teacher.module((red_first.flip(1) * 255 - mean) / std)
    mean, std = (torch.tensor(figures)[:, None, None] for figures in (MEAN, STD))
    own = (red_first - mean) / std
    assert float(distance(answers, teacher.answers(own), 4.0)) == pytest.approx(0, abs=1e-6)
    assert float(distance(answers, teacher.answers(own.flip(1)), 4.0)) > 1e-5


def test_a_teachers_one_score_for_two_classes_is_the_second_ones(make_job: Any) -> None:
    job = make_job("lenet-relu", changes=PLAIN, teacher="wise")
    wise_reading(job.root, columns=1, count=2, mean=MEAN, std=STD)
    teacher = teacher_for(job, coloured(count=2))
    assert teacher is not None
    shown = torch.rand(4, 3, 28, 28)
    score = teacher.module(shown)[:, :1]
    # any two logits of which the second is so much the higher
    answers = torch.cat([1 - score / 2, 1 + score / 2], 1)
    assert float(distance(answers, teacher.answers(shown), 4.0)) == pytest.approx(0, abs=1e-6)
    # the first class's score less the second's, as far beside as can be
    assert float(distance(answers.flip(1) * 9, teacher.answers(shown), 4.0)) > 1e-4
    wise_reading(job.root, columns=3, count=2)
    with pytest.raises(CnnkitError, match=r"3 scores, and colours has 2 classes: take a --teacher with one"):
        teacher_for(job, coloured(count=2))


@pytest.mark.parametrize(
    ("facts", "own", "words"),
    [
        ({"invert": True}, {}, "reads pictures inverted, and training does not: take a --teacher that reads"),
        ({"levels": (0.0, 4095.0)}, {}, "levels 0,4095, and the student by none: --levels 0,4095 makes them"),
        ({}, {"levels": (0.0, 4095.0)}, "levels none, and the student by 0,4095: take a --teacher of such"),
    ],
)
def test_a_teacher_whose_pixels_a_student_never_has_is_refused(
    facts: dict[str, Any], own: dict[str, Any], words: str, make_job: Any
) -> None:
    job = make_job("lenet-relu", changes=PLAIN, teacher="wise")
    wise_reading(job.root, **facts)
    with pytest.raises(CnnkitError, match=words):
        teacher_for(job, coloured(**own))


def test_only_a_teacher_and_no_label_teach_the_teachers_answers(taught_by: Outcome, make_job: Any) -> None:
    fields = {**PLAIN, "epochs": 4, "teacher_share": 1.0, "label_smoothing": 0.0}
    job = make_job("lenet-maxpool", changes=fields, teacher=str(taught_by.checkpoint.path), threads=1)
    outcome = train(job)
    assert outcome.test_accuracy > 0.5
    assert outcome.checkpoint.passport.options is not None
    assert outcome.checkpoint.passport.options.teacher == str(taught_by.checkpoint.path)
    assert outcome.checkpoint.passport.options.teacher_sha256 == taught_by.checkpoint.passport.sha256


class Stopper(Watcher):
    left = 20

    def images(self, count: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_stopped_lesson_goes_on_to_the_same_bytes_with_the_same_teacher_only(
    taught_by: Outcome, make_job: Any
) -> None:
    job = make_job("lenet-dropout", images=600, changes=PLAIN, teacher="wise", threads=1, save_every_s=0.0)
    whole = hash_file(train(dataclasses.replace(job, name="whole")).checkpoint.path)
    with pytest.raises(CnnkitError, match="--resume goes on"):
        train(job, Stopper())
    # the teacher, too, computes as the run was begun
    ended = train(dataclasses.replace(job, resume=True, arithmetic="bf16")).checkpoint
    assert hash_file(ended.path) == whole
    taught, wise = ended.passport.teacher_compute, zoo.model("lenet-relu").build(1, 10)
    assert taught is not None
    assert taught.arithmetic == by_rule(job, wise, (50, 1, 28, 28)).arithmetic
    with pytest.raises(CnnkitError, match="--resume goes on"):
        train(job, Stopper())
    train(make_job("lenet-relu", name="wise", changes={**PLAIN, "epochs": 1}, threads=1))
    with pytest.raises(CnnkitError, match="was begun otherwise: teacher_sha256"):
        train(dataclasses.replace(job, resume=True))


def test_a_teacher_of_other_pictures_is_refused(taught_by: Outcome, make_job: Any) -> None:
    with pytest.raises(CnnkitError, match=r"takes pictures of 28×28×1, and the student 32×32×1: --size"):
        train(make_job("resnet18", size=(32, 32), images=40, changes=PLAIN, teacher="wise"))
