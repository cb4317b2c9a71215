"""A training from start to finish: what it writes, says, chooses and refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.artifacts import open_artifact  # noqa: E402
from toolkit.checkpoints import load_module, load_state  # noqa: E402
from toolkit.errors import CnnkitError, UnavailableError  # noqa: E402
from toolkit.inspection.network import load  # noqa: E402
from toolkit.machine.cpu import Cpu  # noqa: E402
from toolkit.models import ModelSpec  # noqa: E402
from toolkit.training import readiness, seeding  # noqa: E402
from toolkit.training.compute import rule  # noqa: E402
from toolkit.training.data.describing import describe  # noqa: E402
from toolkit.training.data.prepare import prepare  # noqa: E402
from toolkit.training.finder import find_rate  # noqa: E402
from toolkit.training.loop import Loop  # noqa: E402
from toolkit.training.process import watchdog  # noqa: E402
from toolkit.training.process.failures import explained  # noqa: E402
from toolkit.training.process.watchdog import Watchdog  # noqa: E402
from toolkit.training.run import train  # noqa: E402


def test_a_run_leaves_a_checkpoint_with_a_full_passport_and_a_folder_of_logs(
    make_job: Any, listener: Any
) -> None:
    outcome = train(make_job(changes={"epochs": 3}), listener)
    passport = open_artifact(outcome.checkpoint.path).passport
    assert passport.trained is True
    assert passport.dataset is not None
    assert len(passport.dataset.fingerprint or "") == 64
    assert passport.metrics.test_accuracy == outcome.test_accuracy
    assert passport.metrics.test_images == 500
    assert passport.metrics.val_accuracy == outcome.val_accuracy
    low, high = passport.metrics.test_accuracy_ci95 or (1, 0)
    assert low < outcome.test_accuracy < high
    assert passport.recipe is not None
    assert passport.recipe.epochs == 3
    assert passport.recipe.changed == ("epochs",)
    assert passport.preprocessing is not None
    assert 0.2 < passport.preprocessing.mean[0] < 0.4
    assert passport.training_images == 1800
    files = {path.name for path in outcome.folder.iterdir()}
    assert files >= {"best.safetensors", "last.safetensors", "epochs.csv", "curves.png", "confusion.png"}
    assert list((outcome.folder / "tensorboard").glob("events.*"))
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["test_accuracy"] == outcome.test_accuracy
    for name in ("curves.png", "confusion.png"):
        with Image.open(outcome.folder / name) as picture:
            assert min(picture.size) > 300


def test_the_logs_hold_every_epoch(make_job: Any, listener: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = train(make_job(changes={"epochs": 3}), listener)
    rows = list(csv.DictReader((outcome.folder / "epochs.csv").read_text().splitlines()))
    assert [float(row["train_loss"]) for row in rows] == [r.train_loss for r in outcome.records]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    events = EventAccumulator(str(outcome.folder / "tensorboard"))
    events.Reload()
    logged = [scalar.value for scalar in events.Scalars("accuracy/validation")]
    assert logged == pytest.approx([r.val_accuracy for r in outcome.records])
    assert listener.records == list(outcome.records)


def test_training_figures_are_over_all_images(make_job: Any, listener: Any) -> None:
    # with a rate of next to nothing the weights stay, so the epoch's figures can be checked afterwards
    fields = {"epochs": 1, "lr": 1e-30, "batch": 128, "flip": False, "shift_pixels": 0, "label_smoothing": 0}
    job = make_job(changes=fields)
    outcome = train(job, listener)
    from toolkit.training.data.prepare import prepare

    learned = prepare(job).learned
    module = load_module(outcome.checkpoint)
    preprocessing = outcome.checkpoint.passport.preprocessing
    assert preprocessing is not None
    from toolkit.preprocessing import normalise

    with torch.inference_mode():
        logits = module(torch.from_numpy(normalise(learned.images, preprocessing)))
        labels = torch.from_numpy(learned.labels)
        loss = torch.nn.functional.cross_entropy(logits, labels).item()
        accuracy = (logits.argmax(1) == labels).float().mean().item()
    (record,) = outcome.records
    assert record.train_loss == pytest.approx(loss, rel=1e-4)
    assert record.train_accuracy == pytest.approx(accuracy, abs=2e-3)
    assert listener.count == len(learned)


def test_two_runs_with_one_seed_are_equal_and_with_another_not(make_job: Any, listener: Any) -> None:
    hashes = [
        train(make_job(seed=seed, name=name), listener).checkpoint.passport.sha256
        for seed, name in ((4, "a"), (4, "b"), (5, "c"))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_schedule_really_steps_in_a_run(make_job: Any, listener: Any) -> None:
    fields = {"epochs": 4, "schedule": "step", "step_epochs": 2, "step_gamma": 0.1, "lr": 0.01}
    outcome = train(make_job(changes=fields), listener)
    assert [record.rate for record in outcome.records] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_the_best_epoch_is_chosen_on_validation_and_the_last_only_when_asked(
    make_job: Any, listener: Any
) -> None:
    # a rate at which epochs go up and down
    fields = {"epochs": 4, "optimizer": "sgd", "lr": 0.15, "schedule": "constant", "batch": 32}
    best = train(make_job("lenet-maxpool", changes=fields), listener)
    last = train(make_job("lenet-maxpool", changes={**fields, "select": "last"}), listener)
    held = [record.val_accuracy for record in best.records]
    assert best.val_accuracy == max(held)
    assert best.selected_epoch == held.index(max(held)) + 1
    assert last.selected_epoch == 4
    assert [r.val_accuracy for r in last.records] == held  # what is selected changes nothing else


def test_early_stopping_waits_its_patience(make_job: Any, listener: Any) -> None:
    fields = {"epochs": 30, "patience_epochs": 2, "lr": 1e-30}
    outcome = train(make_job(changes=fields), listener)
    assert len(outcome.records) == 3
    assert any("stopped early" in event for event in outcome.events)


def test_averaged_weights_are_scored_and_kept(make_job: Any, listener: Any) -> None:
    plain = train(make_job(name="plain"), listener)
    averaged = train(make_job(name="averaged", changes={"ema_decay": 0.5}), listener)
    assert [r.train_loss for r in plain.records] == [r.train_loss for r in averaged.records]
    ours, theirs = load_state(plain.checkpoint), load_state(averaged.checkpoint)
    assert not torch.equal(ours["fc1.weight"], theirs["fc1.weight"])


def test_gradient_clipping_bounds_each_step(make_job: Any, listener: Any) -> None:
    fields = {"optimizer": "sgd", "lr": 1.0, "schedule": "constant", "epochs": 1, "clip_norm": 1e-4}
    fields["weight_decay"] = 0
    outcome = train(make_job(changes=fields), listener)
    torch.manual_seed(0)
    # 29 steps of at most 1e-4 each cannot lead further than this
    start = train(make_job(name="still", changes={**fields, "lr": 1e-30}), listener)
    ours, theirs = load_state(outcome.checkpoint), load_state(start.checkpoint)
    distance = torch.cat([(ours[key] - theirs[key]).flatten() for key in ours]).norm()
    assert 0 < distance <= 29 * 1e-4 * 1.01


def test_the_mirror_image_is_a_figure_of_its_own(make_job: Any, listener: Any) -> None:
    outcome = train(make_job(flip_test=True), listener)
    assert outcome.flip_test_accuracy is not None
    assert outcome.checkpoint.passport.metrics.test_accuracy == outcome.test_accuracy
    assert train(make_job(), listener).flip_test_accuracy is None


@pytest.mark.parametrize("loader", ["memory", "torch"])
def test_both_loaders_learn(make_job: Any, listener: Any, loader: str) -> None:
    outcome = train(make_job(loader=loader, workers=0, changes={"epochs": 3}), listener)
    assert outcome.test_accuracy > 0.5


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_every_format_and_layout_learns(make_job: Any, listener: Any, arithmetic: str, layout: str) -> None:
    outcome = train(make_job(arithmetic=arithmetic, layout=layout, changes={"epochs": 3}), listener)
    assert (outcome.arithmetic, outcome.layout) == (arithmetic, layout)
    assert outcome.test_accuracy > 0.5
    state = load_state(outcome.checkpoint)
    assert all(value.dtype == torch.float32 for value in state.values())


def test_the_format_is_the_same_on_equal_machines_busy_or_not(
    make_job: Any, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a stopwatch that says something else each time, as on a busy machine; and no cache that remembers
    ticks = iter(np.random.default_rng(0).random(1_000_000).cumsum())
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    outcomes = []
    for name in ("quiet", "busy"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        outcomes.append(train(make_job("alexnet28", name=name, images=256, changes={"epochs": 1}), listener))
    assert outcomes[0].checkpoint.passport.sha256 == outcomes[1].checkpoint.passport.sha256
    said = [line for line in listener.said if line.startswith("computing")]
    assert "channels-last (by rule" in said[0]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("model", "batch", "sets", "arithmetic"),
    [
        ("alexnet28", 128, ("AVX-512", "AVX512-BF16"), "bf16"),
        ("alexnet28", 128, ("AVX2",), "fp32"),
        ("lenet", 64, ("AVX512-BF16",), "fp32"),  # too little work a step to win by shorter numbers
        ("lenet", 256, ("AMX-BF16",), "bf16"),
    ],
)
def test_the_rule_looks_at_processor_network_and_batch(
    make_job: Any,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    batch: int,
    sets: tuple[str, ...],
    arithmetic: str,
) -> None:
    processor = Cpu(name="any", cores=2, instruction_sets=sets)
    monkeypatch.setattr(rule, "cpu", lambda: processor)
    module = zoo.model(model).build(1, 10)
    inputs, labels = torch.rand(batch, 1, 28, 28), torch.arange(batch) % 10
    chosen = rule.choose(make_job(model), module, inputs, labels)
    assert (chosen.compute.arithmetic, chosen.compute.layout) == (arithmetic, "channels-last")
    for asked in ("fp32", "bf16"):
        job = make_job(model, arithmetic=asked, layout="contiguous")
        compute = rule.choose(job, module, inputs, labels).compute
        assert (compute.arithmetic, compute.layout) == (asked, "contiguous")


@pytest.mark.parametrize(
    ("name", "arithmetic"),
    [
        ("mobilenet_v2", "fp32"),
        ("shufflenet_v2_x1_0", "fp32"),
        ("convnext_tiny", "bf16"),
        ("resnet18", "bf16"),
    ],
)
def test_networks_of_depthwise_convolutions_stay_in_fp32_on_a_cpu(
    make_job: Any, monkeypatch: pytest.MonkeyPatch, name: str, arithmetic: str
) -> None:
    models = pytest.importorskip("torchvision.models")
    processor = Cpu(name="any", cores=2, instruction_sets=("AVX512-BF16",))
    monkeypatch.setattr(rule, "cpu", lambda: processor)
    module = getattr(models, name)(num_classes=10)
    assert rule.by_rule(make_job(), module, (64, 3, 64, 64)).arithmetic == arithmetic


class PaddedByItself(torch.nn.Conv2d):
    """A convolution with a layer of its own inside, as EfficientNet's authors write them."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, channels, 3, groups=groups)
        self.padding_layer = torch.nn.ZeroPad2d(1)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(
            self.padding_layer(given), self.weight, self.bias, groups=self.groups
        )


