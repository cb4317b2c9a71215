"""Weights from elsewhere: a checkpoint of a network whose code is here, judged as a graph is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from toolkit import zoo
from toolkit.artifacts import Artifact, artifact_name, artifact_path, hash_file
from toolkit.backends import Engine, EngineOptions, opener
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.importing import Imported, ImportRequest
from toolkit.importing.inputs import PictureInput
from toolkit.importing.judging import Progress, judge_import
from toolkit.importing.pixels import SettledPixels
from toolkit.importing.placing import refuse_taken_checkpoint, remove_outdated
from toolkit.importing.run import imported
from toolkit.importing.weights import WeightsImport, import_weights
from toolkit.opening import require_torch
from toolkit.passports import Passport
from toolkit.presence import is_file
from toolkit.publishing import publish
from toolkit.telling import Tell


def import_checkpoint(
    request: ImportRequest,
    *,
    model: str | None,
    model_file: Path | None,
    renames: Mapping[str, str],
    key: str | None,
    tell: Tell,
    progress: Progress,
) -> Imported:
    """Make a checkpoint of weights of `model`. Raises CnnkitError in words, and leaves nothing then."""
    if model is None:
        raise NotFoundError(
            f"{request.source} holds weights: --model NAME says of which network (`cnnkit models` lists them)"
        )
    require_torch()
    spec = zoo.model(model, model_file=model_file)
    name = request.name or artifact_name(spec.name)
    path = artifact_path(request.root, name)
    if is_file(request.source) and not request.fresh:
        refuse_taken_checkpoint(request.root, name, hash_file(request.source))
    with tempfile.TemporaryDirectory(prefix="cnnkit-") as folder:
        job = WeightsImport(
            request=request,
            model=spec,
            path=artifact_path(Path(folder), name),
            renames=renames,
            key=key,
        )
        drafted, said = import_weights(job)
        for line in said:
            tell(line)
        same = path.exists() and hash_file(path) == hash_file(drafted.path)
        if path.exists() and not same and not request.fresh:  # one file holds several by --key and --rename
            raise CnnkitError(
                f"{path} holds other weights than these options take from {request.source.name}: "
                "add --name OTHER to keep both, or --replace"
            )

        def note(text: str) -> None:
            said.append(text)
            tell(text)

        def opening(passport: Passport) -> Engine:
            artifact = Artifact(path=drafted.path, passport=passport)
            return opener(passport.format).open(artifact, EngineOptions(model_file=model_file))

        passport = drafted.passport
        prepared = passport.preprocessing
        assert prepared is not None
        taken = PictureInput(
            spec=passport.input, channels=prepared.channels, size=prepared.size, layouts=("NCHW",)
        )
        settled = SettledPixels(preprocessing=prepared, origin="as given")
        judged = judge_import(request, passport, taken, settled, opening, tell=note, progress=progress)

        def draft(part: Path) -> Passport:
            part.write_bytes(drafted.path.read_bytes())
            return judged.passport

        made = publish(path, draft)
    remove_outdated(request.root, name, made, note, same=same)
    return imported(made, judged, said)
