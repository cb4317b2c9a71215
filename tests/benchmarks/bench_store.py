"""Pictures larger than memory: the store and `--store off` beside WebDataset's loader on the same tar files.

`python -m tests.benchmarks.bench_store --gigabytes 4` draws so many gigabytes of pictures (as 224×224 uint8),
as JPEGs in tar files, and prints images a second of one epoch of batches, the first batch and the peak of
resident memory, each measured in a process of its own. WebDataset stands in an environment of its own:
`--webdataset PYTHON` names its interpreter, without it that row is left out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIDE, BATCH, OF_A_SHARD = 224, 64, 500
REPO = Path(__file__).parents[2]

WEBDATASET = f"""
import json, resource, sys, time
import numpy as np, torch, webdataset as wds
from PIL import Image
torch.set_num_threads(1)
def pixels(image):
    small = image.resize(({SIDE}, {SIDE}), Image.Resampling.BOX)
    return np.ascontiguousarray(np.moveaxis(np.asarray(small), -1, 0))
shards, workers = sys.argv[1], int(sys.argv[2])
started = time.perf_counter()
data = (wds.WebDataset(shards, shardshuffle=100, empty_check=False).shuffle(1000).decode("pil")
        .to_tuple("jpg", "cls").map_tuple(pixels, int).batched({BATCH}))
seen, first = 0, None
for images, labels in wds.WebLoader(data, batch_size=None, num_workers=workers):
    first = first or time.perf_counter() - started
    seen += len(images)
seconds = time.perf_counter() - started
print(json.dumps({{"images": seen, "rate": seen / seconds, "first_s": first}}))
"""

OURS = f"""
import json, sys, time
import torch
torch.set_num_threads(1)
from toolkit.allocation import reuse_freed_memory
from toolkit.datasets import dataset_of
from toolkit.listings import Reading
from toolkit.models import Recipe
from toolkit.preprocessing import Preprocessing
from toolkit.training.data.batches import InputTransform, MemoryBatches
from toolkit.training.data.workers import WorkerBatches
word, kind, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
reuse_freed_memory()  # as `cnnkit train` does
started = time.perf_counter()
data = dataset_of(word).load(word, None, False, (3, {SIDE}, {SIDE}), Reading(store=kind == "on"))
loaded = time.perf_counter() - started
prep = Preprocessing(size=({SIDE}, {SIDE}), channels=3)
transform = InputTransform(preprocessing=prep, device=torch.device("cpu"))
recipe = Recipe(name="x", batch={BATCH})
if workers:
    batches = WorkerBatches(data.train, recipe, 0, transform, workers=workers)
else:
    batches = MemoryBatches(data.train, recipe, 0, transform)
seen, first, began = 0, None, time.perf_counter()
for images, labels in batches.epoch(0):
    first = first or time.perf_counter() - started
    seen += len(labels)
seconds = time.perf_counter() - began
print(json.dumps({{"images": seen, "rate": seen / seconds, "first_s": first, "loaded_s": loaded}}))
"""


def draw(folder: Path, pictures: int) -> None:
    """Write tar shards of JPEGs that compress about as photographs do: soft noise of several scales."""
    folder.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    random = np.random.default_rng(0)
    coarse = [
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((320, 256))
        for _ in range(64)
    ]
    for shard in range(0, pictures, OF_A_SHARD):
        with tarfile.open(folder / f"{shard // OF_A_SHARD:05}.tar", "w") as tar:
            for index in range(shard, min(pictures, shard + OF_A_SHARD)):
                fine = random.normal(0, 12, (256, 320, 1))
                one = np.asarray(coarse[index % 64], np.float64) + fine + random.integers(-40, 40, 3)
                buffer = io.BytesIO()
                Image.fromarray(one.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
                for ending, content in (("jpg", buffer.getvalue()), ("cls", str(index % 10).encode())):
                    info = tarfile.TarInfo(f"{index:07}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def measured(python: str, code: str, *words: str, cache: Path) -> dict[str, float]:
    """Run code in a process of its own; return what it printed and its tree's peak of resident memory."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen([python, "-c", code, *words], stdout=subprocess.PIPE, env=environment)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_resident(pid) for pid in _tree(process.pid)))
        time.sleep(0.05)
    assert process.stdout is not None
    return {**json.loads(process.stdout.read()), "peak_bytes": peak}


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _resident(pid: int) -> int:
    """Return a process's share of resident memory: pages of several processes are counted once."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--webdataset", help="interpreter of an environment with webdataset and torch")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cnnkit-bench-store")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    pictures = int(asked.gigabytes * 1e9 / (3 * SIDE * SIDE))
    shards, cache = asked.folder / f"shards-{pictures}", asked.folder / "cache"
    if not shards.exists():
        draw(shards, pictures)
    word = f"tar:{shards}/*.tar"
    rows = {
        "store, being made": (sys.executable, OURS, word, "on", "0"),
        "store": (sys.executable, OURS, word, "on", "0"),
        "store, workers": (sys.executable, OURS, word, "on", str(asked.workers)),
        "--store off, workers": (sys.executable, OURS, word, "off", str(asked.workers)),
    }
    if asked.webdataset:
        last = (pictures - 1) // OF_A_SHARD
        braces = f"{shards}/{{00000..{last:05}}}.tar"
        rows["WebDataset, workers"] = (asked.webdataset, WEBDATASET, braces, str(asked.workers))
    print(
        f"{pictures:,} pictures, {pictures * 3 * SIDE * SIDE / 1e9:.2f} GB as pixels, {asked.workers} workers"
    )
    for name, (python, code, *words) in rows.items():
        found = measured(python, code, *words, cache=cache)
        loaded = f", ready after {found['loaded_s']:.1f} s" if "loaded_s" in found else ""
        print(
            f"{name:24} {found['rate']:8,.0f} images/s, first batch after {found['first_s']:.2f} s{loaded}, "
            f"peak {found['peak_bytes'] / 1e9:.2f} GB"
        )


if __name__ == "__main__":
    main()
