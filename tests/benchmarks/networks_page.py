"""Walk fifty networks of timm and torchvision through export, verify, profile and serve; write the page.

python -m tests.benchmarks.networks_page walk LOG FOLDER [--pictures folder:PATH] [--only N,…] [--seconds N]
python -m tests.benchmarks.networks_page write LOG docs/networks.md

Each network comes in twice: its checkpoint, which `cnnkit export` takes through torch's newer exporter
(dynamo), and an .onnx file that torch's older one (TorchScript) wrote, as people bring them. A walk appends a
line a network and goes on where it was; it can be cut off at any time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

PRECISIONS = ("fp32", "fp16", "int8")
STEPS = ("export fp32", "export fp16", "export int8", "verify", "profile", "serve")
SIDE = 64
# sides of those that have nothing left at 64 pixels, or are meant for more
SIDES = {"torchvision:googlenet": 96, "torchvision:squeezenet1_1": 96}
CLASSES = 10
TRAINED = (
    "timm:mobilenetv3_small_050",
    "timm:mobilenetv2_050",
    "timm:resnet10t",
    "timm:resnet18",
    "timm:lcnet_050",
    "timm:regnetx_002",
    "timm:tinynet_e",
    "timm:repghostnet_050",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:mobilenet_v3_small",
)
UNTRAINED = (
    *(f"timm:mobilenet{name}" for name in ("v3_small_075", "v3_small_100", "v3_large_100", "v2_100")),
    *(f"timm:mobilenet{name}" for name in ("v4_conv_small_050", "v4_conv_small")),
    *(f"timm:{name}" for name in ("efficientnet_lite0", "tf_efficientnet_lite0", "efficientnet_b0")),
    *(f"timm:{name}" for name in ("mnasnet_small", "semnasnet_075", "fbnetc_100", "mixnet_s")),
    *(f"timm:{name}" for name in ("lcnet_100", "ghostnet_050", "ghostnet_100", "hardcorenas_a")),
    *(f"timm:{name}" for name in ("regnety_002", "regnetx_004", "resnet14t", "resnet18d", "skresnet18")),
    *(f"timm:{name}" for name in ("convnext_atto", "convnextv2_atto", "edgenext_xx_small", "rexnet_100")),
    *(f"timm:{name}" for name in ("repvgg_a0", "mobileone_s0", "starnet_s1", "fasternet_t0")),
    *(f"timm:{name}" for name in ("hgnetv2_b0", "ese_vovnet19b_dw", "dla46_c")),
    *(f"torchvision:{name}" for name in ("resnet18", "mobilenet_v2", "shufflenet_v2_x1_0")),
    *(f"torchvision:{name}" for name in ("squeezenet1_1", "mnasnet0_5", "regnet_y_400mf", "googlenet")),
)
NETWORKS = (*TRAINED, *UNTRAINED)
# of the brief trainings; the gate of int8 allows so many points of what they held out
TRAINING = ("--epochs", 4, "--batch", 64, "--validation-fraction", 0.4, "--size", SIDE)
ALLOWED_POINTS = 1.0


@dataclass(kw_only=True)
class Walked:
    """What came of one network by one way in: `yes`, or the reason, for each step."""

    name: str
    way: str
    size: int
    parameters: int
    trained: bool
    accuracy: float | None = None
    int8_drop: str | None = None
    seconds: float = 0.0
    steps: dict[str, str] = field(default_factory=dict)


def run(*words: object) -> tuple[int, str, str]:
    """Run a command in this process; return its status, stdout and its last line for people."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cnnkit import front_door

        done = CliRunner().invoke(front_door.main, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        return 70, done.stdout, f"{type(done.exception).__name__}: {done.exception}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return done.exit_code, done.stdout, lines[-1] if lines else ""


def said(status: int, told: str) -> str:
    """Return yes, or the reason in a few words."""
    reason = re.sub(r"\s+", " ", told).removeprefix("error: ")
    return "yes" if status == 0 else f"status {status}: {reason[:300]}"


def checkpoint(name: str, folder: Path, pictures: str | None) -> Path:
    """Return a network's checkpoint: trained briefly, or with seeded weights at the table's size."""
    from toolkit import zoo
    from toolkit.artifacts import artifact_name
    from toolkit.checkpoints import write_untrained

    side = SIDES.get(name, SIDE)
    made = folder / artifact_name(name) / f"{artifact_name(name)}.safetensors"
    if name in TRAINED:
        if not made.is_file():
            status, _, told = run("train", name, "--dataset", pictures, *TRAINING, "--artifacts", folder)
            if status:
                raise RuntimeError(said(status, told))
        return made
    spec = replace(zoo.model(name), input_shape=(3, side, side), classes=CLASSES)
    return write_untrained(spec, folder).path


def old_export(source: Path, target: Path) -> None:
    """Write what torch's older exporter makes of a checkpoint: a file without anything of ours."""
    import torch

    from toolkit.artifacts import open_artifact
    from toolkit.checkpoints import load_module

    artifact = open_artifact(source)
    module = load_module(artifact).eval()
    given = torch.zeros(1, *artifact.passport.input.shape[1:])  # type: ignore[arg-type]  # only the batch is None
    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (given,),
            target,
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["scores"],
            dynamic_axes={"pixels": {0: "n"}, "scores": {0: "n"}},
        )


