"""`cnnkit show --features`: looks through one or two networks at a picture and writes the PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit import cli
from toolkit.opening import is_path


def _title(model: str) -> str:
    """Return what heads a network's column: a name as typed; of a path so much that runs are told apart."""
    return "/".join(Path(model).with_suffix("").parts[-2:]) if is_path(model) else model


def draw(
    models: Sequence[str],
    picture: Path,
    *,
    layers: Sequence[str],
    out: Path | None,
    root: Path,
    untrained: bool,
    seed: int,
    model_file: Path | None,
    as_json: bool,
) -> None:
    """Draw what layers of the models' checkpoints make of a picture; say what was drawn."""
    from toolkit.artifacts import CHECKPOINT
    from toolkit.inspection.features import draw_features, look
    from toolkit.inspection.sheet import write_png
    from toolkit.opening import Selection, open_model, require_torch

    require_torch()
    selection = Selection(
        root=root, formats=(CHECKPOINT,), untrained=untrained, seed=seed, model_file=model_file
    )
    seen = []
    for model in models:
        artifact = open_model(model, selection)
        cli.opened(artifact)
        seen.append(look(artifact, picture, layers=layers, title=_title(model), model_file=model_file))
        if seen[-1].inverted:
            cli.say(f"{picture} is inverted for {artifact.name}, whose training set has another ground")
    path = out or Path(f"{'-against-'.join(Path(model).stem for model in models)}-features.png")
    write_png(path, draw_features(seen))
    if as_json:
        cli.emit(
            {
                "picture": picture,
                "features": path,
                "models": [
                    {
                        "model": entry.title,
                        "layers": [
                            {"name": layer.name, "type": layer.type, "shape": layer.maps.shape}
                            for layer in entry.layers
                        ],
                    }
                    for entry in seen
                ],
            }
        )
    else:
        cli.stdout.print(f"drew {path}", markup=False, soft_wrap=True)
