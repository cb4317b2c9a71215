"""`cnnkit compare` on real pairs of profiles, each taken by a process of its own: false alarms and misses.

    python -m tests.benchmarks.bench_compare [--backend ort|pytorch] [--pairs 20] [--keep FOLDER]

Of 20 pairs of profiles of one network, 19 compare as no change; of 20 whose second network takes a fifth
longer in one module of at least 0.1 ms, 19 name that module and no other; beside busy neighbours no equal
pair raises an alarm, and a slowed one that is not named is called too noisy. It really does: in ONNX
Runtime the module runs on the batch of five and once more on its first image, in PyTorch it waits for
a fifth of the time that it took. `--keep` leaves the profiles in a
folder, and takes only those that are not there yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_profile import exported
from toolkit.profiling.comparing.differences import END_TO_END, TOO_NOISY, compare
from toolkit.profiling.result import Profile

MODEL, MODULE, BATCH = "alexnet28", "features.7", 5
# what a user names with --model-file: the zoo's network, one layer of it slowed
MODEL_FILE = f'''
import time

import torch
from toolkit import zoo
from toolkit.models import ModelSpec


class Slow(torch.nn.Conv2d):
    def forward(self, x):
        start = time.perf_counter()
        result = super().forward(x)
        end = start + 1.2 * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return result


def build(channels, classes):
    network = zoo.model("{MODEL}").build(channels, classes)
    if SLOW:
        network.get_submodule("{MODULE}").__class__ = Slow
    return network


MODELS = ModelSpec(name="net", family="benchmark", input_shape=(1, 28, 28), build=build)
'''


def slowed_graph(source: Path, target: Path) -> None:
    """Write a graph whose convolution of MODULE is also run on the first image of the batch."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    node = next(n for n in graph.node if n.op_type == "Conv" and MODULE in _modules(n))
    for name, value in {"start": 0, "end": 1, "axis": 0}.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value]), f"slow_{name}"))
    bounds = ["slow_start", "slow_end", "slow_axis"]
    first = helper.make_node("Slice", [node.input[0], *bounds], ["slow_x"], name=f"{MODULE}/Slice")
    again = helper.make_node("Conv", ["slow_x", *node.input[1:]], ["slow_y"], name=f"{MODULE}/Conv_again")
    again.attribute.extend(node.attribute)
    place = list(graph.node).index(node) + 1
    for extra in (again, first):
        extra.metadata_props.extend(node.metadata_props)
        graph.node.insert(place, extra)
    # as an output of the graph it is no dead code
    graph.output.append(helper.make_tensor_value_info("slow_y", onnx.TensorProto.FLOAT, None))
    onnx.save(model, target)


def _modules(node: Any) -> list[str]:
    return next((json.loads(p.value) for p in node.metadata_props if p.key == "cnnkit.modules"), [])


def subjects(backend: str, folder: Path) -> dict[str, list[str]]:
    """Write both networks; return the words that profile each."""
    if backend == "ort":
        paths = {name: folder / f"{name}.onnx" for name in ("plain", "slow")}
        paths["plain"].write_bytes(exported(MODEL, folder).path.read_bytes())
        slowed_graph(paths["plain"], paths["slow"])
        return {name: [str(path)] for name, path in paths.items()}
    found = {}
    for name, slow in (("plain", False), ("slow", True)):
        file = folder / f"{name}.py"
        file.write_text(f"SLOW = {slow}\n{MODEL_FILE}")
        root = folder / name
        found[name] = ["net", "--untrained", "--model-file", str(file), "--artifacts", str(root)]
    return found


def profiled(words: list[str], backend: str, output: Path) -> Profile:
    """Return the profile that `cnnkit profile` writes in a process of its own, unless it is there."""
    if not output.exists():
        options = ["--backend", backend, "--batch", str(BATCH), "--threads", "1", "--output", str(output)]
        command = [sys.executable, "-m", "cnnkit", "profile", *words, *options]
        subprocess.run(command, env=os.environ, capture_output=True, check=True)
    return Profile.from_json(json.loads(output.read_text()))


def module_ms(found: Profile, backend: str) -> float:
    """Return the milliseconds of MODULE's row."""
    row = next(row for row in found.runs[0].rows if MODULE in row.modules)
    return row.cells[backend].latency_ms or 0.0


def changed(before: Profile, after: Profile) -> dict[str, str]:
    """Return the rows that changed, with what is said of each."""
    return {d.row: d.verdict for d in compare(before, after).differences if d.verdict != "no change"}


def main() -> None:
    """Print a line a pair, then both figures beside their promise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=("ort", "pytorch"), default="ort")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    quiet = named = alarms = silent = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        words = subjects(options.backend, folder)
        for pair in range(options.pairs):
            names = {"before": "plain", "after": "plain", "slowed": "slow"}
            found = {
                name: profiled(
                    words[subject], options.backend, folder / f"{options.backend}-{pair}-{name}.json"
                )
                for name, subject in names.items()
            }
            noise = changed(found["before"], found["after"])
            told = changed(found["before"], found["slowed"])
            told.pop(END_TO_END, None)  # slower too, and rightly so where the module holds a large share
            quiet += not noise
            alarms += any(verdict in ("slower", "faster") for verdict in noise.values())
            right = [row for row, verdict in told.items() if verdict == "slower" and MODULE in row]
            silent += not right and TOO_NOISY not in told.values()
            # what cuts the image out is a row of its own: it is only after, and no false name
            named += len(right) == 1 and sum(v in ("slower", "faster") for v in told.values()) == 1
            times = " ".join(f"{module_ms(p, options.backend):.3f}" for p in found.values())
            print(
                f"pair {pair}: {MODULE} {times} ms; equal: {noise or 'no change'}; slowed: {told}", flush=True
            )
    print(f"{options.backend}: equal pairs that compare as no change: {quiet} of {options.pairs} (19 of 20)")
    print(f"{options.backend}: equal pairs with a false alarm: {alarms} of {options.pairs}")
    print(f"{options.backend}: slowed pairs neither named nor called too noisy: {silent} of {options.pairs}")
    print(f"{options.backend}: pairs that name {MODULE} alone: {named} of {options.pairs} (19 of 20)")


if __name__ == "__main__":
    main()