def brought(source: Path, file: Path, name: str, folder: Path, pictures: str | None) -> tuple[int, str]:
    """Import an .onnx file with its preparation and classes, as its owner would."""
    from toolkit.artifacts import open_artifact

    passport = open_artifact(source).passport
    prepared = passport.preprocessing
    assert prepared is not None
    words: list[object] = ["import", file, "--name", name, "--artifacts", folder]
    words += ["--mean", ",".join(map(str, prepared.mean)), "--std", ",".join(map(str, prepared.std))]
    words += ["--resize", prepared.resize, "--crop-share", prepared.crop_share, "--replace"]
    words += ["--interpolation", prepared.interpolation]
    words += ["--dataset", pictures] if passport.dataset else ["--classes", ",".join(passport.classes)]
    status, _, told = run(*words)
    return status, told


def walk(name: str, way: str, folder: Path, pictures: str | None) -> Walked:
    """Take a network through every step but the serving, by one way in."""
    from toolkit.artifacts import artifact_name, open_artifact

    source = checkpoint(name, folder, pictures)
    passport = open_artifact(source).passport
    trained = bool(passport.trained)
    size = passport.input.shape[2] or 0
    count = sum(value.numel() for key, value in _state(source).items() if "running" not in key)
    found = Walked(name=name, way=way, size=size, parameters=count, trained=trained)
    found.accuracy = passport.metrics.test_accuracy
    started = time.perf_counter()
    root, opened = folder, str(source)
    if way == "torchscript":
        file = folder / "files" / f"{artifact_name(name)}-old.onnx"
        old_export(source, file)
        status, told = brought(source, file, f"{artifact_name(name)}-old", folder, pictures)
        if status:
            found.steps = dict.fromkeys(STEPS, said(status, told))
            return found
        opened = f"{artifact_name(name)}-old"
    words: list[object] = ["--format", "onnx", "--images", 1000 if trained else 64, "--artifacts", root]
    words += ["--calibration-images", 256 if trained else 32, "--json"]
    words += ["--max-accuracy-drop", ALLOWED_POINTS] if trained else []
    # in one go, which reads the pictures once; what fails is asked for again by itself, and then says why
    status, out, _ = run("export", opened, "--precision", ",".join(PRECISIONS), *words)
    made = [one["path"] for one in json.loads(out)["artifacts"]] if status == 0 else []
    found.steps.update({f"export {precision}": "yes" for precision in PRECISIONS if made})
    for precision in PRECISIONS if not made else ():
        status, out, told = run("export", opened, "--precision", precision, *words)
        found.steps[f"export {precision}"] = said(status, told)
        if status == 0:
            made += [one["path"] for one in json.loads(out)["artifacts"] if one["precision"] == precision]
    results = [run("verify", path, "--artifacts", root) for path in made]
    if made:
        quick = ("--backend", "ort", "--duration", 0.05, "--artifacts", root)
        profiled = [run("profile", *made, *quick)]
    for step, several in (("verify", results), ("profile", profiled if made else [])):
        bad = [said(status, told) for status, _, told in several if status]
        found.steps[step] = "; ".join(bad) or ("yes" if made else "nothing was made")
    for path in made:
        drop = open_artifact(Path(path)).passport.accuracy_drop
        if drop is not None:
            low, high = drop.ci95
            found.int8_drop = f"{drop.points:+.2f} ({low:+.2f} to {high:+.2f}, {drop.images} pictures)"
    found.seconds = time.perf_counter() - started
    return found