class Functional(torch.nn.Module):
    """A convolution without a layer of torch's, which is called twice."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(channels, channels // groups, 3, 3))
        self.groups = groups

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            given = torch.nn.functional.conv2d(given, self.weight, padding=1, groups=self.groups)
        return given


@pytest.mark.parametrize("layer", [PaddedByItself, Functional])
@pytest.mark.parametrize(("groups", "arithmetic"), [(32, "fp32"), (16, "bf16"), (1, "bf16")])
def test_depthwise_convolutions_are_known_by_what_is_computed(
    make_job: Any, monkeypatch: pytest.MonkeyPatch, layer: Any, groups: int, arithmetic: str
) -> None:
    processor = Cpu(name="any", cores=2, instruction_sets=("AVX512-BF16",))
    monkeypatch.setattr(rule, "cpu", lambda: processor)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, padding=1), layer(32, groups))
    assert rule.by_rule(make_job(), module, (64, 3, 64, 64)).arithmetic == arithmetic


def test_a_measured_choice_is_measured_once_and_then_kept(
    make_job: Any, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("first", "second"):
        train(make_job(name=name, arithmetic="measured", changes={"epochs": 1}), listener)
    said = [line for line in listener.said if line.startswith("computing")]
    assert "measured now" in said[0]
    assert "measured before" in said[1]


def test_a_choice_that_cannot_be_kept_is_said_and_the_training_goes_on(
    make_job: Any, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert train(make_job(arithmetic="measured", changes={"epochs": 1}), listener).records
    (said,) = [line for line in listener.said if line.startswith("computing")]
    assert "cannot be written, so the next run measures anew" in said


def test_threads_that_were_asked_for_are_not_those_of_the_next_training(
    make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.training.record.charts.lacks", lambda package: True)
    monkeypatch.setattr("toolkit.training.record.logs.lacks", lambda package: True)
    torch.set_num_threads(2)
    small = {"images": 100, "changes": {"epochs": 1}}
    first = train(make_job(**small, threads=1, name="first"))
    assert (first.threads, torch.get_num_threads()) == (1, 2)
    find_rate(make_job(**small, threads=1))
    assert torch.get_num_threads() == 2
    # an engine's are those of the process, for as long as it may be called
    load("first", root=first.job.root, backend="pytorch", threads=1).close()
    second = train(make_job(**small, name="second"))
    assert (second.threads, torch.get_num_threads()) == (2, 1)


@pytest.mark.parametrize("asked", ["auto", "measured"])
def test_a_choice_for_large_pictures_leaves_batch_norm_something_to_compare(
    make_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rule, "cpu", lambda: Cpu(name="any", cores=2, instruction_sets=("AVX512-BF16",)))
    body = (torch.nn.Conv2d(3, 32, 4, 4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    head = (torch.nn.Linear(32, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    inputs, labels = torch.rand(4, 3, 384, 384), torch.arange(4) % 2
    job, module = make_job(arithmetic=asked), torch.nn.Sequential(*body, *head)
    assert rule.by_rule(job, module, tuple(inputs.shape)).arithmetic == "bf16"  # so that it is tried
    assert rule.choose(job, module, inputs, labels).why == {"auto": "by rule"}.get(asked, "measured now")


def test_a_rule_asks_for_no_step_of_a_training(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "cpu", lambda: Cpu(name="any", cores=2, instruction_sets=("AVX512-BF16",)))
    modes: list[bool] = []
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 4, 2), torch.nn.Flatten(), torch.nn.Linear(30752, 2))
    module.register_forward_pre_hook(lambda layer, given: modes.append(layer.training))
    rule.choose(make_job(), module, torch.rand(64, 3, 64, 64), torch.arange(64) % 2)
    assert len(modes) == 3  # the walk, and a gradient in each format
    assert not any(modes)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_layers_that_work_out_their_weights_are_measured(
    make_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layer = torch.nn.utils.weight_norm(torch.nn.Conv2d(1, 2, 3))
    module = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(72, 2))
    job = make_job(arithmetic="measured", layout="contiguous")
    assert rule.choose(job, module, torch.rand(4, 1, 8, 8), torch.arange(4) % 2).why == "measured now"


def test_only_steps_count_as_training_time(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gained = []

    class Watched(Loop):
        def next_epoch(self) -> None:
            before = self.progress.trained_seconds
            super().next_epoch()
            self.settle()  # as saving the state does
            gained.append(self.progress.trained_seconds - before)

    monkeypatch.setattr(readiness, "Loop", Watched)
    outcome = train(make_job(changes={"epochs": 3}), listener)
    assert gained == [0.0, 0.0, 0.0]
    report = json.loads((outcome.folder / "report.json").read_text("utf-8"))
    assert sum(record.seconds for record in outcome.records) < outcome.seconds == report["seconds"]


def test_a_smaller_network_input_and_fewer_images_can_be_asked_for(make_job: Any, listener: Any) -> None:
    outcome = train(make_job("nin", size=(70, 70), images=40, changes={"epochs": 1, "batch": 20}), listener)
    passport = outcome.checkpoint.passport
    assert passport.input.shape == (None, 1, 70, 70)
    assert passport.training_images == 30  # one in ten, and at least one, of each class is held out


@pytest.mark.parametrize(("images", "said"), [(99_999_999, True), (2000, False), (None, False)])
def test_more_images_than_there_are_is_said(make_job: Any, images: int | None, said: bool) -> None:
    prepared = prepare(make_job(images=images))
    assert len(prepared.dataset.train) == 2000
    words = "note: --images 99999999 asks for more than the 2,000 training images of fashion-mnist-sample"
    assert (words in describe(prepared)) is said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"shift_pixels": 28},
            "^--shift-pixels 28 would move a picture out of sight: .* 28×28 pixels, so 27",
        ),
        ({"shift_pixels": 14, "crop_padding": 14}, "^--shift-pixels 14 and --crop-padding 14 would"),
        ({"cutout_pixels": 29}, "--cutout-pixels 29 is more than a picture"),
    ],
)
def test_augmentation_that_leaves_nothing_of_a_picture_is_refused(
    make_job: Any, listener: Any, changes: dict[str, int], words: str
) -> None:
    with pytest.raises(CnnkitError, match=words):
        train(make_job(changes=changes), listener)


def test_augmentation_up_to_a_whole_picture_runs(make_job: Any, listener: Any) -> None:
    most = {"epochs": 1, "shift_pixels": 27, "cutout_pixels": 28}
    assert train(make_job(images=40, changes=most), listener).test_accuracy > 0


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("tpu", "no device 'tpu'; known: cpu, cuda"),
        ("cuda:x", "no device"),
        ("cuda:", "no device"),
        ("mps", "needs a Mac's GPU"),
    ],
)
def test_a_device_that_is_not_here_is_refused_in_words(
    make_job: Any, listener: Any, device: str, words: str
) -> None:
    with pytest.raises(UnavailableError, match=words):
        train(make_job(device=device), listener)


@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_a_missing_gpu_says_what_runs_instead(make_job: Any, listener: Any) -> None:
    with pytest.raises(UnavailableError, match="--device cpu"):
        train(make_job(device="cuda"), listener)
    with pytest.raises(UnavailableError, match="fp16 training does not run on cpu; it has fp32, bf16"):
        train(make_job(arithmetic="fp16"), listener)


def test_pictures_of_one_class_are_refused(make_job: Any, listener: Any, tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = tmp_path / "pictures" / part / "only"
        folder.mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.full((28, 28), index, np.uint8)).save(folder / f"{index}.png")
    with pytest.raises(CnnkitError):
        train(make_job(dataset=f"folder:{tmp_path / 'pictures'}"), listener)


class Dies(torch.nn.Module):
    """A network whose forward pass fails as asked."""

    def __init__(self, failure: str) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)
        self.failure = failure

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.failure == "memory":
            return torch.empty(1 << 46)
        if self.training:
            raise RuntimeError(self.failure)
        return torch.zeros(len(x), 10)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("memory", "ran out of memory; try --batch 32 (now 64)"),
        ("CUDA out of memory. Tried to allocate 2 GiB", "ran out of memory; try --batch 32"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "ran out of memory; try"),
        ("CUDA error: no kernel image is available\nCompile with", "is available; `cnnkit doctor` says what"),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "--workers 1, a smaller --batch"),
    ],
)
def test_failures_of_the_machine_are_told_with_the_setting_to_change(
    make_job: Any, listener: Any, failure: str, words: str
) -> None:
    spec = ModelSpec(
        name="dies", family="x", input_shape=(1, 28, 28), build=lambda channels, classes: Dies(failure)
    )
    job = dataclasses.replace(make_job(workers=2, loader="torch"), model=spec)
    with pytest.raises(CnnkitError) as caught:
        train(job, listener)
    assert words in str(caught.value)


@pytest.mark.parametrize("rate", [100.0, 1e20])
def test_a_run_whose_weights_are_no_numbers_ends_in_words_and_keeps_nothing(
    make_job: Any, listener: Any, rate: float
) -> None:
    job = make_job("alexnet28", recipe="textbook", changes={"lr": rate}, images=600)
    with pytest.raises(CnnkitError, match=r"the loss became (nan|inf) by epoch 1, step .* --guard"):
        train(job, listener)
    assert not list(job.root.rglob("alexnet28.safetensors"))
    assert not list(job.root.rglob("run.json"))


def test_an_infinite_loss_of_sound_weights_is_unknown_in_the_report(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(loop: Loop, settled: Any = Loop.settle) -> None:
        settled(loop)
        loop.progress.loss_sum = math.inf

    monkeypatch.setattr(Loop, "settle", settle)
    outcome = train(make_job(changes={"epochs": 1}), listener)
    written = json.loads((outcome.folder / "report.json").read_text())
    assert written["history"][0]["train_loss"] is None
    assert written["history"][0]["train_accuracy"] > 0


@pytest.mark.parametrize("side", [5, 20, 36])
def test_pictures_that_do_not_fit_the_network_are_refused_in_words(
    make_job: Any, listener: Any, side: int
) -> None:
    job = make_job("lenet", size=(side, side))
    with pytest.raises(CnnkitError, match=rf"lenet cannot take .* 1×{side}×{side} .* own size is 28×28"):
        train(job, listener)
    assert not job.root.exists() or not list(job.root.iterdir())  # a failed start leaves nothing


@pytest.mark.parametrize(
    ("said", "why"), [("height 64 is not 28", "height 64 is not 28"), ("", "AssertionError")]
)
def test_pictures_that_a_network_asserts_against_are_refused_in_words(
    make_job: Any, said: str, why: str
) -> None:
    class Gridded(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            if x.shape[2] != 28:
                raise AssertionError(said)
            return super().forward(x.flatten(1))

    job = make_job("lenet", size=(64, 64))
    model = dataclasses.replace(job.model, build=lambda channels, classes: Gridded(784, classes))
    with pytest.raises(CnnkitError, match=rf"lenet cannot take .* 1×64×64 \({why}\); its own size is 28×28"):
        train(dataclasses.replace(job, model=model))


def test_a_network_with_too_few_answers_is_refused_in_words(make_job: Any, listener: Any) -> None:
    spec = ModelSpec(
        name="short",
        family="x",
        input_shape=(1, 28, 28),
        build=lambda channels, classes: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 7)),
    )
    with pytest.raises(CnnkitError, match=r"shape \(2, 7\), and 10 classes need \(2, 10\)"):
        train(dataclasses.replace(make_job(), model=spec), listener)


def test_a_batch_of_one_picture_is_refused_in_words_where_batch_norm_cannot_take_it(make_job: Any) -> None:
    with pytest.raises(CnnkitError, match=r"a step has one picture, .* batch norm .*: --batch 2 or more"):
        train(make_job("cifarnet-bn", images=20, changes={"batch": 1}))
    with pytest.raises(CnnkitError, match=r"batch norm .*: train on two pictures or more"):
        train(make_job("cifarnet-bn", images=1, changes={"validation_fraction": 0, "select": "last"}))


def test_a_bug_keeps_its_traceback(make_job: Any) -> None:
    with pytest.raises(RuntimeError, match="a bug"), explained(make_job(), begun=True):
        raise RuntimeError("a bug")


def test_a_worker_that_dies_is_told_in_one_line(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from toolkit.training.data import workers

    monkeypatch.setattr(workers.Told, "__getitem__", lambda self, place: os._exit(9))
    with pytest.raises(CnnkitError, match=r"a loader worker died .* --workers 1"):
        train(make_job(loader="torch", workers=2), listener)


def test_a_run_that_makes_no_step_prints_where_it_hangs(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with Watchdog(said.append, limit_s=0.2) as dog:
        dog.step()
        end = time.monotonic() + 60
        while not said and time.monotonic() < end:  # a machine that stands still is taken off
            time.sleep(0.05)
        time.sleep(0.5)  # for the same hang nothing is said twice
    assert len(said) == 1
    assert "no step for" in said[0]
    assert "test_a_run_that_makes_no_step" in capfd.readouterr().err


_PAUSED = """
import os, signal, subprocess, sys, time
from toolkit.training.process.watchdog import Watchdog

