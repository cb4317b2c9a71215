"""An export checked against the proof that lies beside it, on this machine, and the record of that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporters.proving.proof import Verdict, check_proof, read_proof, recorded
from toolkit.artifacts import (
    CHECKPOINT,
    Artifact,
    artifacts_root,
    find_artifacts,
    is_shipped,
    now,
    open_artifact,
    read_passport,
    sidecar,
    write_json,
)
from toolkit.backends import EngineOptions, openers
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.exporting import EXPORTERS, Exporter
from toolkit.graphs import GRAPH
from toolkit.graphs.source import graph_of
from toolkit.publishing import take_turn
from toolkit.telling import Tell, silent


def verify(
    path: str | Path,
    *,
    rebuild: bool = False,
    device: str | None = None,
    threads: int | None = None,
    root: Path | str | None = None,
    tell: Tell = silent,
) -> Verdict:
    """Check an exported file against its proof: 64 pictures and the answers that they must give.

    Needs numpy and the file's own runtime, neither torch nor the data set. `rebuild` builds an engine again
    for this machine first, of the graph beside it or under `root`. Machine, versions and date are written
    into the passport; `tell` hears where that cannot be. A verdict that is not `ok` is raised by its
    `require`.

    Raises CnnkitError for a file that carries no proof, NotFoundError where the proof is not beside it,
    CorruptError where either was altered, UnavailableError where the runtime or the device is not here.
    """
    artifact = open_artifact(Path(path))
    able = openers(artifact.passport.format)
    if rebuild:
        artifact = build_again(artifact, artifacts_root(root))
    if artifact.passport.format == CHECKPOINT or not able:
        return _by_its_consumer(artifact, device, threads, tell)
    proof = read_proof(artifact)
    with able[0].open(artifact, EngineOptions(device=device, threads=threads)) as engine:
        verdict, ran_on = check_proof(engine, proof), engine.device_name
    record(artifact, verdict, ran_on, tell)
    return verdict


def _suffixes() -> list[str]:
    """Return the endings of what carries a proof: a backend opens it, or its exporter lets it answer."""
    own = [one for one in EXPORTERS.all() if type(one).check is not Exporter.check]
    opened = [one for one in EXPORTERS.all() if openers(one.format)]
    return list(dict.fromkeys(one.suffix for one in (*opened, *own)))


def _by_its_consumer(artifact: Artifact, device: str | None, threads: int | None, tell: Tell) -> Verdict:
    """Let what an artifact was made for answer its proof, where no backend opens it; note the record."""
    exporter = next((one for one in EXPORTERS.all() if one.format == artifact.passport.format), None)
    checked = exporter.check(artifact, threads, tell) if exporter else None
    if checked is None:
        raise CnnkitError(
            f"{artifact.path} is {artifact.passport.format}, which carries no proof; "
            f"verify takes what `cnnkit export` makes to be run: {', '.join(_suffixes())}"
        )
    if device is not None:
        raise CnnkitError(f"{artifact.path.name} ran by {checked.device}: leave --device away")
    verdict = Verdict(
        path=artifact.path,
        images=checked.images,
        agree=checked.agree,
        max_abs_diff=checked.max_abs_diff,
        latency_ms=checked.latency_ms,
        batch=checked.batch,
        wrong=checked.wrong,
    )
    record(artifact, verdict, checked.device, tell, checked.tools)
    return verdict


def record(
    artifact: Artifact, verdict: Verdict, device: str, tell: Tell, tools: Mapping[str, str] | None = None
) -> None:
    """Write machine, versions and date into the passport; say so where that cannot be.

    An export may have put another file in place meanwhile, and another verify a record: the passport
    is read again while no other can write it.
    """
    if is_shipped(artifact.path):
        tell("not recorded: this file belongs to the installation")
        return
    try:
        with take_turn(artifact.path.parent):
            known = read_passport(artifact.path)
            if known.sha256 == artifact.passport.sha256:
                write_json(sidecar(artifact.path), recorded(known, verdict, device, now(), tools).to_json())
            else:
                tell("not recorded: another file was exported to this place meanwhile; verify it, too")
    except (CnnkitError, OSError) as error:
        tell(f"not recorded in the passport: {error}")


def build_again(made: Artifact, root: Path) -> Artifact:
    """Make an artifact again in its own place, for this machine's runtime and GPU.

    Raises NotFoundError when its graph is neither beside it nor among the artifacts of its name,
    CnnkitError for what is the same on every machine.
    """
    exporter = next((one for one in EXPORTERS.all() if one.format == made.passport.format), None)
    options = exporter.again(made) if exporter else None
    if exporter is None or options is None:
        raise CnnkitError(f"{made.path} is {made.passport.format}; only engines are rebuilt")
    return exporter.export(_source(made, root), options).artifact


def _source(made: Artifact, root: Path) -> Artifact:
    """Return the graph that an artifact was made from, known by its hash; the folder may be any."""
    wanted, folder = made.passport.source_sha256, made.path.parent
    if (beside := graph_of(made)) is not None:
        return beside
    for path, passport in find_artifacts(root, made.name):
        if passport.format == GRAPH and passport.sha256 == wanted:
            return open_artifact(path)
    raise NotFoundError(
        f"the ONNX file that {made.path.name} was built from is not in {folder}, nor in "
        f"{root / made.name}; copy it there with its passport, or `cnnkit export {made.name} "
        f"--format {made.passport.format} --precision {made.passport.precision}` makes both"
    )
