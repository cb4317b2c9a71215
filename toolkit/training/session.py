"""One training, led from its first epoch to the promoted checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

from toolkit.checkpoints import load_state
from toolkit.datasets import Split
from toolkit.errors import DivergedError
from toolkit.training import EpochRecord, Job, Outcome, Watcher
from toolkit.training.compute.format import Compute
from toolkit.training.compute.norms import renew_running_figures
from toolkit.training.compute.ranks import Ranks
from toolkit.training.data.prepare import PreparedData
from toolkit.training.guard import RETRIES, Divergence
from toolkit.training.optimisation import averaged_epochs, judged_anew
from toolkit.training.process.interrupts import Interrupts
from toolkit.training.readiness import input_transform, make_ready
from toolkit.training.record.folder import RunFolder
from toolkit.training.record.recorder import RunRecorder
from toolkit.training.record.snapshots import Snapshots, restore
from toolkit.training.scoring import Score, score
from toolkit.training.starting import fresh_network, narrow_layers
from toolkit.weights import give

_MODERATE_RATE = 0.1  # a rate that is worth a trial, where one was asked for that is beyond all sense
_SCORING_BATCH = 500
_SCORING_PIXELS = 4_000_000  # of a batch when scoring; larger pictures are scored in smaller batches


class Session:
    """One training with what it needs at hand."""

    def __init__(
        self,
        job: Job,
        prepared: PreparedData,
        folder: RunFolder | None,
        watcher: Watcher,
        ranks: Ranks | None = None,
    ) -> None:
        """Make everything ready; of several ranks the first one alone has a folder."""
        self._job, self._prepared, self._folder, self._watcher = job, prepared, folder, watcher
        self._ranks = ranks = ranks or Ranks()
        self._transform = input_transform(job, prepared)

        def keep(compute: Compute) -> None:
            if folder:
                folder.begin(dataclasses.replace(folder.facts(), compute=compute))

        begun, taught = ranks.lead(lambda: _computes(folder))
        ready = make_ready(
            job, prepared, watcher, begun=begun, teacher_begun=taught, chosen=keep, ranks=ranks
        )
        self._loop, self._guard, self._judge = ready.loop, ready.guard, ready.judge
        teacher = self._loop.setup.teacher
        if folder and teacher and taught is None:
            folder.begin(dataclasses.replace(folder.facts(), teacher_compute=teacher.compute))
        self._snapshots = Snapshots(folder.path if folder else None, job.save_every_s, ranks)
        compute = self._loop.setup.compute
        self._recorder = RunRecorder(job, prepared, folder, compute, ranks.seat) if folder else None

    def train(self, started: float, moved: Callable[[], None], interrupts: Interrupts) -> Outcome:
        """Go through the epochs, then finish; `moved` is called whenever something was done."""
        loop, recipe = self._loop, self._job.recipe
        state = self._snapshots.newest()
        if state:
            restore(loop, state)
        before = loop.progress.seconds

        def seconds() -> float:
            return before + time.perf_counter() - started

        def alive(stops: Callable[[], bool] = lambda: interrupts.asked) -> None:
            moved()
            loop.progress.seconds = seconds()
            if stops():
                self._snapshots.save(loop, self._snapshots.latest)
                raise KeyboardInterrupt

        def after_step() -> None:
            alive(lambda: loop.accord.stop)
            self._snapshots.tick(loop)

        loop.accord.wants_stop = lambda: interrupts.asked
        loop.accord.wants_save = self._snapshots.due

        self._ranks.begin(steps=True)
        batches = loop.setup.batches
        done = loop.progress.epoch * batches.images + loop.progress.step * recipe.batch
        self._watcher.start(epochs=recipe.epochs, images=batches.images, done=done)
        while loop.progress.epoch < recipe.epochs and not loop.progress.stopped:
            divergence = loop.epoch(after_step)
            if divergence is None:
                divergence = self._end_epoch(alive)
            if divergence is not None:
                self._recover(divergence)
        self._tell_if_at_chance()
        self._ranks.begin(steps=False)  # the first one draws and writes while the others wait
        outcome = self._end(alive)
        if self._folder:
            outcome = dataclasses.replace(outcome, seconds=seconds())
            self._folder.finish(outcome.report())
        self._snapshots.clear()
        return outcome

    def _end_epoch(self, alive: Callable[[], None]) -> Divergence | None:
        """Score an epoch and keep what came of it; return what is wrong with it, or None."""
        loop, recipe = self._loop, self._job.recipe
        done = loop.progress
        give(self._judge, loop.weights())
        if averaged_epochs(recipe, done.epoch + 1) > 1 and loop.frozen is None:
            # what was averaged are figures of each one's own answers
            with contextlib.closing(loop.setup.batches.plain()) as dealt:
                renew_running_figures(self._judge, dealt, alive)
        held = self._score(self._prepared.held, alive) if self._prepared.held else None
        if held and recipe.guard and not math.isfinite(held.loss):
            return Divergence(what=f"the validation loss was {held.loss}", factor=0.1)
        record = EpochRecord(
            epoch=done.epoch + 1,
            attempt=done.attempt,
            rate=loop.rate(done.step - 1),
            train_loss=done.loss_sum / done.seen,
            train_accuracy=done.right / done.seen,
            val_loss=held.loss if held else None,
            val_accuracy=held.accuracy if held else None,
            val_balanced_accuracy=held.balanced_accuracy if held else None,
            val_macro_f1=held.macro_f1 if held else None,
            seconds=done.trained_seconds - done.epoch_began_s,
        )
        best = done.take(record, recipe.metric)
        if self._recorder:
            self._recorder.epoch(done.records, self._judge.state_dict(), best=best)
        self._watcher.epoch(record)
        loop.next_epoch()
        # a body that is still to learn, or begins to, is waited for as long as the head was
        since = max(done.best_epoch or 0, recipe.unfreeze_at or 0)
        waited = sum(judged_anew(recipe, epoch) for epoch in range(since + 1, record.epoch + 1))
        if recipe.patience_epochs is not None and waited >= recipe.patience_epochs:
            done.stopped = True
            thawed = " since all layers learn" if since != done.best_epoch else ""
            unit = "" if waited == record.epoch - since else " that changed the average"
            self._tell(
                f"stopped early: no better epoch for {waited}{unit}{thawed}, the best was {done.best_epoch}"
            )
        guard = loop.setup.guard
        sound = guard is None or guard.is_sound(done.watch)
        if loop.progress.epoch < recipe.epochs and not done.stopped:
            if sound and self._recorder:
                self._recorder.hold_best()
            self._snapshots.save(loop, self._snapshots.good if sound else self._snapshots.latest)
        else:
            self._snapshots.tick(loop)  # what is left takes seconds, unless the network is large
        return None

    def _tell(self, text: str) -> None:
        events = self._loop.progress.events
        if text not in events:  # a run that is resumed at its end comes here once more
            events.append(text)
        self._watcher.say(text)

    def _tell_if_at_chance(self) -> None:
        """Say that nothing was learned, or nothing of it kept, where that is how the run ended."""
        recipe, progress = self._job.recipe, self._loop.progress
        if not progress.records:
            return
        loss, kept = progress.records[-1].train_loss, progress.selected(recipe.select)
        if loss is not None and self._guard.sits_at_chance(loss, progress.watch):
            advice = f"try more --epochs, or another --lr (now {recipe.lr:g})"
            if not recipe.guard:
                advice += "; --guard watches for this, lowers the rate and starts again"
            self._tell(f"the loss ended at {loss:.4g}, and guessing gives {self._guard.chance:.4g}; {advice}")
            return
        held = kept.val_balanced_accuracy
        if held is None or not self._guard.guesses(held):
            return
        advice = "what was learned does not carry over: look at what is held out, and try augmentation"
        if recipe.ema_decay:
            advice = (
                f"the average may be too slow for this run: --ema-decay {recipe.ema_decay:g} lower, or none"
            )
        self._tell(
            f"the weights that were kept (epoch {kept.epoch}) answer held-out pictures about as guessing "
            f"does: balanced accuracy {held:.4f}; {advice}"
        )

    def _recover(self, divergence: Divergence) -> None:
        """Go back to the last good epoch, or start afresh when there is none, at a lower rate."""
        loop, lr = self._loop, self._job.recipe.lr
        was, watch = loop.progress, loop.progress.watch
        where = f"epoch {was.epoch + 1}, step {was.step}"
        afresh = not self._snapshots.has_good()
        scale = (
            watch.fresh_scale(was.rate_scale, divergence) if afresh else was.rate_scale * divergence.factor
        )
        if was.attempt >= RETRIES:
            advice = f"try --lr {min(lr * scale, _MODERATE_RATE):.2g}"
            if divergence.idle and watch.died_at is None:
                advice = "none of them starts in the steps of this run: try more --epochs or another --init"
            raise DivergedError(
                f"the training diverged again ({where}: {divergence.what}) after {RETRIES} lower rates; "
                f"{advice}"
            )
        if self._recorder and not was.attempt:
            self._recorder.keep_first_attempt(was.records)
        if afresh:
            narrow = narrow_layers(loop.setup.operations)
            fresh = fresh_network(
                self._job,
                self._prepared,
                attempt=was.attempt + 1,
                narrow=narrow,
                by_classes=loop.setup.by_classes,
            )
            loop.restart(fresh.state_dict())
            origin = (
                f"started afresh with Kaiming's weights and open ReLUs behind {', '.join(narrow)}"
                if narrow
                else "started afresh"
            )
        else:
            restore(loop, self._snapshots.good)
            if self._recorder:
                self._recorder.return_to_held_best()
            origin = f"back to the end of epoch {loop.progress.epoch}"
        done = loop.progress
        done.ticks, done.attempt, done.events = was.ticks, was.attempt + 1, was.events
        done.seconds = was.seconds
        done.rate_scale = scale
        done.watch.died_at, done.watch.idled_at = watch.died_at, watch.idled_at
        done.watch.restart()
        change = f"lowered to {lr * scale:.2g}"
        if watch.died_at is not None and scale > was.rate_scale:
            change = f"raised to {lr * scale:.2g}, below the {lr * watch.died_at:.2g} it died at"
        self._tell(f"diverged in {where}: {divergence.what}; {origin}, rate {change}")
        self._snapshots.save(loop, self._snapshots.latest)

    def _end(self, alive: Callable[[], None]) -> Outcome:
        """Take the chosen weights to the test set and keep them."""
        progress, recorder = self._loop.progress, self._recorder
        record = progress.selected(self._job.recipe.select)

        def test(flip: bool) -> Score:
            return self._score(self._prepared.dataset.test, alive, flip=flip)

        if recorder:
            chosen = recorder.chosen()
            self._ranks.only_lead(lambda: give(self._judge, load_state(chosen)))
        else:
            self._ranks.only_lead(lambda: None)
        self._ranks.spread(list(self._judge.state_dict().values()))
        figures: dict[str, Any] = {}
        if recorder:
            outcome = recorder.finish(progress, record, self._judge.state_dict(), test)
            # but for the job, whose network may be of a file that cannot be sent
            figures = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
            del figures["job"]
        else:
            for flip in (False, True) if self._job.flip_test else (False,):
                test(flip)
        return Outcome(job=self._job, **self._ranks.lead(lambda: figures))

    def _score(
        self,
        split: Split,
        alive: Callable[[], None],
        *,
        flip: bool = False,
    ) -> Score:
        height, width = self._prepared.preprocessing.size
        return score(
            self._judge,
            split,
            classes=len(self._prepared.dataset.classes),
            transform=self._transform,
            batch=max(1, min(_SCORING_BATCH, _SCORING_PIXELS // (height * width))),
            flip=flip,
            moved=alive,
            ranks=self._ranks,
        )


def _computes(folder: RunFolder | None) -> tuple[Compute | None, Compute | None]:
    """Return what a run was begun to compute in, and its teacher; None where that is not chosen yet."""
    facts = folder.facts() if folder else None
    return (facts.compute, facts.teacher_compute) if facts else (None, None)
