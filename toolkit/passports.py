"""Passport: what an artifact's JSON sidecar says, every field typed and checked when it is read.

What is not known is None. Keys of a file that no field here names are kept beside the others and never
steered by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast, get_args

from msgspec import Meta

from toolkit import schema
from toolkit.errors import CorruptError
from toolkit.preprocessing import Preprocessing
from toolkit.recipes import Recipe
from toolkit.schema import Count, Magnitude, Positive, Seed, Share

# each plug-in that writes or opens a format declares its word
Format = str
Precision = Literal["fp32", "fp16", "bf16", "int8"]
# int8 graphs in ONNX Runtime's dialect (activations unsigned) and in TensorRT's (all symmetric)
Dialect = Literal["U8S8", "S8S8"]
UNSIGNED: Dialect = "U8S8"
SYMMETRIC: Dialect = "S8S8"
Layout = Literal["NCHW", "NHWC", "NC"]

# who quantised or halved a file that came so
BY_SOURCE = "source"

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output: name, shape with None for the batch, dtype by numpy name, layout."""

    name: str
    shape: tuple[Count | None, ...]
    dtype: str = "float32"
    layout: Layout | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """The data that weights were trained on: its name as given, and the hash of its content.

    Of people's own pictures, how they were read, and `trained_on`, the hash of the list of pictures that
    lies beside the checkpoint (toolkit/listings/records.py); None where none was written. `exclude` is the
    path of the list of pictures that were left out. `named` tells that somebody named the data when the
    network was imported: what it was trained on is not known then; `halved` that it was named for choosing,
    so that one half of its training part calibrates and the other one judges.
    """

    name: str
    fingerprint: str | None = None
    trained_on: str | None = None
    group: str | None = None
    columns: str | None = None
    exclude: str | None = None
    skip_damaged: bool = False
    max_pixels: Positive | None = None
    named: bool = False
    halved: bool = False


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What was measured of the checkpoint's own weights: fp32, one pass, no test-time augmentation."""

    test_accuracy: Share | None = None
    test_images: Count | None = None
    test_accuracy_ci95: tuple[Share, Share] | None = None
    val_accuracy: Share | None = None


