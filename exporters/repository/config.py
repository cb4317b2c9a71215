"""`config.pbtxt` and `labels.txt` as NVIDIA's server reads them (protobuf text of `ModelConfig`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.artifacts import Artifact
from toolkit.backends import opener
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH
from toolkit.passports import Passport, TensorSpec
from toolkit.tensorrt import PLAN

TYPES = {
    **{"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8", "int8": "TYPE_INT8"},
    **{"int32": "TYPE_INT32", "int64": "TYPE_INT64", "float64": "TYPE_FP64", "bool": "TYPE_BOOL"},
}
FILES = {GRAPH: "model.onnx", PLAN: "model.plan"}
# how long a request may wait for others to share its batch, and for its turn at all
QUEUE_DELAY_MICROSECONDS = 500
TIMEOUT_MICROSECONDS = 1_000_000
QUEUE_LENGTH = 1024


@dataclass(frozen=True, kw_only=True)
class ModelRunner:
    """The backend of this server that runs a model, by its platform there, and in words why that one."""

    platform: str
    why: str | None = None

    @property
    def word(self) -> str:
        """Return the server's name of it: a platform's first word."""
        return self.platform.partition("_")[0]


def model_config(
    name: str, source: Artifact, batches: Sequence[int], runner: ModelRunner | None = None
) -> str:
    """Return the text of config.pbtxt. Triton's dims exclude the batch, unless the graph's is fixed.

    `runner` None is the first backend that opens the file. The file's name stands there, since each backend
    has another one that it looks for by itself.
    """
    runner = runner or ModelRunner(platform=opener(source.passport.format).platform)
    passport = source.passport
    dynamic = passport.input.shape[0] is None
    largest = max(batches) if dynamic else 0
    outputs = passport.outputs or (passport.output.name,)
    labels = f" label_filename: {_text('labels.txt')}" if labels_text(passport) else ""
    # the server fills in the shapes of further outputs from the model itself
    further = [f"# further outputs: {', '.join(map(str, outputs[1:]))}"] if len(outputs) > 1 else []
    warmed = sorted({min(batches), *batches[1:2]}) if dynamic else []
    parts = [
        f"name: {_text(name)}",
        *([f"# {runner.why}"] if runner.why else []),
        f"backend: {_text(runner.word)}",
        f"default_model_filename: {_text(FILES[passport.format])}",
        f"max_batch_size: {largest}",
        f"input [ {{ {_tensor(passport.input, dynamic=dynamic)} }} ]",
        f"output [ {{ {_tensor(passport.output, dynamic=dynamic)}{labels} }} ]",
        *further,
        *([_batching(batches)] if dynamic else []),
        *(_warmup(passport.input, size) for size in warmed),
        "version_policy { latest { num_versions: 1 } }",
    ]
    return "\n".join(parts) + "\n"


def labels_text(passport: Passport) -> str:
    """Return labels.txt: one class a line, in the order of the logits; empty where these are not one a class.

    The server would call a single score by the first of its two classes, whatever it decides.
    """
    if passport.columns != len(passport.classes) or passport.columns == 1:
        return ""
    return "".join(" ".join(label.split()) + "\n" for label in passport.classes)


def _tensor(spec: TensorSpec, *, dynamic: bool) -> str:
    shape = spec.shape[1:] if dynamic else spec.shape
    dims = ", ".join("-1" if extent is None else str(extent) for extent in shape)
    return f"name: {_text(spec.name)} data_type: {_type(spec)} dims: [ {dims} ]"


def _type(spec: TensorSpec) -> str:
    if spec.dtype not in TYPES:
        raise CnnkitError(f"Triton has no type for {spec.dtype}, which {spec.name!r} is")
    return TYPES[spec.dtype]


def _batching(batches: Sequence[int]) -> str:
    usual = batches[1] if len(batches) > 2 else max(batches)
    policy = (
        f"timeout_action: REJECT default_timeout_microseconds: {TIMEOUT_MICROSECONDS} "
        f"max_queue_size: {QUEUE_LENGTH}"
    )
    return (
        f"dynamic_batching {{ preferred_batch_size: [ {usual} ] "
        f"max_queue_delay_microseconds: {QUEUE_DELAY_MICROSECONDS} "
        f"default_queue_policy {{ {policy} }} }}"
    )


def _warmup(spec: TensorSpec, size: int) -> str:
    dims = ", ".join(str(extent or 1) for extent in spec.shape[1:])
    value = f"data_type: {_type(spec)} dims: [ {dims} ] random_data: true"
    return (
        f"model_warmup [ {{ name: {_text(f'batch of {size}')} batch_size: {size} "
        f"inputs {{ key: {_text(spec.name)} value: {{ {value} }} }} }} ]"
    )


def _text(value: str) -> str:
    """Quote a string for protobuf's text format, in which JSON's escapes of ASCII are valid, too."""
    return json.dumps(value, ensure_ascii=False)
