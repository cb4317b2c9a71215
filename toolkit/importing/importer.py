"""`import_`: any source becomes an artifact that every command treats as one of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit import zoo
from toolkit.artifacts import artifacts_root, path_of
from toolkit.errors import CnnkitError
from toolkit.graphs import GRAPH
from toolkit.importing import IMAGES, Imported, ImportRequest, Order, PixelWishes
from toolkit.importing.checkpoint import import_checkpoint
from toolkit.importing.judging import Progress
from toolkit.importing.run import import_graph
from toolkit.passports import Layout
from toolkit.preprocessing import Interpolation, Preprocessing, Resize
from toolkit.published import weights_of
from toolkit.telling import Tell, silent


def import_(
    source: str | Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    dataset: str | None = None,
    size: tuple[int, int] | None = None,
    layout: Layout | None = None,
    order: Order | None = None,
    resize: Resize | None = None,
    crop_share: float | None = None,
    interpolation: Interpolation | None = None,
    scale: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    find: bool = False,
    logits: str | None = None,
    fixed: Mapping[str, str | float] | None = None,
    model: str | None = None,
    model_file: Path | str | None = None,
    renames: Mapping[str, str] | None = None,
    key: str | None = None,
    pretrained: Path | str | None = None,
    images: int | None = IMAGES,
    seed: int = 0,
    data_dir: Path | str | None = None,
    fresh: bool = False,
    root: Path | str | None = None,
    tell: Tell = silent,
    progress: Progress = lambda doing, share: None,
) -> Imported:
    """Make an artifact of a network from elsewhere: an .onnx file, or weights of `model`. Runs no code of it.

    A source `timm:NAME` or `torchvision:NAME` is the published weights of a package's network: of the file
    `pretrained`, or of this machine's caches; nothing is fetched.

    `classes` are names in order, `dataset` the labelled pictures that it is judged on and int8 is calibrated
    with. How pixels become its input is `preprocessing`, or what `size` (height, width) to `std` say of it
    (`mean` and `std` in units of pixel × scale, one figure or one a channel); what nobody says is taken from
    the source (cnnkit's, Ultralytics' metadata), else assumed, and `tell` hears it. With `find` it is looked
    for on the pictures, at most a minute. `logits` names the output that holds the class scores, `fixed` the
    values of inputs beside the pictures'. `model`, `model_file`, `renames` and `key` (the part
    of a larger file) are for weights. Accuracy is
    measured on `images` test pictures, None for all. `fresh` replaces what has the name.

    Raises NotFoundError, CorruptError, ShapeError, and CnnkitError where other content has the name.
    """
    path = Path(source)
    if zoo.library_of(str(source)):
        if model is not None or model_file is not None:
            raise CnnkitError(f"{source} names its network itself; --model is for files of weights")
        model, path = str(source), weights_of(str(source), path_of(pretrained))
    elif pretrained is not None:
        raise CnnkitError("--pretrained FILE is weights of a package's network; SOURCE names it: timm:NAME")
    pixels = PixelWishes(
        size=size,
        layout=layout,
        order=order,
        resize=resize,
        crop_share=crop_share,
        interpolation=interpolation,
        scale=scale,
        mean=tuple(mean) if mean is not None else None,
        std=tuple(std) if std is not None else None,
        whole=preprocessing,
    )
    request = ImportRequest(
        source=path,
        root=artifacts_root(root),
        name=name,
        classes=tuple(classes) if classes is not None else None,
        dataset=dataset,
        data_dir=path_of(data_dir),
        pixels=pixels,
        logits=logits,
        fixed={key: str(value) for key, value in (fixed or {}).items()},
        find=find,
        images=images,
        seed=seed,
        fresh=fresh,
    )
    if path.suffix.lower() == f".{GRAPH}":
        _refuse(
            "belong to weights; an .onnx file holds its whole network",
            model=model,
            model_file=model_file,
            rename=renames,
            key=key,
        )
        return import_graph(request, tell, progress)
    _refuse(
        "belong to .onnx files; the input and the scores of --model are known",
        logits=logits,
        fix=fixed,
        input_layout=layout,
    )
    return import_checkpoint(
        request,
        model=model,
        model_file=path_of(model_file),
        renames=renames or {},
        key=key,
        tell=tell,
        progress=progress,
    )


def _refuse(why: str, **given: object) -> None:
    typed = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if typed:
        raise CnnkitError(f"{' and '.join(typed)} {why}")