said = []
with Watchdog(said.append, limit_s=1.0, give_up_s={give_up_s}) as dog:
    time.sleep(0.3)  # while the alarm is set
    dog.step()
    # another process lets this one go on, as a shell's `fg` would
    subprocess.Popen(["sh", "-c", f"sleep 2.5; kill -CONT {{os.getpid()}}"])
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)
print(said)
"""


# of the second's 2.5 s pause more than five limits are over, after which an alarm tells the stack
@pytest.mark.parametrize(("give_up_s", "told"), [(None, ""), (0.4, "Timeout (0:00:02)!")])
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_a_run_that_was_paused_from_outside_does_not_count_as_hanging(
    give_up_s: float | None, told: str
) -> None:
    code = _PAUSED.format(give_up_s=give_up_s)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    # whether the alarm, or the thread that sets it anew, wakes first is the system's choice
    assert not done.stderr or (told and done.stderr.startswith(told))


_LOCKED = """
import ctypes, time
from toolkit.training.process.watchdog import Watchdog

with Watchdog(print, give_up_s=0.4) as dog:
    time.sleep(0.2)
    dog.step()
    ctypes.PyDLL(None).sleep(60)  # which keeps the interpreter
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_a_run_that_hangs_with_the_interpreter_locked_is_ended_with_its_stack_and_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", _LOCKED], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    stack, error = done.stderr.split("error: ")
    assert 'File "<string>", line 8' in stack
    assert error == "no step for 2 s, and Python itself stands still; given up\n"


