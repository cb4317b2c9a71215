"""Every JSON body of the page's own requests, as a type."""

from __future__ import annotations

from msgspec import Struct


class EngineFacts(Struct):
    """One way to run a model: a backend and a precision. `file` and `bytes` are what it opens."""

    id: str
    title: str
    precision: str
    file: str
    bytes: int
    serves: bool


class ExampleFacts(Struct):
    """One test picture that the page offers: its number and what it is labelled."""

    index: int
    label: str


class ModelFacts(Struct):
    """What the page says of one model before any picture. What is None is said nowhere.

    `figure_why` says why small drawings cannot be centred, `heat_why` why no heat map can be made,
    `inside_why` why no layers are shown; `choice` is what chose the engine that serves, in words.
    """

    name: str
    summary: str
    takes: str
    classes: list[str]
    colours: bool
    engines: list[EngineFacts]
    absent: list[str]
    examples: list[ExampleFacts]
    examples_from: str
    card: list[tuple[str, str]]
    choice: str | None = None
    figure_why: str | None = None
    inside_why: str | None = None
    heat_why: str | None = None


class PageFacts(Struct):
    """What the page is about. `served` changes with any file that is served."""

    served: str
    max_bytes: int
    models: list[ModelFacts]


class SeenPicture(Struct):
    """The exact picture that the network was given: a PNG as a data URL, and what was done to it first."""

    png: str
    height: int
    width: int
    inverted: bool
    enlarged: float | None = None
    moved: bool = False


class EngineAnswer(Struct):
    """What one engine says, likeliest first; `why_not` where it cannot.

    `difference` is its largest difference of a probability from the first engine's; None for the first.
    """

    engine: str
    top: list[tuple[str, float]] = []
    decode_ms: float | None = None
    preprocess_ms: float | None = None
    infer_ms: float | None = None
    difference: float | None = None
    why_not: str | None = None


class PictureAnswer(Struct):
    """What a model's engines say of one picture; `nothing` where there is nothing to look at, and why."""

    model: str
    served: str
    answers: list[EngineAnswer] = []
    seen: SeenPicture | None = None
    thumbnail: str | None = None
    nothing: str | None = None


class LayerPicture(Struct):
    """What one layer made of the picture: `tiles` is base64 of `shown` × `height` × `width` bytes.

    A byte 0 stands for `low` and 255 for `high`; `count` channels there are in all.
    """

    name: str
    type: str
    shape: list[int]
    count: int
    shown: int
    height: int
    width: int
    low: float
    high: float
    tiles: str


class InsideAnswer(Struct):
    """Every layer's output for one picture, computed with `file`."""

    model: str
    file: str
    layers: list[LayerPicture] = []
    nothing: str | None = None


class HeatAnswer(Struct):
    """Where the evidence lies: base64 of `height` × `width` bytes; None, with `said`, for nowhere."""

    model: str
    label: str
    layer: str
    said: str
    height: int = 0
    width: int = 0
    heat: str | None = None


class TimedStep(Struct):
    """One executed step: the layers that it computes, none where it only moves data."""

    layers: list[str]
    ms: float


class TimesAnswer(Struct):
    """How long one engine's steps took under its profiler; means of `runs` runs."""

    engine: str
    file: str
    runs: int
    steps: list[TimedStep]
    total_ms: float | None = None
