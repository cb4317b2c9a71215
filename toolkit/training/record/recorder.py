"""What a run keeps: its best and last checkpoints, the promoted one, its report and pictures."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from toolkit.artifacts import Artifact, artifact_path, open_artifact, sidecar, writing
from toolkit.checkpoints import new_passport, save_checkpoint
from toolkit.listings.records import SUFFIX
from toolkit.passports import ComputeRecord, DatasetRef, Metrics, TrainingOptions
from toolkit.training import EpochRecord, Job, Outcome
from toolkit.training.compute.format import Compute
from toolkit.training.compute.seats import Seat
from toolkit.training.data.prepare import PreparedData
from toolkit.training.process import usage as gauges
from toolkit.training.progress import Progress
from toolkit.training.record.charts import draw_confusion, draw_curves
from toolkit.training.record.facts import ComputeOptions
from toolkit.training.record.folder import FIRST_ATTEMPT, RunFolder
from toolkit.training.record.logs import write_csv, write_tensorboard
from toolkit.training.scoring import Score
from toolkit.transfer import pretrained_hash

_BEST, _LAST = "best.safetensors", "last.safetensors"
_HELD = "good.safetensors"  # the best checkpoint as it was when good.state was saved


class RunRecorder:
    """Writes one run's results."""

    def __init__(
        self, job: Job, prepared: PreparedData, folder: RunFolder, compute: Compute, seat: Seat
    ) -> None:
        self._job = job
        self._prepared = prepared
        self._folder = folder
        self._compute = compute
        # once, not with every epoch's checkpoint
        self._listed = prepared.record.sha256 if prepared.record else None
        # of the files as they were read, which may be edited while the run goes on
        facts, source = folder.facts(), job.pretrained
        self._code, self._teacher_compute = facts.model_file_sha256, facts.teacher_compute
        self._options = dataclasses.replace(
            _options(job, seat.count, facts.options or _as_options(compute)),
            pretrained_sha256=pretrained_hash(job.model.name, source) if source else None,
            teacher_sha256=facts.teacher_sha256,
            loss_weights=facts.loss_weights,
        )

    def epoch(self, records: list[EpochRecord], weights: dict[str, Tensor], *, best: bool) -> None:
        """Keep the last epoch's weights, as the best, too, when they are; write the logs."""
        last = self._folder.path / _LAST
        self._save(last, weights, Metrics(val_accuracy=records[-1].val_accuracy))
        if best:
            _give_name(last, self._folder.path / _BEST)
        write_csv(self._folder.path, records)
        write_tensorboard(self._folder.path, records)

    def keep_first_attempt(self, records: list[EpochRecord]) -> None:
        """Keep the epochs of a run's first attempt, some of which are undone: a search judges by them."""
        write_csv(self._folder.path, records, FIRST_ATTEMPT)

    def hold_best(self) -> None:
        """Remember the best checkpoint of now: later epochs may be undone, however well they scored."""
        _give_name(self._folder.path / _BEST, self._folder.path / _HELD)

    def return_to_held_best(self) -> None:
        """Let the best checkpoint be the remembered one again."""
        _give_name(self._folder.path / _HELD, self._folder.path / _BEST)

    def chosen(self) -> Artifact:
        """Return the checkpoint of the epoch whose weights the recipe selects."""
        return open_artifact(self._folder.path / (_BEST if self._job.recipe.select == "best" else _LAST))

    def finish(
        self,
        progress: Progress,
        record: EpochRecord,
        weights: dict[str, Tensor],
        test: Callable[[bool], Score],
    ) -> Outcome:
        """Read the test set once and promote the weights of the chosen epoch."""
        tested = test(False)
        metrics = Metrics(
            test_accuracy=tested.accuracy,
            test_images=tested.images,
            test_accuracy_ci95=tested.interval,
            val_accuracy=record.val_accuracy,
        )
        path = artifact_path(self._job.root, self._job.artifact_name)
        if self._prepared.record:
            self._prepared.record.write(path.with_name(f"{self._job.artifact_name}{SUFFIX}"))
        promoted = self._save(path, weights, metrics)
        flipped = test(True).accuracy if self._job.flip_test else None
        outcome = self._outcome(progress, record, tested, promoted, flipped)
        self._draw(outcome)
        for held in _files(self._folder.path / _HELD):
            held.unlink(missing_ok=True)
        return outcome

    def _outcome(
        self,
        progress: Progress,
        record: EpochRecord,
        tested: Score,
        promoted: Artifact,
        flipped: float | None,
    ) -> Outcome:
        compute = self._compute
        return Outcome(
            job=self._job,
            checkpoint=promoted,
            folder=self._folder.path,
            records=tuple(progress.records),
            selected_epoch=record.epoch,
            test_accuracy=tested.accuracy,
            test_accuracy_ci95=tested.interval,
            test_images=tested.images,
            val_accuracy=record.val_accuracy,
            class_accuracy=tested.class_accuracy,
            confusion=tuple(tuple(int(n) for n in row) for row in tested.confusion),
            flip_test_accuracy=flipped,
            seconds=progress.seconds,
            images_per_second=progress.trained_images / progress.trained_seconds,
            arithmetic=compute.arithmetic,
            layout=compute.layout,
            threads=compute.threads,
            peak_memory_bytes=gauges.peak_memory_bytes(),
            device_peak_memory_bytes=gauges.device_peak_memory_bytes(compute.device),
            device_utilisation=gauges.device_utilisation(
                compute.device,
                busy_s=progress.busy_seconds,
                wall_s=progress.trained_seconds,
                threads=compute.threads,
            ),
            events=tuple(progress.events),
            balanced_accuracy=tested.balanced_accuracy,
            class_precision=tested.class_precision,
            class_f1=tested.class_f1,
            macro_f1=tested.macro_f1,
        )

    def _draw(self, outcome: Outcome) -> None:
        """Draw curves and confusion matrix, once the checkpoint is safe."""
        folder, job = self._folder.path, self._job
        title = f"{job.model.name} on {self._prepared.dataset.name}, recipe {job.recipe.name}"
        draw_curves(folder / "curves.png", outcome.records, title, outcome.test_accuracy)
        draw_confusion(
            folder / "confusion.png",
            outcome.confusion,
            self._prepared.dataset.classes,
            f"{title}: {outcome.test_accuracy:.4f} of {outcome.test_images:,}",
        )

    def _save(self, path: Path, weights: dict[str, Tensor], metrics: Metrics) -> Artifact:
        passport = new_passport(
            self._job.model,
            preprocessing=self._prepared.preprocessing,
            classes=self._prepared.dataset.classes,
            trained=True,
        )
        passport = dataclasses.replace(
            passport,
            dataset=self._data(),
            recipe=self._job.recipe,
            metrics=metrics,
            seed=self._job.seed,
            training_images=len(self._prepared.learned),
            compute=_record_of(self._compute),
            teacher_compute=_record_of(self._teacher_compute),
            pretrained=self._job.pretrained,
            options=self._options,
            model_file_sha256=self._code,
        )
        return save_checkpoint(path, weights, passport)

    def _data(self) -> DatasetRef:
        """Return which pictures were trained on, and how those of one's own were read."""
        data, record, job = self._prepared.dataset, self._prepared.record, self._job
        exclude = str(job.exclude.absolute()) if job.exclude else None
        known = DatasetRef(name=data.name, fingerprint=data.fingerprint, exclude=exclude)
        if record is None:
            return known
        reading = job.reading
        return dataclasses.replace(
            known,
            trained_on=self._listed,
            group=reading.group,
            columns=reading.columns,
            skip_damaged=reading.skip_damaged,
            max_pixels=reading.max_pixels,
        )