def _state(path: Path) -> dict[str, Any]:
    from toolkit.artifacts import open_artifact
    from toolkit.checkpoints import load_state

    return load_state(open_artifact(path))


def serve(rows: list[Walked], folder: Path) -> None:
    """Serve the fp32 files of several networks by one server, and ask each once for a picture."""
    from toolkit.artifacts import artifact_name

    names = {}
    for row in rows:
        suffix = "-old" if row.way == "torchscript" else "" if row.trained else "-untrained"
        name = artifact_name(row.name) + suffix
        if (folder / name / f"{name}.onnx").is_file():
            names[name] = row
        else:
            row.steps["serve"] = "nothing was made"
    if not names:
        return
    files = [str(folder / name / f"{name}.onnx") for name in names]
    command = [
        sys.executable,
        "-m",
        "cnnkit",
        "serve",
        *files,
        "--port",
        "0",
        "--no-page",
        "--backend",
        "ort",
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        url, told = None, ""
        for line in server.stderr or ():
            told = line
            if found := re.search(r"http://\S+", line):
                url = found[0].rstrip("/")
                break
        for name, row in names.items():
            row.steps["serve"] = _ask(url, name, row.size) if url else said(1, told)
    finally:
        server.terminate()
        server.wait(30)


def _ask(url: str, name: str, side: int) -> str:
    pixels = np.zeros((1, 3, side, side), dtype=np.float32)
    body = {
        "inputs": [
            {
                "name": "input",
                "datatype": "FP32",
                "shape": list(pixels.shape),
                "data": pixels.ravel().tolist(),
            }
        ]
    }
    try:
        about = json.load(urllib.request.urlopen(f"{url}/v2/models/{name}", timeout=60))
        body["inputs"][0]["name"] = about["inputs"][0]["name"]
        request = urllib.request.Request(
            f"{url}/v2/models/{name}/infer", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        reply = json.load(urllib.request.urlopen(request, timeout=60))
    except OSError as error:
        detail = error.read().decode()[:200] if hasattr(error, "read") else ""
        return f"{error} {detail}"
    scores = reply["outputs"][0]["data"]
    return "yes" if len(scores) == CLASSES and np.isfinite(scores).all() else f"answered {scores[:3]}"


def done_already(log: Path) -> set[tuple[str, str]]:
    """Return the networks, and their ways in, that a log holds."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return {(entry["name"], entry["way"]) for entry in map(json.loads, lines)}


def walk_all(log: Path, folder: Path, pictures: str | None, only: set[str], seconds: float) -> None:
    """Walk what a log does not hold yet, some at a time; begin no more after so many seconds (status 1)."""
    until = time.monotonic() + seconds
    os.environ.setdefault("CNNKIT_ARTIFACTS", str(folder))
    known = done_already(log)
    ways = [(name, way) for name in (*UNTRAINED, *TRAINED) for way in ("dynamo", "torchscript")]
    left = [pair for pair in ways if pair not in known and (not only or pair[0] in only)]
    for start in range(0, len(left), 2):
        if time.monotonic() > until:
            sys.exit(1)
        rows = []
        for name, way in left[start : start + 2]:
            try:
                rows.append(walk(name, way, folder, pictures))
            except Exception as error:  # the table tells it
                told = f"{type(error).__name__}: {error}"[:300]
                rows.append(Walked(name=name, way=way, size=0, parameters=0, trained=False))
                rows[-1].steps = dict.fromkeys(STEPS, told)
            print(name, way, rows[-1].steps, f"{rows[-1].seconds:.0f} s", flush=True)
        serve([row for row in rows if "yes" in row.steps.values()], folder)
        with log.open("a") as out:
            out.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
        for row in rows:
            if not row.trained:  # weights of fifty networks are much to keep
                for place in folder.glob(f"{row.name.replace(':', '-')}*"):
                    if row.way == "torchscript":
                        shutil.rmtree(place, ignore_errors=True)


HEAD = """# Networks from elsewhere

Networks of timm and torchvision at 64 pixels (96 where said), ten classes, walked by
`python -m tests.benchmarks.networks_page walk LOG FOLDER` on {machine}.
Each comes in by both of torch's exporters: *dynamo* is `cnnkit export` of its checkpoint, *TorchScript* is
`cnnkit import` and `export` of an .onnx file that `torch.onnx.export(dynamo=False)` wrote. Export means
fp32, fp16 and int8 as ONNX, each judged against its source; verify and profile mean every file that was
made, serve means one request to the fp32 one.

Trained ones learned {training} of CIFAR-10-JPEG75 (a subset of 8,000 + 2,000 lossy pictures, the last three
of all 50,000 + 10,000, enlarged; no figures to compare with published ones), of which 40 % were held out;
int8 was judged on those, {allowed:g} point allowed. The others have seeded, untrained weights and were
judged on random images.

**{all_yes} of {count} networks: yes at every step, both ways.**{left}
"""


def write(log: Path, page: Path) -> None:
    """Write the page from a log."""
    from toolkit.machine.cpu import cpu

    rows = {(row["name"], row["way"]): row for row in map(json.loads, log.read_text().splitlines())}
    networks = [name for name in NETWORKS if any(key[0] == name for key in rows)]
    unwalked = [name for name in NETWORKS if name not in networks]
    pairs = {name: [rows.get((name, way)) for way in ("dynamo", "torchscript")] for name in networks}
    complete = [
        name
        for name, pair in pairs.items()
        if all(row and all(row["steps"].get(step) == "yes" for step in STEPS) for row in pair)
    ]
    parts = [
        HEAD.format(
            machine=f"{os.cpu_count()} cores of {cpu().name}, {datetime.now(UTC):%B %Y}",
            training="4 epochs",
            allowed=ALLOWED_POINTS,
            all_yes=len(complete),
            count=len(networks),
            left=f" Not walked yet: {', '.join(f'`{name}`' for name in unwalked)}." if unwalked else "",
        ),
        "| network | size | parameters | test accuracy | int8 loses, points | dynamo | TorchScript |",
        "|---|---|---|---|---|---|---|",
    ]
    reasons = []
    for name, pair in pairs.items():
        first = next(row for row in pair if row)
        cells = []
        for row in pair:
            bad = [step for step in STEPS if row and row["steps"].get(step) != "yes"]
            cells.append("not walked" if row is None else "yes" if not bad else f"no: {', '.join(bad)}")
            reasons += [f"- `{name}`, {row['way']}, {step}: {row['steps'].get(step)}" for step in bad if row]
        accuracy = f"{first['accuracy']:.3f}" if first["accuracy"] is not None else "–"
        drop = first["int8_drop"] or "–"
        millions = f"{first['parameters'] / 1e6:.1f} M"
        parts.append(
            f"| `{name}` | {first['size']} | {millions} | {accuracy} | {drop} | {cells[0]} | {cells[1]} |"
        )
    if reasons:
        parts += ["", "## What is not yes", "", *reasons]
    page.write_text("\n".join(parts) + "\n")


def main() -> None:
    """Walk or write, as the command line says."""
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    what, log, place, *more = sys.argv[1:]
    if what == "write":
        write(Path(log), Path(place))
        return
    named = dict(zip(more[::2], more[1::2], strict=True))
    only = set(filter(None, named.get("--only", "").split(",")))
    walk_all(
        Path(log),
        Path(place).absolute(),
        named.get("--pictures"),
        only,
        float(named.get("--seconds", "inf")),
    )


if __name__ == "__main__":
    main()
