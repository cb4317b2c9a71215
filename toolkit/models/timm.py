"""timm's networks by name: `timm:mobilenetv3_small_100`, `timm:resnet18.a1_in1k` with a weights' tag.

Source: https://github.com/huggingface/pytorch-image-models (Apache 2.0); each network's paper stands there.
"""

from __future__ import annotations

import contextlib
import difflib
import io
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from toolkit.errors import NotFoundError, needs_extra
from toolkit.models import Library, ModelSpec, Published
from toolkit.models._library_recipes import RECIPES
from toolkit.preprocessing import Interpolation, Preprocessing, Resize

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEME = "timm"
_RESIZE: dict[str, Resize] = {"center": "crop", "squash": "squash", "border": "pad"}
_BORDER_NOTE = "its pictures are padded in the mean colour by timm, and in their border's own here"
_CLASSES = 1000  # of a head that is asked for where the published network has none
_ON_THE_HUB = ("model.safetensors", "pytorch_model.bin")


def names(pattern: str) -> Sequence[str]:
    """Return timm's networks that a pattern fits; one with a dot is for networks with a weights' tag."""
    with needs_extra("timm"):
        import timm
    found: Sequence[str] = timm.list_models(pattern, pretrained="." in pattern)
    return found


def find(name: str) -> ModelSpec:
    """Return one of timm's networks. Raises NotFoundError with the nearest match, MissingExtraError."""
    with needs_extra("timm"):
        import timm
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise _unknown(architecture, timm.list_models())
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", pretrained=True)]
        raise NotFoundError(
            f"timm has no weights {tag!r} of {architecture}; known: {', '.join(tags) or 'none'}"
        ) from None
    channels, height, width = config.input_size
    return ModelSpec(
        name=f"{SCHEME}:{name}",
        family=SCHEME,
        input_shape=(channels, height, width),
        classes=config.num_classes or _CLASSES,
        build=partial(_build, architecture),
        dataset=None,
        recipes=RECIPES,
        summary=" ".join(filter(None, (config.tag, config.license))),
        source=config.origin_url or "timm",
        published=_published(name, config) if config.num_classes else None,
    )


def _unknown(name: str, known: Sequence[str]) -> NotFoundError:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f". Did you mean '{SCHEME}:{near[0]}'?" if near else ""
    return NotFoundError(
        f"no network {name!r} in timm; `cnnkit models '{SCHEME}:*{name[:4]}*'` lists those called alike{hint}"
    )


def _build(architecture: str, channels: int, classes: int) -> nn.Module:
    with needs_extra("timm"):
        import timm
    module: nn.Module = timm.create_model(
        architecture, pretrained=False, in_chans=channels, num_classes=classes
    )
    return module


def _published(name: str, config: Any) -> Published:
    mode = config.crop_mode or "center"
    notes = (config.license, _BORDER_NOTE if mode == "border" else None)
    return Published(
        preprocessing=Preprocessing(
            size=tuple(config.input_size[1:]),
            channels=config.input_size[0],
            resize=_RESIZE[mode],
            crop_share=min(1.0, config.crop_pct or 0.875),
            interpolation=cast(Interpolation, config.interpolation),
            mean=tuple(config.mean),
            std=tuple(config.std),
            formula="divide",
        ),
        classes=_class_names(config),
        files=partial(_files, config),
        load=partial(_load, name),
        note="; ".join(note for note in notes if note),
    )


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Return the first word for each class, as far as timm knows the set of classes; each once."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if config.label_names:
        return tuple(config.label_names)
    subset = infer_imagenet_subset({"num_classes": config.num_classes})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    words = [text.partition(",")[0] for text in info.label_descriptions()]
    called = Counter(words)
    # two classes of ImageNet are cranes: those keep the number of their meaning, too
    return tuple(
        f"{word} ({synset})" if called[word] > 1 else word
        for word, synset in zip(words, info.label_names(), strict=True)
    )


def _files(config: Any) -> list[Path]:
    """Return where caches keep the weights: Hugging Face's and torch's; nothing is asked of a network."""
    import torch
    from huggingface_hub import constants, try_to_load_from_cache

    found: list[Path] = []
    if config.hf_hub_id:
        files = (config.hf_hub_filename,) if config.hf_hub_filename else _ON_THE_HUB
        for file in files:
            cached = try_to_load_from_cache(config.hf_hub_id, file)
            folder = Path(constants.HF_HUB_CACHE) / f"models--{config.hf_hub_id.replace('/', '--')}"
            found.append(Path(cached) if isinstance(cached, str) else folder / file)
    url = config.url[0] if isinstance(config.url, tuple) else config.url
    if url and not config.custom_load:
        found.append(Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2])
    return found


def _load(name: str, weights: dict[str, Tensor]) -> nn.Module:
    """Let timm fit published weights to its network, as it does with those that it fetches itself."""
    import timm

    with contextlib.redirect_stderr(io.StringIO()):
        module: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": weights}
        )
    return module


MODELS = Library(
    scheme=SCHEME,
    summary="lists timm's networks",
    names=names,
    find=find,
)