def _record_of(compute: Compute | None) -> ComputeRecord | None:
    return None if compute is None else ComputeRecord(**dataclasses.asdict(compute))


def _as_options(compute: Compute) -> ComputeOptions:
    """Return the options that name what a run computes in, for one whose own were not noted."""
    return ComputeOptions(precision=compute.arithmetic, layout=compute.layout, threads=compute.threads)


def _options(job: Job, ranks: int, begun: ComputeOptions) -> TrainingOptions:
    """Return the options that make a checkpoint: those of a run's first command, which it goes on by."""
    return TrainingOptions(
        dataset=job.dataset_name,
        images=job.images,
        size=job.size,
        device=job.device,
        threads=begun.threads,
        precision=begun.precision,
        layout=begun.layout,
        loader=job.loader,
        workers=job.workers or 0,
        pretrained=job.pretrained,
        freeze=job.freeze,
        fold=job.fold,
        teacher=job.teacher,
        levels=job.levels,
        grey=job.grey,
        flip_test=job.flip_test,
        ranks=ranks,
        sync_batch_norm=job.sync_batch_norm,
        folds_carry=job.fold is not None,
    )


def _files(checkpoint: Path) -> tuple[Path, Path]:
    return checkpoint, sidecar(checkpoint)


def _give_name(source: Path, target: Path) -> None:
    """Let checkpoint `target` be `source`'s present content, by hard links where the file system has them.

    Both are only ever replaced, never written into, so they part when the next epoch comes.
    """
    for existing, name in zip(_files(source), _files(target), strict=True):
        with writing(name) as part:
            part.unlink()
            try:
                os.link(existing, part)
            except OSError:
                shutil.copyfile(existing, part)
