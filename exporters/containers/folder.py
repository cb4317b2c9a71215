"""What every such folder holds: the network with passport and proof, a Containerfile and a README."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, ClassVar

from exporters.containers.command import GRPC_PORT, HTTP_PORT, ServerCommand
from exporters.containers.trial import CALLERS, ServerTrial, ServerUsage, trial, wanted
from exporters.proving.proof import recorded
from exporters.run.context import RunContext, context_of
from exporters.run.publish import LOSSES, inherited
from toolkit.artifacts import Artifact, now, open_artifact, sidecar
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError, UnavailableError, needs_extra
from toolkit.exporting import Checked, Context, Exported, Exporter, ExportOptions, Need, Option
from toolkit.exporting.placing import export_path
from toolkit.figures import mebibytes_text
from toolkit.graphs import GRAPH
from toolkit.machine.cpu import cpu
from toolkit.passports import Format, Passport, Precision
from toolkit.publishing import proof_path, publish_folder
from toolkit.telling import Tell

MODELS_FOLDER = "models"
# RFC 1123's names as the strictest of what bears them: a letter first, and room for what is hung on
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST = 50
# what bodies (256 MiB) and pictures that wait (256 MiB) may take at once, on top of what was measured
WAITING_BYTES = 512 << 20
USER = 10001
# what answered a trial
DEVICE = "a server on this machine, over HTTP"
SERVED_BY = ("onnxruntime-gpu", "onnxruntime", "uvicorn")
PASSED_ON = ("outputs", "softmax", "parity", "parity_why", "source_parity", "int8_dialect", *LOSSES)

Manifest = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """What these exporters are asked: the image's name, and on how many cores an engine computes."""

    container_image: Annotated[
        str | None,
        Option(help="Image that manifests name [default: cnnkit-NAME:HASH].", metavar="REGISTRY/NAME:TAG"),
    ] = None
    cores: Annotated[int, Option(help="Cores of one replica's engine.", low=1, high=256)] = 1


@dataclass(frozen=True, kw_only=True)
class ContainerFacts:
    """What manifests are made of; `usage` is None where nothing was measured."""

    name: str
    image: str
    command: ServerCommand
    usage: ServerUsage | None

    def container(self, name: str) -> Manifest:
        """Return the server's container: what runs in both kinds of cluster."""
        found: dict[str, Any] = {
            "name": name,
            "image": self.image,
            "command": ["cnnkit"],
            "args": self.command.words,
            "ports": [{"containerPort": HTTP_PORT, "protocol": "TCP"}],
            "startupProbe": {**_probe("live"), "periodSeconds": 2, "failureThreshold": 60},
            "readinessProbe": {**_probe("ready"), "periodSeconds": 2},
            "livenessProbe": {**_probe("live"), "periodSeconds": 10},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        if self.usage is not None:
            found["resources"] = resources(self.usage, self.command.threads)
        return found


def _probe(state: str) -> dict[str, Any]:
    return {"httpGet": {"path": f"/v2/health/{state}", "port": HTTP_PORT}, "timeoutSeconds": 2}


def resources(usage: ServerUsage, threads: int) -> Manifest:
    """Return what a replica asks for, which was measured, and what it may take at most.

    That is a core for each of the engine's threads and one for the requests, and memory for what may wait.
    """
    asked = {"cpu": f"{math.ceil(usage.cores * 10) * 100}m", "memory": _mebibytes(usage.memory_bytes)}
    most = {"cpu": str(threads + 1), "memory": _mebibytes(usage.memory_bytes + WAITING_BYTES)}
    return {"requests": asked, "limits": most}


def _mebibytes(size: int) -> str:
    return f"{math.ceil(size / (1 << 20))}Mi"


class ContainerExporter(Exporter):
    """Writes a folder that `kubectl apply -f` takes whole, and tries what it says on this machine first."""

    source_formats: ClassVar[tuple[Format, ...]] = (GRAPH,)
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    options: ClassVar[type[ContainerOptions]] = ContainerOptions
    reads: ClassVar[tuple[str, ...]] = ("precision", "name", "pixels")
    title: ClassVar[str]

    def needs(self, options: ExportOptions) -> Need | None:
        return Need(exporter=GRAPH, precision=options.precision)

    def machine(self, options: ExportOptions) -> Mapping[str, Any]:
        return {"tried": wanted()}

    @abstractmethod
    def manifests(self, facts: ContainerFacts, options: ContainerOptions) -> Mapping[str, list[Manifest]]:
        """Return the manifests by the file that they stand in."""

    @abstractmethod
    def how_to_ask(self, facts: ContainerFacts) -> str:
        """Return the README's sentence on waiting for the network, and asking it."""

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = perf_counter()
        run, path = context_of(source, options, context), export_path(source, options, self)
        key, own = run.key, options.own_of(self.options)
        name = self._named(path.name.split(".")[0])
        with needs_extra("export"):
            import yaml
        command = ServerCommand(precision=source.passport.precision, threads=own.cores)
        image = own.container_image or f"cnnkit-{name}:{source.passport.sha256[:12]}"
        tried: list[ServerTrial | None] = []

        def fill(folder: Path) -> None:
            placed = copied(source, folder / MODELS_FOLDER, name)
            tried.append(self._tried(placed, command, run))
            usage = tried[0].usage if tried[0] else None
            facts = ContainerFacts(name=name, image=image, command=command, usage=usage)
            for file, documents in self.manifests(facts, own).items():
                # people edit manifests, where an alias of what stands twice would change both places
                apart = json.loads(json.dumps(documents))
                (folder / file).write_text(yaml.safe_dump_all(apart, sort_keys=False, width=100), "utf-8")
            (folder / "Containerfile").write_text(containerfile(command), "utf-8")
            (folder / "README.md").write_text(self._readme(facts, tried[0]), "utf-8")

        def prove(drafted: Artifact) -> tuple[Passport, None]:
            known, done = drafted.passport, tried[0]
            if done:
                known = recorded(known, done.verdict, DEVICE, now(), tool_versions(*SERVED_BY))
            elif wanted():  # for want of packages: it is made again, and tried, once they are here
                known = dataclasses.replace(known, export_key=None)
            return known, None

        made = publish_folder(path, fill, self._passport(source, key), prove)
        return Exported(artifact=made, seconds=perf_counter() - start)

    def check(self, artifact: Artifact, threads: int | None, tell: Tell) -> Checked:
        inside = sorted((artifact.path / MODELS_FOLDER).glob(f"*.{GRAPH}"))
        if len(inside) != 1:
            raise CnnkitError(f"{artifact.path / MODELS_FOLDER} holds no single network; export it anew")
        placed = open_artifact(inside[0])
        tell(f"serving {placed.path}, and asking it over HTTP …")
        known = ServerCommand(precision=placed.passport.precision, threads=threads or 1)
        verdict = trial(placed, known).verdict
        return Checked(
            images=verdict.images,
            agree=verdict.agree,
            max_abs_diff=verdict.max_abs_diff,
            latency_ms=verdict.latency_ms,
            batch=verdict.batch,
            wrong=verdict.wrong,
            device=DEVICE,
            tools=tool_versions(*SERVED_BY),
        )

    def _named(self, name: str) -> str:
        if not NAME.fullmatch(name) or len(name) > LONGEST:
            fitting = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].rstrip("-")
            fitting = fitting if fitting[:1].isalpha() else f"net-{fitting}".rstrip("-")
            raise CnnkitError(
                f"{self.title} can have no name {name!r}: small letters of a to z, digits and -, a letter "
                f"first, at most {LONGEST} of them; `--name {fitting}` is one"
            )
        return name

    def _tried(self, placed: Artifact, command: ServerCommand, run: RunContext) -> ServerTrial | None:
        if wanted():
            try:
                return trial(placed, command)
            except UnavailableError as error:
                why = str(error)
        else:
            why = "the environment says so"
        run.tell(f"not tried, and so without resources in its manifests: {why}")
        return None

    def _readme(self, facts: ContainerFacts, tried: ServerTrial | None) -> str:
        return (
            f"# {facts.name} for {self.title}\n\n"
            "1. `pip wheel --no-deps -w . CNNKIT` puts the server's wheel here (CNNKIT: its source), "
            f"`podman build -t {facts.image} .` makes the image, `podman push {facts.image}` brings it to "
            "the cluster's registry.\n"
            "2. `kubectl apply -f .` in this folder starts it; the network is in the image, under "
            f"{facts.command.models}.\n"
            f"3. {self.how_to_ask(facts)}\n"
            f"4. {_measured(tried)}\n"
            "5. The container's command was run outside a container; no image was built of this folder, and "
            "it was applied to no cluster.\n"
        )

    def _passport(self, source: Artifact, key: str | None) -> Passport:
        known = source.passport
        return dataclasses.replace(
            inherited(known, *PASSED_ON),
            format=self.format,
            source_sha256=known.sha256,
            tools=tool_versions(),
            export_key=key,
        )


