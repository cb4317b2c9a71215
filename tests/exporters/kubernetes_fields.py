"""The fields of KServe's two resources and of the Kubernetes ones that are written here, by name and type.

Facts of serving.kserve.io (ServingRuntime v1alpha1, InferenceService v1beta1), apps/v1 and core v1. A cluster
drops a field that it does not know, or refuses it, and KServe's own SDK takes any: here an unknown one is an
error. What is never written (`object`) is not described further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Schema = Mapping[str, Any]

STRING, INTEGER, BOOLEAN, ANY = ({"type": kind} for kind in ("string", "integer", "boolean", "object"))
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi)?$"}


def fields(*needed: str, **types: Any) -> Schema:
    return {
        "type": "object",
        "properties": types,
        "required": list(needed),
        "additionalProperties": False,
    }


def every(one: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": one, "minItems": least}


def mapping(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


def of(kind: Schema, names: str) -> dict[str, Schema]:
    return dict.fromkeys(names.split(), kind)


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
HTTP_GET = fields("port", path=STRING, port=PORT, host=STRING, scheme=STRING, httpHeaders=every(ANY))
PROBE = fields(
    httpGet=HTTP_GET,
    **of(ANY, "exec grpc tcpSocket"),
    **of(
        INTEGER,
        "initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold "
        "terminationGracePeriodSeconds",
    ),
)
CONTAINER_FIELDS: dict[str, Schema] = {
    "name": NAME,
    **of(STRING, "image workingDir terminationMessagePath terminationMessagePolicy imagePullPolicy"),
    **of(STRING, "restartPolicy"),
    **of(every(STRING), "command args"),
    "ports": every(
        fields("containerPort", containerPort=PORT, hostPort=PORT, **of(STRING, "name protocol hostIP"))
    ),
    **of(every(ANY), "env envFrom volumeMounts volumeDevices resizePolicy"),
    "resources": fields(requests=mapping(QUANTITY), limits=mapping(QUANTITY), claims=every(ANY)),
    **of(PROBE, "livenessProbe readinessProbe startupProbe"),
    "lifecycle": ANY,
    "securityContext": fields(
        capabilities=fields(add=every(STRING), drop=every(STRING)),
        **of(BOOLEAN, "privileged runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation"),
        **of(INTEGER, "runAsUser runAsGroup"),
        **of(ANY, "seLinuxOptions windowsOptions seccompProfile appArmorProfile"),
        procMount=STRING,
    ),
    **of(BOOLEAN, "stdin stdinOnce tty"),
}
CONTAINER = fields("name", **CONTAINER_FIELDS)
METADATA = fields("name", name=NAME, namespace=NAME, **of(mapping(STRING), "labels annotations"))
PROTOCOL = one_of("v1", "v2", "grpc-v1", "grpc-v2")
RUNTIME = fields(
    "containers",
    supportedModelFormats=every(
        fields("name", name=STRING, version=STRING, autoSelect=BOOLEAN, priority=INTEGER)
    ),
    protocolVersions=every(PROTOCOL),
    containers=every(CONTAINER, 1),
    **of(BOOLEAN, "multiModel disabled hostIPC"),
    **of(every(ANY), "volumes tolerations imagePullSecrets"),
    **of(mapping(STRING), "nodeSelector labels annotations"),
    **of(ANY, "affinity workerSpec storageHelper builtInAdapter"),
    **of(STRING, "grpcEndpoint grpcDataEndpoint httpDataEndpoint"),
    replicas=INTEGER,
)
MODEL = fields(
    "modelFormat",
    modelFormat=fields("name", name=STRING, version=STRING),
    protocolVersion=PROTOCOL,
    **of(STRING, "runtime runtimeVersion storageUri"),
    storage=ANY,
    **CONTAINER_FIELDS,
)
PREDICTOR = fields(
    model=MODEL,
    **of(INTEGER, "minReplicas maxReplicas scaleTarget containerConcurrency timeout canaryTrafficPercent"),
    **of(STRING, "scaleMetric scaleMetricType serviceAccountName"),
    terminationGracePeriodSeconds=INTEGER,
)
LABELS = mapping(STRING)
POD = fields(
    "containers",
    containers=every(CONTAINER, 1),
    terminationGracePeriodSeconds=INTEGER,
    **of(every(ANY), "volumes tolerations imagePullSecrets initContainers"),
    nodeSelector=LABELS,
    affinity=ANY,
    securityContext=ANY,
    serviceAccountName=STRING,
)
DEPLOYMENT = fields(
    *("selector", "template"),
    **of(INTEGER, "replicas minReadySeconds revisionHistoryLimit progressDeadlineSeconds"),
    paused=BOOLEAN,
    selector=fields(matchLabels=LABELS, matchExpressions=every(ANY)),
    strategy=fields(
        type=one_of("RollingUpdate", "Recreate"),
        rollingUpdate=fields(maxUnavailable=INTEGER, maxSurge=INTEGER),
    ),
    template=fields("spec", metadata=fields(labels=LABELS, annotations=LABELS), spec=POD),
)
SERVICE = fields(
    selector=LABELS,
    ports=every(
        fields(
            "port", port=PORT, targetPort=PORT, nodePort=PORT, name=NAME, **of(STRING, "protocol appProtocol")
        ),
        1,
    ),
    **of(STRING, "type clusterIP sessionAffinity"),
)


def resource(version: str, kind: str, spec: Schema) -> Schema:
    needed = ("apiVersion", "kind", "metadata", "spec")
    return fields(*needed, apiVersion=one_of(version), kind=one_of(kind), metadata=METADATA, spec=spec)


RESOURCES: dict[str, Schema] = {
    "ServingRuntime": resource("serving.kserve.io/v1alpha1", "ServingRuntime", RUNTIME),
    "InferenceService": resource(
        "serving.kserve.io/v1beta1",
        "InferenceService",
        fields("predictor", predictor=PREDICTOR, transformer=ANY, explainer=ANY),
    ),
    "Deployment": resource("apps/v1", "Deployment", DEPLOYMENT),
    "Service": resource("v1", "Service", SERVICE),
}


def refused(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with manifests, each with its path; nothing for those that a cluster takes."""
    from jsonschema import Draft202012Validator

    return [
        f"{error.json_path}: {error.message}"
        for document in documents
        for error in Draft202012Validator(RESOURCES[document["kind"]]).iter_errors(document)
    ]
