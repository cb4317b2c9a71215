"""The proof that travels: pictures, the reference's answers and tolerances beside every export.

`<file>.proof.safetensors` holds 64 raw pictures (or inputs) and PyTorch's logits for them, so that
any machine with numpy and the file's runtime can check the file: no torch, no onnx, no data set.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from exporters.proving.further import FURTHER, agreeing, carried
from exporters.proving.parity import tolerance
from toolkit.answering import answers, decisions, inputs_of_fitted, smallest_batch
from toolkit.artifacts import Artifact, hash_file
from toolkit.backends import Engine
from toolkit.checkpoints import tool_versions
from toolkit.errors import CorruptError, GateError, NotFoundError
from toolkit.exporting import EXPORTERS, ExportOptions
from toolkit.exporting.evidence import Evidence
from toolkit.exporting.further import Further
from toolkit.graphs import GRAPH
from toolkit.markup import html_table
from toolkit.passports import SYMMETRIC, Passport, Verification
from toolkit.publishing import proof_path
from toolkit.traces import timed

IMAGES = 64
# raw pixels of 64 pictures are well within; floats of large ones would make a proof larger than its file
PROOF_BYTES = 64 << 20
# verifications that a passport keeps
MOST_RECORDS = 20


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a file must answer: `given` (N, …) pixels or inputs, `logits` (N, K), the largest difference.

    `further` are the outputs beside the scores for the first pictures, (M, …) each, and `further_allowed` how
    far each may be off, relative to its own size.
    """

    given: NDArray[Any]
    logits: NDArray[np.float32]
    tolerance: float
    further: tuple[NDArray[Any], ...] = ()
    further_allowed: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a file answered its proof on this machine; `wrong` are the numbers of pictures that disagree.

    `max_abs_diff` is NaN where an answer was none; `latency_ms` is that of a batch of `batch`.
    """

    path: Path
    images: int
    agree: int
    max_abs_diff: float
    latency_ms: float
    batch: int
    wrong: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether every picture agrees."""
        return self.agree == self.images

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        return (
            f"{self.agree} of {self.images} agree, largest difference {self.max_abs_diff:.2g}, "
            f"{self.latency_ms:.2g} ms a batch of {self.batch}"
        )

    def require(self) -> Self:
        """Return the verdict where it is good. Raises GateError, which names the pictures that disagree."""
        if self.ok:
            return self
        names = ", ".join(str(number) for number in self.wrong[:10])
        more = " …" if len(self.wrong) > 10 else ""
        raise GateError(f"{self.path.name}: {self.summary}; images that disagree: {names}{more}")

    def _repr_html_(self) -> str:
        facts = (("ok" if self.ok else "failed", self.summary),)
        return html_table((), facts, self.path.name)


