"""Every JSON body of the API, coming and going, as a type: what is read, what is written, what is documented.

Names and meanings are the Open Inference Protocol's (v2) and Triton's extensions of it; `/v1` is our own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_TIMEOUT = 10**12 - 1
Inversion = Literal["auto", "always", "never"]
SharedMemory = Annotated[str, Meta(description="Not offered: data travel in the body.")] | UnsetType


class ErrorReply(Struct):
    """Why a request gets no answer."""

    error: str


class LiveReply(Struct):
    """Whether the process is up."""

    live: bool


class ReadyReply(Struct):
    """Whether the models are warm and requests are taken."""

    ready: bool


class ModelReadyReply(Struct):
    """Whether one model takes requests."""

    name: str
    ready: bool


class ServerDescription(Struct):
    """What this server is and which extensions of the protocol it speaks."""

    name: str
    version: str
    extensions: list[str]


class TensorDescription(Struct):
    """One input or output; -1 stands for any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelDescription(Struct):
    """What can be asked of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorDescription]
    outputs: list[TensorDescription]


class ConfiguredTensor(Struct):
    """One input or output as Triton's configuration names it, without its batch; -1 stands for any length."""

    name: str
    data_type: str
    dims: list[int]


class BatchingConfiguration(Struct):
    """How long callers in company wait for more."""

    max_queue_delay_microseconds: int


class ModelConfiguration(Struct):
    """A model as Triton's configuration extension describes it."""

    name: str
    platform: str
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    dynamic_batching: BatchingConfiguration


class InputParameters(Struct):
    """How an input's data come: in `data`, or as so many bytes behind the JSON."""

    binary_data_size: int | UnsetType = UNSET
    shared_memory_region: SharedMemory = UNSET


class InputTensor(Struct):
    """The rows to run; `data` are flat or nested as `shape`."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: InputParameters | None = None


class OutputParameters(Struct):
    """How an output is answered: as bytes behind the JSON, as so many best labels."""

    binary_data: bool | UnsetType = UNSET
    classification: Annotated[int, Meta(ge=0)] = 0
    shared_memory_region: SharedMemory = UNSET


class RequestedOutput(Struct):
    """One output that is asked for."""

    name: str
    parameters: OutputParameters | None = None


class InferParameters(Struct):
    """What holds for a whole request; `timeout` is in microseconds, 0 for none of its own."""

    binary_data_output: bool = False
    timeout: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT)] = 0


class InferRequest(Struct):
    """Rows for a model, and what is asked of them; every output where none is named."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1, max_length=1)]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: InferParameters | None = None


class OutputSize(Struct):
    """How many bytes behind the JSON are this output's."""

    binary_data_size: int


class OutputTensor(Struct):
    """One answer, in `data` or behind the JSON; labels are `value:index:label`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | UnsetType = UNSET
    parameters: OutputSize | UnsetType = UNSET


class InferReply(Struct):
    """A model's answers; `id` is the request's."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET


class LabelProbability(Struct):
    """A class and how likely it is, 0 to 1."""

    label: str
    probability: float


class PictureLatency(Struct):
    """Where a picture's time went, in milliseconds; `wait` is for a decoder, `queue` for the engine."""

    wait: float
    decode: float
    preprocess: float
    queue: float
    infer: float


class ClassifyQuery(Struct, forbid_unknown_fields=True):
    """How a picture is classified; the first model's default version where none is named."""

    model: str | None = None
    version: str | None = None
    top: Annotated[int, Meta(ge=1, le=9999)] = 3
    invert: Inversion = "auto"


class ClassifyRequest(ClassifyQuery, forbid_unknown_fields=True):
    """One picture as `image` or several as `images`, base64 text or `data:` URLs, and how to classify."""

    image: str | UnsetType = UNSET
    images: Annotated[list[str], Meta(min_length=1)] | UnsetType = UNSET


class Classification(Struct):
    """What a model says of one picture, likeliest first."""

    model: str
    version: str
    backend: str
    sha256: str
    top: list[LabelProbability]
    inverted: bool
    latency_ms: PictureLatency


class PictureResult(Struct):
    """One of several pictures: its answer, or the status and error that it would have had alone."""

    file: str
    answer: Classification | UnsetType = UNSET
    status: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class PictureResults(Struct):
    """The answers to several pictures, in their order."""

    results: list[PictureResult]


class ListedModel(Struct):
    """A served model."""

    name: str
    versions: list[str]
    backend: str
    classes: list[str]


class ModelList(Struct):
    """Every served model."""

    models: list[ListedModel]


class IndexRequest(Struct):
    """Which rows of the repository's index are asked for; `ready` leaves out what takes no requests."""

    ready: bool = False


class ControlParameters(Struct, forbid_unknown_fields=True):
    """What loading or unloading may be told; no model here depends on another."""

    unload_dependents: bool = False


class ControlRequest(Struct):
    """What loading or unloading is asked with."""

    parameters: ControlParameters | None = None


class Done(Struct):
    """Nothing: what was asked is done."""


class IndexEntry(Struct):
    """One version of one model, and why it takes no requests."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str | UnsetType = UNSET
