"""kubernetes: a folder with a Deployment and a Service, and the server's container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from exporters.containers.command import GRACE_S, GRPC_PORT, HTTP_PORT
from exporters.containers.folder import ContainerExporter, ContainerFacts, ContainerOptions, Manifest
from toolkit.passports import Format

# one goes on while the other's machine is emptied
REPLICAS = 2


class KubernetesExporter(ContainerExporter):
    """Writes `<name>.kubernetes/`: a folder of its own, since a cluster applies every manifest of one."""

    name = "kubernetes"
    title = "Kubernetes"
    format: ClassVar[Format] = "kubernetes"
    suffix = ".kubernetes"

    def manifests(self, facts: ContainerFacts, options: ContainerOptions) -> Mapping[str, list[Manifest]]:
        labels = {"app.kubernetes.io/name": facts.name}
        pod = {
            "terminationGracePeriodSeconds": GRACE_S,
            "containers": [facts.container("cnnkit")],
        }
        deployment = {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            # a replica goes once another one is ready
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        ports = [
            {"name": "http", "port": HTTP_PORT, "targetPort": HTTP_PORT},
            {"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT},
        ]
        about = {"name": facts.name, "labels": labels}
        return {
            "deployment.yaml": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": deployment}
            ],
            "service.yaml": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": about,
                    "spec": {"selector": labels, "ports": ports},
                }
            ],
        }

    def how_to_ask(self, facts: ContainerFacts) -> str:
        return (
            f"Once `kubectl rollout status deployment {facts.name}` is done, "
            f"`http://{facts.name}:{HTTP_PORT}` and, over gRPC, `{facts.name}:{GRPC_PORT}` answer the Open "
            "Inference Protocol inside the cluster."
        )


EXPORTER = KubernetesExporter()