def make_proof(
    passport: Passport,
    evidence: Evidence,
    reference: NDArray[np.float32],
    *found: NDArray[np.float32],
    beside: tuple[Further, ...] = (),
) -> bytes:
    """Return the bytes of a proof from the first pictures of the evidence; equal input, equal bytes.

    `reference` (N, K) are the right answers in the file's own form, `found` those of the file and of
    emulations of it, on the same pictures; `beside` all their further outputs, the reference's first.
    Raises GateError where they are too far apart for a proof.
    """
    from safetensors.numpy import save

    raw = evidence.pixels if evidence.pixels is not None else evidence.inputs
    picked = _telling(reference, evidence.why_random is not None)
    picked = picked[: max(1, min(IMAGES, PROOF_BYTES // raw[:1].nbytes))]
    logits = np.ascontiguousarray(reference[picked], dtype=np.float32)
    # another machine may round as an emulation does: the proof allows for the largest of all
    apart = max(float(np.abs(one[picked].astype(np.float64) - logits).max(initial=0.0)) for one in found)
    what = f"{passport.model} in {passport.precision}"
    whole = reference[np.isfinite(reference).all(axis=1)] if evidence.why_random else reference
    allowed = tolerance(passport.precision, whole, logits, apart, what)
    given = np.ascontiguousarray(raw[: picked[-1] + 1][picked])
    arrays = {"given": given, "logits": logits, **carried(beside, passport.precision, what)}
    # one entry alone: safetensors writes several in an order that changes from run to run
    return bytes(save(arrays, metadata={"tolerance": repr(allowed)}))


def _telling(reference: NDArray[np.float32], random_inputs: bool) -> NDArray[np.int64]:
    """Return the numbers of the inputs that a proof holds: the first, but none of noise without an answer."""
    told = np.isfinite(reference).all(axis=1)
    if not random_inputs or told.all() or not told.any():
        return np.arange(min(IMAGES, len(reference)))
    return np.flatnonzero(told)[:IMAGES]


def _hint(artifact: Artifact) -> str:
    """Say how a file without its proof gets one."""
    known = artifact.passport
    if known.quantised_by is not None and known.source_sha256 == known.imported_sha256:
        made = f"{artifact.name}.{known.precision}{artifact.path.suffix}"
        return f"it is as it came; `{again(artifact)}` makes {made} of it, with a proof"
    return f"copy it along, or make both again with `{again(artifact)}`"


def proven(artifact: Artifact) -> bool:
    """Tell whether the proof that an artifact's passport names lies beside it, unaltered."""
    wanted, path = artifact.passport.proof_sha256, proof_path(artifact.path)
    return wanted is not None and path.exists() and hash_file(path) == wanted


def again(artifact: Artifact) -> str:
    """Return the command that makes an export anew, as it is typed."""
    known, name = artifact.passport, artifact.name
    options = [f"--format {_form(known)}"]
    if known.quantised_by is None:  # else it has that one precision
        options.append(f"--precision {known.precision}")
    if known.input.dtype == "uint8" and name.endswith("-uint8"):
        name = name.removesuffix("-uint8")
        options.append("--input uint8")
    if known.softmax and known.imported_sha256 is None:  # what came from elsewhere may be so by itself
        options.append("--softmax")
    if known.trained is False:
        name = name.removesuffix("-untrained")
        options.append("--untrained")
    return " ".join(("cnnkit export", name, *options))


def _form(known: Passport) -> str:
    """Return the format that is typed to make an artifact; int8 graphs for an engine come with that one."""
    if known.int8_dialect != SYMMETRIC or known.format != GRAPH or known.quantised_by is not None:
        return known.format
    probe = ExportOptions(root=Path(), precision=known.precision)
    needs = {exporter.name: exporter.needs(probe) for exporter in EXPORTERS.all()}
    return next((name for name, need in needs.items() if need and need.dialect == SYMMETRIC), known.format)


def read_proof(artifact: Artifact) -> Proof:
    """Read the proof beside a file. Raises NotFoundError or CorruptError in words."""
    path = proof_path(artifact.path)
    wanted = artifact.passport.proof_sha256
    if not path.exists():
        raise NotFoundError(f"{artifact.path.name} has no proof beside it ({path.name}): {_hint(artifact)}")
    if wanted is not None and hash_file(path) != wanted:
        raise CorruptError(f"{path} is not the proof that was made with {artifact.path.name}: copy it anew")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts: Mapping[str, str] = file.metadata() or {}
            given, logits = file.get_tensor("given"), file.get_tensor("logits")
            allowed = float(facts["tolerance"])
            numbered = [name for name in file.keys() if name.startswith(FURTHER)]  # noqa: SIM118  (no mapping)
            further = tuple(file.get_tensor(f"{FURTHER}{index}") for index in range(len(numbered) - 1))
            each = file.get_tensor(f"{FURTHER}allowed") if numbered else np.empty(0)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorruptError(f"{path} is no readable proof: {error}; copy it anew") from None
    return Proof(
        given=given,
        logits=logits,
        tolerance=allowed,
        further=further,
        further_allowed=tuple(map(float, each)),
    )


def check_proof(engine: Engine, proof: Proof, *, runs: int = 50) -> Verdict:
    """Run an engine on its proof and time the smallest batch that it takes.

    A picture agrees when no logit differs by more than the tolerance and the first answer is the
    same, or was closer to the second than twice the tolerance.
    """
    inputs = proof_inputs(engine.artifact.passport, proof)
    found = answers(engine, inputs)
    differences = np.abs(found.astype(np.float64) - proof.logits).max(axis=1)
    probable = engine.artifact.passport.softmax
    best = np.sort(proof.logits, axis=1)
    lead = best[:, -1] - (best[:, -2] if best.shape[1] > 1 else 0.5 if probable else 0.0)
    near = np.abs(lead) <= 2 * proof.tolerance
    same = decisions(found, probable=probable) == decisions(proof.logits, probable=probable)
    agree = (differences <= proof.tolerance) & (same | near)
    agree &= agreeing(engine, inputs, proof.further, proof.further_allowed)
    batch = smallest_batch(engine, inputs)
    return Verdict(
        path=engine.artifact.path,
        images=len(proof.logits),
        agree=int(agree.sum()),
        max_abs_diff=float(differences.max()),
        latency_ms=latency_ms(engine, batch, runs=runs),
        batch=len(batch),
        wrong=tuple(int(i) for i in np.flatnonzero(~agree)),
    )


def latency_ms(engine: Engine, batch: NDArray[Any], *, runs: int) -> float:
    """Return the median milliseconds of one call, answer in host memory, after a warm-up."""
    call = partial(engine.run, batch)
    timed(call, max(3, runs // 10))
    return statistics.median(timed(call, runs))


def proof_inputs(passport: Passport, proof: Proof) -> NDArray[Any]:
    """Return what a proof holds as a network's input: pictures go through its preprocessing."""
    if proof.given.dtype == np.uint8 and passport.preprocessing is not None:
        return inputs_of_fitted(proof.given, passport)[:]
    return proof.given


def recorded(
    passport: Passport, verdict: Verdict, device: str, when: str, tools: Mapping[str, str] | None = None
) -> Passport:
    """Return a passport with this verification added: machine, versions and date.

    `tools` None are the versions of what exporters use here.
    """
    packages = (package for one in EXPORTERS.all() for package in one.packages)
    entry = Verification(
        date=when,
        machine=platform.node(),
        device=device,
        tools=tool_versions(*packages) if tools is None else tools,
        images=verdict.images,
        agree=verdict.agree,
        # JSON knows no NaN; what a broken engine answers differs by no number
        max_abs_diff=verdict.max_abs_diff if math.isfinite(verdict.max_abs_diff) else None,
        latency_ms=verdict.latency_ms,
        batch=verdict.batch,
    )
    return dataclasses.replace(passport, verified=(*passport.verified, entry)[-MOST_RECORDS:])
