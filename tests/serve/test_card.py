"""A model's card says what its passport says, and which commands make the same artifact again."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cnnkit import front_door
from serve.page.card import card_rows, commands
from toolkit.artifacts import Artifact, open_artifact
from toolkit.listings import Reading
from toolkit.passports import AccuracyDrop, CalibrationRecord, DatasetRef, Target, TrainingOptions
from toolkit.recipes import Recipe

RECIPE = Recipe(name="textbook", lr=0.5, clip_norm=None, flip=False, epochs=3)


def changed(artifact: Artifact, **facts: Any) -> Artifact:
    return dataclasses.replace(artifact, passport=dataclasses.replace(artifact.passport, **facts))


@pytest.fixture
def artifact(shipped: Path) -> Artifact:
    return open_artifact(shipped)


def test_the_card_has_accuracy_parity_size_and_hash(artifact: Artifact) -> None:
    rows = dict(card_rows(artifact))
    assert rows["SHA-256"] == artifact.passport.sha256
    assert f"{artifact.path.stat().st_size:,} bytes" in rows["file"]
    assert f"{artifact.passport.metrics.test_accuracy:.4f} on 10,000 images" in rows["test accuracy"]
    assert "same first answer as" in rows["parity"]
    assert f"cnnkit export {artifact.name}" in rows["to make it again"]


def test_commands_repeat_what_was_set_otherwise(artifact: Artifact) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        changed=(
            "lr",
            "clip_norm",
            "flip",
        ),
    )
    made = changed(artifact, recipe=recipe, precision="fp16", seed=7)
    assert commands(made) == (
        "cnnkit train lenet-maxpool --recipe textbook --lr 0.5 --clip-norm none --no-flip --seed 7"
        " && cnnkit export lenet-maxpool --precision fp16"
    )


def test_commands_repeat_how_data_were_read_and_what_was_asked_beside(artifact: Artifact) -> None:
    data = DatasetRef(
        name="folder:/data/birds",
        group=r"clip\d+",
        exclude="/data/out.txt",
        skip_damaged=True,
        max_pixels=Reading().max_pixels,  # which nobody typed
    )
    options = TrainingOptions(
        dataset="folder:/data/birds",
        size=(64, 64),
        threads=2,
        fold="1/5",
        teacher="big",
        teacher_sha256="ab",  # what was computed of it is no option
        loss_weights=(0.5, 1.5),
        grey=True,
    )
    made = changed(artifact, recipe=RECIPE, dataset=data, options=options, model_file_sha256="ab")
    assert commands(changed(made, format="safetensors")) == (
        "cnnkit train lenet-maxpool --recipe textbook --dataset folder:/data/birds --group 'clip\\d+' "
        "--exclude /data/out.txt --skip-damaged --size 64 --threads 2 --fold 1/5 --teacher big --grey "
        "--model-file MODEL.py"
    )


def test_commands_repeat_what_an_export_was_asked(artifact: Artifact) -> None:
    record = CalibrationRecord(images=64, source="", method="entropy", seed=0, per_channel=True)
    taken = dataclasses.replace(artifact.passport.input, shape=(8, 1, 28, 28), dtype="uint8")
    made = changed(artifact, trained=False, precision="int8", calibration=record, softmax=True, input=taken)
    assert commands(made) == (
        "cnnkit export lenet-maxpool --untrained --precision int8 --batch 8 --input uint8 --softmax "
        "--calibration entropy --calibration-images 64"
    )


def test_commands_repeat_how_an_engine_was_built_and_what_it_may_lose(artifact: Artifact) -> None:
    profile = {"min": (1, 1, 28, 28), "opt": (8, 1, 28, 28), "max": (16, 1, 28, 28)}
    target = Target(flavour="rtx", compute_capabilities=("SM89", "SM90"), shape_profile=profile)
    drop = AccuracyDrop(allowed=2.0, points=0.1, ci95=(0.0, 0.3), images=500, source=None)
    made = changed(
        artifact, trained=False, format="tensorrt", precision="int8", target=target, accuracy_drop=drop
    )
    assert commands(made) == (
        "cnnkit export lenet-maxpool --untrained --format tensorrt --precision int8 --batch 1,8,16 "
        "--max-accuracy-drop 2 --flavour rtx --target sm89,sm90"
    )
    usual = dataclasses.replace(target, flavour="classic", compute_capabilities=(), version_compatible=True)
    made = changed(made, target=dataclasses.replace(usual, shape_profile=None), accuracy_drop=None)
    assert commands(made) == (
        "cnnkit export lenet-maxpool --untrained --format tensorrt --precision int8 "
        "--flavour classic --version-compatible"
    )


def test_a_recipe_of_a_file_is_asked_for_by_its_file(artifact: Artifact) -> None:
    recipe = dataclasses.replace(RECIPE, name="mine", source="mine.toml", changed=("lr",))
    assert commands(changed(artifact, recipe=recipe, format="safetensors")) == (
        "cnnkit train lenet-maxpool --recipe mine.toml --lr 0.5"
    )


def test_commands_are_understood_by_the_command_line(artifact: Artifact) -> None:
    text = commands(artifact)
    assert text is not None
    for line in text.split(" && "):
        # a group's help is shown only when everything before it was understood
        result = CliRunner().invoke(front_door.main, [*shlex.split(line)[1:], "--help"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("facts", [{"trained": None}, {"recipe": None}])
def test_what_is_not_known_is_not_told(artifact: Artifact, facts: dict[str, Any]) -> None:
    made = changed(artifact, **facts)
    assert commands(made) is None
    assert "to make it again" not in dict(card_rows(made))


def test_untrained_weights_need_one_command(artifact: Artifact) -> None:
    made = changed(artifact, trained=False, recipe=None)
    assert commands(made) == "cnnkit export lenet-maxpool --untrained"
