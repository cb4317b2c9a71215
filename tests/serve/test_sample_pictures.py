"""The page's test pictures are labelled as the network answers, or there are none and a sentence says why."""

from __future__ import annotations

import dataclasses

import pytest

from serve.page.pictures import SamplePictures, sample_pictures
from toolkit.artifacts import Artifact, open_artifact, shipped_root


@pytest.fixture
def imported() -> Artifact:
    """Return weights that ship as if a graph without metadata had been imported under a zoo's name."""
    shipped = open_artifact(shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx")
    numbers = tuple(map(str, range(10)))
    known = dataclasses.replace(shipped.passport, dataset=None, imported_sha256="ab", classes=numbers)
    return dataclasses.replace(shipped, passport=known)


def with_classes(artifact: Artifact, *classes: str) -> Artifact:
    return dataclasses.replace(artifact, passport=dataclasses.replace(artifact.passport, classes=classes))


def test_pictures_of_a_network_whose_classes_are_numbers_are_labelled_by_them(imported: Artifact) -> None:
    found = sample_pictures(imported)
    assert isinstance(found, SamplePictures)
    assert found.labels[:10] == imported.passport.classes
    assert found.source == "fashion-mnist-sample"


def test_a_network_of_other_classes_gets_no_pictures_of_those_that_its_name_is_meant_for(
    imported: Artifact,
) -> None:
    said = sample_pictures(with_classes(imported, "cat", "dog"))
    assert isinstance(said, str)
    assert said.startswith("no test pictures: lenet-maxpool answers with 2 classes (cat, dog), and")
    assert isinstance(sample_pictures(with_classes(imported, *"abcdefghij")), str)


def test_pictures_of_the_data_that_a_network_was_trained_on_have_its_labels(imported: Artifact) -> None:
    shipped = open_artifact(imported.path)
    found = sample_pictures(shipped)
    assert isinstance(found, SamplePictures)
    assert found.labels[:2] == ("T-shirt/top", "Trouser")
    turned = sample_pictures(with_classes(imported, *reversed(shipped.passport.classes)))
    assert isinstance(turned, SamplePictures)
    assert turned.labels[:2] == ("Ankle boot", "Bag")
