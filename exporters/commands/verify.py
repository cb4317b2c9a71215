"""`cnnkit verify FILE`: check an export against the proof that lies beside it, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit import cli

if TYPE_CHECKING:
    from exporters.proving.proof import Verdict
    from toolkit.artifacts import Artifact


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rebuild", is_flag=True, help="Build the engine again for this machine first.")
@cli.device_option
@cli.threads_option
@cli.root_option
@cli.json_option
def verify(
    *, file: Path, rebuild: bool, device: str | None, threads: int | None, root: Path, as_json: bool
) -> None:
    """Check FILE, an exported ONNX file or engine, against its proof, on this machine.

    Needs numpy and the file's own runtime; neither torch nor the data set.
    """
    from exporters.proving.proof import check_proof, read_proof
    from toolkit.artifacts import CHECKPOINT, open_artifact
    from toolkit.backends import EngineOptions, openers
    from toolkit.errors import CnnkitError, GateError

    artifact = open_artifact(file)
    able = openers(artifact.passport.format)
    if artifact.passport.format == CHECKPOINT or not able:
        raise CnnkitError(
            f"{file} is {artifact.passport.format}, which carries no proof; "
            "verify takes what `cnnkit export` makes to be run: .onnx and .engine files"
        )
    if rebuild:
        from exporters.run.rebuild import rebuild as build_again

        artifact = build_again(artifact, root)
    proof = read_proof(artifact)
    with able[0].open(artifact, EngineOptions(device=device, threads=threads)) as engine:
        verdict, ran_on = check_proof(engine, proof), engine.device_name
    _record(artifact, verdict, ran_on)
    if as_json:
        cli.emit(
            {
                "path": artifact.path,
                "ok": verdict.ok,
                "images": verdict.images,
                "agree": verdict.agree,
                "max_abs_diff": verdict.max_abs_diff,
                "latency_ms": verdict.latency_ms,
                "batch": verdict.batch,
                "wrong": verdict.wrong,
            }
        )
    elif verdict.ok:
        cli.stdout.print(_words(verdict), markup=False)
    if not verdict.ok:
        names = ", ".join(str(number) for number in verdict.wrong[:10])
        more = " …" if len(verdict.wrong) > 10 else ""
        raise GateError(f"{artifact.path.name}: {_words(verdict)}; images that disagree: {names}{more}")


def _words(verdict: Verdict) -> str:
    return (
        f"{verdict.agree} of {verdict.images} agree, largest difference {verdict.max_abs_diff:.2g}, "
        f"{verdict.latency_ms:.2g} ms a batch of {verdict.batch}"
    )


def _record(artifact: Artifact, verdict: Verdict, device: str) -> None:
    """Write machine, versions and date into the passport; say so where that cannot be.

    An export may have put another file in place meanwhile, and another verify a record: the passport
    is read again while no other can write it.
    """
    from exporters.proving.proof import recorded
    from exporters.run.publish import take_turn
    from toolkit.artifacts import is_shipped, now, read_passport, sidecar, write_json
    from toolkit.errors import CnnkitError

    if is_shipped(artifact.path):
        cli.say("not recorded: this file belongs to the installation")
        return
    try:
        with take_turn(artifact.path.parent):
            known = read_passport(artifact.path)
            if known.sha256 == artifact.passport.sha256:
                write_json(sidecar(artifact.path), recorded(known, verdict, device, now()).to_json())
            else:
                cli.say("not recorded: another file was exported to this place meanwhile; verify it, too")
    except (CnnkitError, OSError) as error:
        cli.say(f"not recorded in the passport: {error}")


COMMAND = verify
