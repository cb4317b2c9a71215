"""Train a job from start to finish: data, network, epochs, one look at the test set, checkpoint."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import catalog
from toolkit.artifacts import Artifact, DatasetRef, Metrics, artifact_path
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.datasets import Dataset, Split
from toolkit.opening import require_torch
from toolkit.training import Job, Outcome, Watcher, seeding
from toolkit.training.batches import Finish, MemoryBatches, evenly, preprocessing_for, split_off, tensors
from toolkit.training.compute import Compute, find_device
from toolkit.training.loop import Loop
from toolkit.training.optimisation import initialise
from toolkit.training.scoring import Score, score

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toolkit.images import Preprocessing

_SCORING_BATCH = 500


def train(job: Job, watcher: Watcher) -> Outcome:
    """Train, choose the epoch, read the test set once, and promote the checkpoint."""
    start = time.perf_counter()
    require_torch()
    import torch

    find_device(job.device)
    if job.threads:
        torch.set_num_threads(job.threads)
    spec = job.model
    size = job.size or (spec.input_shape[1], spec.input_shape[2])
    data = catalog.dataset(job.dataset_name).load(
        job.dataset_name, job.data_dir, True, (spec.input_shape[0], *size)
    )
    watcher.say(
        f"data: {data.name}, {len(data.train):,} training and {len(data.test):,} test images "
        f"from {data.source}"
    )
    learned, held = split_off(
        evenly(data.train, job.images) if job.images else data.train, job.recipe.validation_fraction
    )
    preprocessing = preprocessing_for(job.recipe, learned, size)
    compute = Compute(
        device=job.device, threads=torch.get_num_threads(), arithmetic="fp32", channels_last=True
    )
    run = _Run(
        job=job,
        data=data,
        learned=learned,
        held=held,
        preprocessing=preprocessing,
        compute=compute,
        watcher=watcher,
    )
    return run.train(start)


class _Run:
    """One training with what it needs at hand."""

    def __init__(
        self,
        *,
        job: Job,
        data: Dataset,
        learned: Split,
        held: Split | None,
        preprocessing: Preprocessing,
        compute: Compute,
        watcher: Watcher,
    ) -> None:
        import torch

        self.job, self.data, self.compute, self.watcher = job, data, compute, watcher
        self.preprocessing = preprocessing
        device = torch.device(compute.device)
        finish = Finish(preprocessing=preprocessing, device=device, channels_last=compute.channels_last)
        self.scoring = dataclasses.replace(finish, channels_last=False)
        self.held = tensors(held) if held else None
        seeding.reseed(compute.device, job.seed, seeding.WEIGHTS)
        module = job.model.build(preprocessing.channels, len(data.classes))
        initialise(module, job.recipe)
        self.loop = Loop(
            compute.place(module),
            MemoryBatches(learned, job.recipe, job.seed, finish),
            recipe=job.recipe,
            compute=compute,
            seed=job.seed,
            watcher=watcher,
            validate=self.validate,
        )
        self.best: dict[str, Tensor] | None = None

    def validate(self, module: nn.Module) -> Score | None:
        """Score weights on the held-out images."""
        if self.held is None:
            return None
        return self.score(module, *self.held)

    def score(self, module: nn.Module, images: Tensor, labels: Tensor, flip: bool = False) -> Score:
        """Score weights on any images, in fp32."""
        return score(
            module,
            images,
            labels,
            classes=len(self.data.classes),
            finish=self.scoring,
            batch=_SCORING_BATCH,
            flip=flip,
        )

    def train(self, start: float) -> Outcome:
        """Go through the epochs, then finish."""
        loop, recipe = self.loop, self.job.recipe
        self.watcher.start(epochs=recipe.epochs, images=len(loop.batches.labels), done=0)
        for _ in range(recipe.epochs):
            record = loop.epoch()
            done = loop.progress
            better = (
                recipe.select == "last"
                or record.val_accuracy is None
                or done.best_accuracy is None
                or record.val_accuracy > done.best_accuracy
            )
            if better:
                done.best_epoch, done.best_accuracy = record.epoch, record.val_accuracy
                self.best = {k: v.detach().clone() for k, v in loop.module.state_dict().items()}
        assert self.best is not None
        loop.module.load_state_dict(self.best)
        return self.finish(start)

    def finish(self, start: float) -> Outcome:
        """Read the test set once and write the checkpoint."""
        loop, job = self.loop, self.job
        tested = self.score(loop.module, *tensors(self.data.test))
        done = loop.progress
        artifact = self.save(artifact_path(job.root, job.artifact_name, "safetensors"), tested)
        return Outcome(
            checkpoint=artifact,
            folder=artifact.path.parent,
            records=tuple(done.records),
            selected_epoch=done.best_epoch or 0,
            test_accuracy=tested.accuracy,
            test_accuracy_ci95=tested.interval,
            test_images=tested.images,
            val_accuracy=done.best_accuracy,
            class_accuracy=tested.class_accuracy,
            confusion=tuple(tuple(int(n) for n in row) for row in tested.confusion),
            flip_test_accuracy=None,
            seconds=time.perf_counter() - start,
            images_per_second=done.trained_images / done.trained_seconds,
            arithmetic=self.compute.arithmetic,
            layout=self.compute.layout,
            threads=self.compute.threads,
            peak_memory_bytes=None,
            device_peak_memory_bytes=None,
            device_utilisation=None,
        )

    def save(self, path: Path, tested: Score) -> Artifact:
        """Write the weights with a full passport."""
        passport = new_passport(
            self.job.model,
            preprocessing=self.preprocessing,
            classes=self.data.classes,
            trained=True,
        )
        passport = dataclasses.replace(
            passport,
            dataset=DatasetRef(name=self.data.name, fingerprint=self.data.fingerprint),
            recipe=dataclasses.asdict(self.job.recipe),
            metrics=Metrics(
                test_accuracy=tested.accuracy,
                test_images=tested.images,
                test_accuracy_ci95=tested.interval,
                val_accuracy=self.loop.progress.best_accuracy,
            ),
            extra={"seed": self.job.seed},
        )
        return save_checkpoint(path, self.loop.module.state_dict(), passport)