def copied(source: Artifact, folder: Path, name: str) -> Artifact:
    """Copy an artifact with passport and proof into a folder, under a name."""
    folder.mkdir()
    placed = folder / f"{name}{source.path.name[len(source.name) :]}"
    for made, to in ((source.path, placed), (sidecar(source.path), sidecar(placed))):
        to.write_bytes(made.read_bytes())
    if proof_path(source.path).exists():
        proof_path(placed).write_bytes(proof_path(source.path).read_bytes())
    return Artifact(path=placed, passport=source.passport)


def containerfile(command: ServerCommand) -> str:
    """Return the recipe of the image: the server's install, and the network."""
    version = tool_versions()["cnnkit"]
    words = ", ".join(f'"{word}"' for word in command.words)
    return (
        "FROM docker.io/library/python:3.12-slim\n"
        f"COPY cnnkit-{version}-py3-none-any.whl /tmp/\n"
        f"RUN pip install --no-cache-dir '/tmp/cnnkit-{version}-py3-none-any.whl[grpc]'\n"
        f"COPY {MODELS_FOLDER} {command.models}\n"
        f"USER {USER}\n"
        f"EXPOSE {HTTP_PORT} {GRPC_PORT}\n"
        'ENTRYPOINT ["cnnkit"]\n'
        f"CMD [{words}]\n"
    )


def _measured(tried: ServerTrial | None) -> str:
    if tried is None:
        return "Nothing was measured where this was made: the manifests ask for no memory and no cores."
    proven = f"all {tried.verdict.images} answers of the proof were right over HTTP"
    if tried.usage is None:
        return f"Tried where this was made: {proven}; what the server took was not measured."
    took = tried.usage
    return (
        f"Measured on {cpu().name} with {CALLERS} callers, {took.rows} rows a request: the server's process "
        f"took {mebibytes_text(took.memory_bytes)} and {took.cores:.2f} cores for "
        f"{took.rows_per_second:,.0f} rows a second; {proven}."
    )
