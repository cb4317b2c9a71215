"""A network that is open: `load` finds and opens it, and a Network predicts, evaluates and runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.answering import Invert, check_classes, data_word
from toolkit.artifacts import Artifact, artifacts_root, path_of
from toolkit.backends import Engine, EngineOptions
from toolkit.choices import ChoiceFile
from toolkit.closing import Closable
from toolkit.errors import CnnkitError
from toolkit.exporting.advising import advising
from toolkit.figures import shape_text, when_text
from toolkit.images import PictureSource
from toolkit.inspection.evaluation import Evaluation, evaluate
from toolkit.inspection.prediction import (
    Predictions,
    Refusal,
    picture_name,
    predict_dataset,
    predict_pictures,
)
from toolkit.markup import html_table
from toolkit.opening import Selection, describe, quality_of, take_weights
from toolkit.passports import Passport, Precision
from toolkit.resolving import resolve, resolve_choice
from toolkit.seeding import refuse_seeding
from toolkit.telling import Step, Tell, silent, unwatched
from toolkit.unseen import UnseenPictures, unseen_pictures

Picture = PictureSource | str


def load(
    model: str | Path | None = None,
    *,
    backend: str | None = None,
    precision: Precision | None = None,
    device: str | None = None,
    threads: int | None = None,
    root: Path | str | None = None,
    untrained: bool = False,
    pretrained: Path | str | None = None,
    seed: int = 0,
    model_file: Path | str | None = None,
    choice: bool = False,
    tell: Tell = silent,
) -> Network:
    """Open a network: a name's newest file that the backend opens, or the very file that a path names.

    With `choice` a name opens what `cnnkit choose` chose for it, where that holds for this machine and the
    newest weights, and `backend` and `precision` are for where it does not.

    `model` None is the network that was trained or exported last. `backend` None is the default one where
    it has a file of the newest weights, else the one that runs the checkpoint; `Network.why` says which
    and why. `pretrained` is a file of published weights of the package's network that `model` names, which
    become its checkpoint. `precision` None is fp32 of a name, and what a file has. `device` None is the
    backend's own, `threads` None the runtime's default.

    Raises NotFoundError with what to type next, CorruptError for a file that was altered, UnavailableError
    where the backend or the device is not here.
    """
    model = take_weights(model, pretrained, artifacts_root(root))
    selection = Selection(
        root=artifacts_root(root),
        precision=precision or "fp32",
        insists=precision is not None,
        untrained=untrained,
        seed=seed,
        model_file=path_of(model_file),
    )
    text = None if model is None else str(model)
    if untrained and text is not None:
        refuse_seeding([text], seed)
    found = resolve_choice(text, selection, tell) if choice else None
    if found is not None:
        tell(f"opened {describe(found.artifact)}, {found.why}")
    else:
        with advising(text, selection):
            found = resolve(text, backend=backend, selection=selection)
        tell(f"opened {describe(found.artifact)}")
        if found.why:
            tell(found.why)
    engine = found.open(EngineOptions(device=device, threads=threads, model_file=selection.model_file))
    return Network(engine, why=found.why, choice=found.choice)


class Network(Closable):
    """An artifact opened by a backend. Use as a context manager, or `close` it; threads must take turns."""

    def __init__(self, engine: Engine, *, why: str | None = None, choice: ChoiceFile | None = None) -> None:
        self.engine = engine
        self.why = why
        self.choice = choice

    @property
    def artifact(self) -> Artifact:
        """The file that was opened, and its passport."""
        return self.engine.artifact

    @property
    def passport(self) -> Passport:
        """What is known of the file: input, classes, preprocessing, accuracy, how it was made."""
        return self.engine.artifact.passport

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.engine.backend

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run (N, C, H, W) input of the passport's dtype; return every output, (N, K) logits first.

        Raises ShapeError when C, H or W differ, or where the file takes another N.
        """
        return self.engine.run(batch)

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        top: int = 3,
        *,
        invert: Invert = "auto",
        on_refusal: Callable[[Refusal], None] | None = None,
    ) -> Predictions:
        """Classify one picture or several; return the `top` likeliest classes of each, in their order.

        A picture is a path, the bytes of a file, Pillow's image or a uint8 array, (H, W), (H, W, C) or
        (C, H, W); an array (N, …) is N of them. They may be of any size. `invert` "auto" swaps dark and
        light where a picture's border is unlike those that a grey network learned.

        Raises ImageError for the first that cannot be read; with `on_refusal`, which is told of those, they
        are left out. Raises CnnkitError for a file that does not say how pictures become its input.
        """
        one = isinstance(pictures, (str, os.PathLike, bytes, Image.Image)) or (
            isinstance(pictures, np.ndarray) and pictures.ndim < 4
        )
        sources: Sequence[Any] = [pictures] if one else pictures  # type: ignore[assignment]
        read = [Path(each) if isinstance(each, (str, os.PathLike)) else each for each in sources]
        return predict_pictures(self.engine, read, top=top, invert=invert, on_refusal=on_refusal)

    def predict_dataset(
        self,
        dataset: str | None = None,
        *,
        first: int = 10,
        top: int = 3,
        data_dir: Path | str | None = None,
        on_step: Step = unwatched,
    ) -> Predictions:
        """Classify the first test pictures of a data set, the network's own for None; their truth is told.

        Raises NotFoundError where the data is not to be had, ShapeError where its classes are others.
        """
        found = self._unseen(dataset, data_dir, images=first, on_step=on_step)
        if self.passport.trained is not False:
            check_classes(self.passport, found.dataset.name, found.dataset.classes)
        return predict_dataset(self.engine, found.dataset, count=first, top=top)

    def evaluate(
        self,
        dataset: str | None = None,
        *,
        data_dir: Path | str | None = None,
        first: int | None = None,
        batch: int = 64,
        include_trained: bool = False,
        columns: str | None = None,
        tell: Tell = silent,
        on_batch: Callable[[int, int], None] = lambda done, of: None,
        on_step: Step = unwatched,
    ) -> Evaluation:
        """Ask about the test pictures of a data set, the network's own for None; `first` are fewer of them.

        Of people's own pictures that name no parts and were not trained on, all are asked about. One that
        was trained on is never asked about, unless with `include_trained`, which asks about all there are.
        `columns` names those of a table. `on_batch` is told after each batch how many of how many pictures
        are done, `on_step` how far reading them has come. Raises CnnkitError for an untrained network,
        NotFoundError where the data is not to be had, ShapeError where its classes are others, CorruptError
        for answers that are no numbers.
        """
        passport = self.passport
        if passport.trained is False:
            raise CnnkitError(
                f"{self.artifact.path} is untrained, so it has no accuracy: `cnnkit train {passport.model}`"
            )
        found = self._unseen(
            dataset,
            data_dir,
            images=first,
            include_trained=include_trained,
            columns=columns,
            on_step=on_step,
        )
        data, split = found.dataset, found.dataset.test
        check_classes(passport, data.name, data.classes)
        tell(f"{len(split):,} {found.what} of {data.name} from {data.source}")
        for note in found.notes:
            tell(note)
        held = len(set(split.labels.tolist()))
        if held < len(data.classes):
            tell(f"note: they are of {held} of the {len(data.classes)} classes only")
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            on_batch(done, len(split))

        start = time.perf_counter()
        answered = evaluate(
            self.engine, split, batch=batch, name=partial(picture_name, data), on_batch=advance
        )
        score = answered.score
        return Evaluation(
            images=score.images,
            loss=score.loss,
            confusion=score.confusion,
            dataset=data.name,
            classes=data.classes,
            seconds=time.perf_counter() - start,
            mistakes=answered.mistakes,
        )

    def _unseen(self, dataset: str | None, data_dir: Path | str | None, **more: Any) -> UnseenPictures:
        word = data_word(self.passport, dataset)
        return unseen_pictures(
            self.passport, word, beside=self.artifact.path, data_dir=path_of(data_dir), **more
        )

    def close(self) -> None:
        """Free what the engine holds; asking it afterwards is an error."""
        self.engine.close()

    def __repr__(self) -> str:
        return f"<Network {describe(self.artifact)} by {self.backend}>"

    def _repr_html_(self) -> str:
        known = self.passport
        rows = {
            "file": self.artifact.path,
            "model": f"{known.model}, {known.precision}, {quality_of(known)}",
            "backend": f"{self.backend} on {self.engine.device_name}",
            "input": f"{shape_text(known.input.shape)} {known.input.dtype}",
            "classes": ", ".join(known.classes),
            "data set": known.dataset.name if known.dataset else "not known",
            "made": when_text(known.created),
        }
        return html_table((), rows.items(), self.artifact.name)