@dataclass(frozen=True, kw_only=True)
class FurtherParity:
    """How one further output differs from the source's; `rms_ratio` is the difference's size to its own."""

    name: str
    images: Count
    max_abs_diff: Magnitude
    largest: Magnitude
    rms_ratio: Magnitude


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How an artifact's answers differ from its source's, on the same images.

    `random_inputs` tells that those were no images; `further` are the outputs beside the scores.
    """

    images: Count
    source: str
    max_abs_diff: Magnitude
    max_softmax_shift: Magnitude
    top1_agreement: Share
    accuracy: Share | None = None
    accuracy_change: Annotated[float, Meta(ge=-1, le=1)] | None = None
    largest_logit: Magnitude | None = None
    tolerance: Magnitude | None = None
    random_inputs: bool = False
    further: tuple[FurtherParity, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that an artifact was made for; None where it runs anywhere.

    `hardware_compatibility` and `version_compatible` are classic TensorRT's: for which other GPUs, and
    whether for later releases, its builder was asked.
    """

    flavour: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    version: str | None = None
    install: str | None = None
    shape_profile: Mapping[str, tuple[Positive, ...]] | None = None
    instruction_set: str | None = None
    hardware_compatibility: str | None = None
    version_compatible: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ComputeRecord:
    """What a training computed with."""

    device: str
    threads: Positive | None
    arithmetic: str
    channels_last: bool
    plain_first: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options that a training was asked with, beside its recipe and seed; None where one was not given.

    `dataset` is as typed, or the model's own; how a source of pictures was read stands with the data set.
    The hashes are of the weights that were started from and of the teacher's, `loss_weights` are the classes'
    as the loss had them, whether computed or read from a file. `folds_carry` is Fold.split's `carries`.
    Folders and the run's name are not among them.
    """

    dataset: str
    images: Positive | None = None
    size: tuple[Positive, Positive] | None = None
    device: str = "cpu"
    threads: Positive | None = None
    precision: str = "auto"
    layout: str = "auto"
    loader: str = "memory"
    workers: Count = 0
    pretrained: str | None = None
    freeze: bool = False
    fold: str | None = None
    teacher: str | None = None
    levels: str | None = None
    grey: bool = False
    flip_test: bool = False
    ranks: Positive = 1
    sync_batch_norm: bool = False
    pretrained_sha256: str | None = None
    teacher_sha256: str | None = None
    loss_weights: tuple[float, ...] | None = None
    folds_carry: bool = False


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """On what, and how, the ranges of an int8 graph were measured."""

    images: Count
    source: str
    method: str
    seed: int
    per_channel: bool
    warning: str | None = None


@dataclass(frozen=True, kw_only=True)
class AccuracyDrop:
    """What int8 lost on pictures that training held out, in points, with its 95 % interval."""

    points: float
    ci95: tuple[float, float]
    images: Count
    allowed: Magnitude
    source: str | None


@dataclass(frozen=True, kw_only=True)
class PrecisionSpeed:
    """Milliseconds of a batch in fp32 and in int8, timed in turn on the machine of the export."""

    batch: Positive
    fp32_ms: Magnitude
    int8_ms: Magnitude


@dataclass(frozen=True, kw_only=True)
class BuilderMemory:
    """What TensorRT's builder reports of one engine, for the largest shapes of its profile."""

    activation_bytes: Count | None = None
    weights_bytes: Count | None = None
    scratch_bytes: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """One run of `cnnkit verify`: when, on which machine, and what it found."""

    date: str
    machine: str
    device: str
    tools: Mapping[str, str]
    images: Count
    agree: Count
    max_abs_diff: Magnitude | None
    latency_ms: Magnitude | None = None
    batch: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class Passport:
    """An artifact's JSON sidecar. `kept` holds the keys of its file that no field names, as they stood.

    The fields after `created` are facts of some artifacts only; a file leaves them out where they say
    nothing.
    """

    format: Format
    model: str
    precision: Precision
    trained: bool | None
    input: TensorSpec
    output: TensorSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing | None
    dataset: DatasetRef | None = None
    recipe: Recipe | None = None
    sha256: str = ""
    source_sha256: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    target: Target | None = None
    metrics: Metrics = field(default_factory=Metrics)
    parity: Parity | None = None
    parity_why: str | None = None
    source_parity: Parity | None = None
    created: str | None = None

    # of checkpoints, handed on to what is made of them
    seed: Seed | None = None
    training_images: Count | None = None
    compute: ComputeRecord | None = None
    teacher_compute: ComputeRecord | None = None
    pretrained: str | None = None
    options: TrainingOptions | None = None
    imported_from: str | None = None
    # of what came from elsewhere, and of all that is made of it: the hash of the file that came
    imported_sha256: str | None = None
    # where the preprocessing comes from, in words
    preprocessing_from: str | None = None
    # BY_SOURCE where the file came halved or quantised
    quantised_by: str | None = None
    model_file_sha256: str | None = None
    # of exports
    opset: Positive | None = None
    outputs: tuple[str, ...] = ()
    softmax: bool = False
    export_key: str | None = None
    proof_sha256: str | None = None
    verified: tuple[Verification, ...] = ()
    kept_fp32: tuple[str, ...] | None = None
    emulated_parity: Parity | None = None
    # of int8
    int8_dialect: Dialect | None = None
    reduced_range: bool | None = None
    kept_float: tuple[str, ...] | None = None
    calibration: CalibrationRecord | None = None
    accuracy_drop: AccuracyDrop | None = None
    accuracy_drop_why: str | None = None
    engine_accuracy_drop: AccuracyDrop | None = None
    speed: PrecisionSpeed | None = None
    # of engines
    layer_types: Mapping[str, Count] | None = None
    engine_types: Mapping[str, Count] | None = None
    builder_memory: BuilderMemory | None = None
    # of what another server loads
    server: str | None = None
    # of what chose its precision by measuring
    precision_why: str | None = None

    schema: int = SCHEMA
    kept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """How many scores a picture gets: one a class, or one for two classes."""
        return (self.output.shape[-1] if len(self.output.shape) > 1 else None) or len(self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; keys that were kept stand in their places again."""
        data = dataclasses.asdict(self)
        kept = data.pop("kept")
        found = {"schema": data.pop("schema"), **data}
        for name, silent in _SILENT.items():
            if found[name] == silent:
                del found[name]
        return schema.merged(found, kept)

    @classmethod
    def from_json(cls, data: Any, *, what: str = "the passport") -> Passport:
        """Read a passport. Raises CorruptError in one line, with the path of the field that is wrong."""
        if isinstance(data, Mapping) and "schema" in data and data["schema"] != SCHEMA:
            raise CorruptError(f"{what} has schema {data['schema']!r}; this release reads {SCHEMA}")
        again = "make the artifact again"
        if not isinstance(data, Mapping):
            raise CorruptError(f"{what} is no passport: a list or a single value; {again}")
        named = {key: value for key, value in data.items() if key != "kept"}
        found = schema.convert(cls, named, what=what, again=again)
        kept = schema.unknown(found, named)
        if "kept" in data:
            kept["kept"] = data["kept"]
        return dataclasses.replace(found, kept=kept)


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Passport)}
_ORDER = list(_DEFAULTS)
# the fields after `created`, with the value at which a file leaves each out
_SILENT = {name: _DEFAULTS[name] for name in _ORDER[_ORDER.index("created") + 1 : _ORDER.index("schema")]}


def as_precision(text: str) -> Precision:
    """Return the precision of that name. Raises ValueError for another word."""
    if text not in get_args(Precision):
        raise ValueError(f"no precision {text!r}; known: {', '.join(get_args(Precision))}")
    return cast(Precision, text)
