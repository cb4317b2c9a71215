"""kserve: a folder with KServe's ServingRuntime and InferenceService, and the server's container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from exporters.containers.folder import ContainerExporter, ContainerFacts, ContainerOptions, Manifest
from toolkit.exporting import Option
from toolkit.graphs import GRAPH
from toolkit.passports import Format

GROUP = "serving.kserve.io"


@dataclass(frozen=True, kw_only=True)
class KServeOptions(ContainerOptions):
    """What only this exporter is asked: where KServe fetches the network from; None: it is in the image."""

    storage_uri: Annotated[
        str | None,
        Option(help="Where KServe fetches the folder `models` from [default: the image].", metavar="URI"),
    ] = None


class KServeExporter(ContainerExporter):
    """Writes `<name>.kserve/`; a ServingRuntime of its own, since the image holds the network."""

    name = "kserve"
    title = "KServe"
    format: ClassVar[Format] = "kserve"
    suffix = ".kserve"
    options = KServeOptions

    def manifests(self, facts: ContainerFacts, options: ContainerOptions) -> Mapping[str, list[Manifest]]:
        assert isinstance(options, KServeOptions)
        runtime = f"cnnkit-{facts.name}"
        spec = {
            "supportedModelFormats": [{"name": GRAPH, "version": "1"}],
            "protocolVersions": ["v2"],
            "containers": [facts.container("kserve-container")],
        }
        model = {"modelFormat": {"name": GRAPH}, "protocolVersion": "v2", "runtime": runtime}
        if options.storage_uri is not None:
            model["storageUri"] = options.storage_uri
        service = {"predictor": {"minReplicas": 1, "model": model}}
        return {
            "serving-runtime.yaml": [_document("v1alpha1", "ServingRuntime", runtime, spec)],
            "inference-service.yaml": [_document("v1beta1", "InferenceService", facts.name, service)],
        }

    def how_to_ask(self, facts: ContainerFacts) -> str:
        return (
            f"Once `kubectl get inferenceservice {facts.name}` says READY, its URL answers the Open "
            f"Inference Protocol: `curl URL/v2/models/{facts.name}`, then `…/infer`."
        )


def _document(version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": {"name": name}, "spec": spec}


EXPORTER = KServeExporter()
