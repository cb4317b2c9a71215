"""A checkpoint's answers on a device against the CPU's: `python -m tests.gpu.answers FILE --device cuda`.

Both compute in fp32 on the same real pictures; TF32 is off, as everywhere in the toolkit. The largest
difference allowed is that of an fp32 export on another machine: a share of max(1, the largest logit). A
class may then change only where two scores are that close. Prints one JSON object; exits with 4 where the
answers differ by more, or where a GPU was named and holds nothing afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporters.proving.parity import FLOORS
from toolkit.answering import answers, data_word, inputs_of
from toolkit.artifacts import CHECKPOINT, open_artifact
from toolkit.backends import EngineOptions, opener
from toolkit.unseen import unseen_pictures

PICTURES = 500


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two networks' (N, K) logits lie apart, and how often the likeliest class is the same."""

    images: int
    agree: int
    max_abs_diff: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference is rounding."""
        return self.max_abs_diff <= self.tolerance


def agreement(reference: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    """Compare logits with a reference's; a value that is no number differs infinitely."""
    difference = np.abs(found.astype(np.float64) - reference)
    difference[~np.isfinite(difference)] = np.inf
    return Agreement(
        images=len(reference),
        agree=int((found.argmax(1) == reference.argmax(1)).sum()),
        max_abs_diff=float(difference.max()),
        tolerance=FLOORS["fp32"] * max(1.0, float(np.abs(reference).max())),
    )


def compare_devices(path: Path, device: str) -> Agreement:
    """Ask a checkpoint about its data set's test pictures on the CPU and on a device."""
    artifact = open_artifact(path)
    known = artifact.passport
    pictures = unseen_pictures(known, data_word(known, None), beside=path, images=PICTURES).dataset.test
    logits = []
    for where in ("cpu", device):
        with opener(CHECKPOINT).open(artifact, EngineOptions(device=where)) as engine:
            logits.append(answers(engine, inputs_of(pictures, artifact)))
    return agreement(*logits)


def device_bytes(device: str) -> int | None:
    """Return the most that tensors held on a GPU, which nothing computed on where it is 0; None for a CPU."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.answers")
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    found = compare_devices(asked.file, asked.device)
    held = device_bytes(asked.device)
    finite = np.isfinite(found.max_abs_diff)
    shown = {**asdict(found), "max_abs_diff": found.max_abs_diff if finite else None}
    print(json.dumps({"ok": found.ok and held != 0, **shown, "device_bytes": held}))
    if not found.ok:
        print(
            f"{asked.file.name}: {asked.device} differs from the CPU by {found.max_abs_diff:.2g}, allowed is "
            f"{found.tolerance:.2g}; {found.agree} of {found.images} pictures were answered alike",
            file=sys.stderr,
        )
    if held == 0:
        print(f"{asked.file.name}: {asked.device} was named, and held nothing", file=sys.stderr)
    return 0 if found.ok and held != 0 else 4


if __name__ == "__main__":
    sys.exit(main())