def test_a_run_that_moves_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    said, now_s = list[str](), [0.0]
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    with Watchdog(said.append, limit_s=0.5) as dog:
        for _ in range(10):
            now_s[0] += 0.1
            time.sleep(0.1)  # in which the dog looks
            dog.step()
    assert said == []


@pytest.mark.slow
def test_lenet5_reads_digits_after_three_epochs(make_job: Any, listener: Any, mnist_dir: Path) -> None:
    job = make_job("lenet5", changes={"epochs": 3}, dataset="mnist", data_dir=mnist_dir)
    assert train(job, listener).test_accuracy >= 0.98


@pytest.mark.slow
def test_the_textbook_lenet_ends_where_the_write_up_did(
    make_job: Any, listener: Any, fashion_mnist_dir: Path
) -> None:
    job = make_job("lenet", "textbook", {"epochs": 5}, dataset="fashion-mnist", data_dir=fashion_mnist_dir)
    outcome = train(job, listener)
    assert 0.75 <= outcome.test_accuracy <= 0.87
    assert outcome.selected_epoch == 5


@pytest.mark.gpu
def test_training_on_a_gpu_learns_and_repeats(make_job: Any, listener: Any) -> None:
    jobs = [make_job(device="cuda", name=name, changes={"epochs": 3}) for name in ("a", "b")]
    first, second = (train(job, listener) for job in jobs)
    assert first.test_accuracy > 0.5
    assert first.device_peak_memory_bytes
    assert first.checkpoint.passport.sha256 == second.checkpoint.passport.sha256


@pytest.mark.gpu
@pytest.mark.parametrize("arithmetic", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_each_format_and_layout_repeats_on_a_gpu(
    make_job: Any, listener: Any, arithmetic: str, layout: str
) -> None:
    more = {"device": "cuda", "arithmetic": arithmetic, "layout": layout, "changes": {"epochs": 1}}
    outcomes = [train(make_job("lenet-maxpool", name=name, **more), listener) for name in "ab"]
    assert outcomes[0].arithmetic == arithmetic
    assert len({outcome.checkpoint.passport.sha256 for outcome in outcomes}) == 1


@pytest.mark.gpu
def test_dropout_on_a_gpu_draws_the_same_numbers_from_one_seed() -> None:
    drawn = []
    for seed in (1, 2, 1):
        seeding.reseed("cuda:0", seed, seeding.DROPOUT, 0, 3)
        drawn.append(torch.rand(8, device="cuda:0").tolist())
    assert drawn[0] == drawn[2] != drawn[1]
