"""Whether a name is free for what a run will promote: nothing that no training can make again is replaced."""

from __future__ import annotations

from toolkit.artifacts import check_name, find_artifacts, is_shipped
from toolkit.errors import CnnkitError
from toolkit.passports import Passport
from toolkit.training import Job


def refuse_other_content(job: Job) -> None:
    """Raise CnnkitError where a job's name is that of an import, or of another network."""
    for path, held in find_artifacts(job.root, check_name(job.artifact_name)):
        what = None if is_shipped(path) else _other(held, job)
        if what is not None:
            raise CnnkitError(f"{path} {what}, and training would take its name: --name OTHER keeps both")


def _other(held: Passport, job: Job) -> str | None:
    if held.imported_sha256 is not None:
        return f"was imported{f' from {held.imported_from}' if held.imported_from else ''}"
    return f"is of {held.model}" if held.model != job.model.name else None
