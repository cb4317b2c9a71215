"""The networks of the benchmark of choosing, trained, and every way to run each: the rows of its table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.choose_store import Store
from toolkit import zoo
from toolkit.artifacts import CHECKPOINT, Artifact, artifact_name, artifact_path, read_passport
from toolkit.backends import BACKENDS
from toolkit.choices import Budget
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.candidates import FileFinder
from toolkit.errors import CnnkitError
from toolkit.listings.records import SUFFIX as RECORD
from toolkit.machine.cpu import cpu
from toolkit.opening import Selection, as_asked, open_model
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Precision


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network of the benchmark: its side in pixels, its pictures and how long it is trained."""

    name: str
    size: int | None = None
    epochs: int = 2
    images: int = 12_000
    grey: bool = False

    @property
    def file(self) -> str:
        """What the names of its files begin with."""
        return artifact_name(self.name)


# ten of 32 to 96 pixels, after one of 28 whose calls are shorter than a thread takes to wake up
NETWORKS = (
    Trained(name="lenet-maxpool", epochs=3, images=20_000, grey=True),
    Trained(name="cifarnet-bn", epochs=4),
    Trained(name="timm:mobilenetv3_small_075", size=64, epochs=4),
    Trained(name="torchvision:squeezenet1_1", size=64),
    Trained(name="timm:regnetx_002", size=48),
    Trained(name="timm:lcnet_050", size=96),
    Trained(name="torchvision:resnet18", size=48, images=8_000),
    Trained(name="torchvision:shufflenet_v2_x0_5", size=96),
    Trained(name="timm:resnet10t", size=64, images=8_000),
    Trained(name="timm:mnasnet_small", size=64, epochs=4),
    Trained(name="timm:tinynet_e", size=64),
)
# measured where none are named: what needs no --cifar, and with one another network, too
UNASKED, UNASKED_COLOURED = ("lenet-maxpool",), ("cifarnet-bn",)
# held out for choosing: half a point is told from 0 with 6,000 pictures where some answers change either way
HELD_OUT = "0.5"
# points of accuracy: whatever int8 loses
ANY = 100.0
# where networks and what `choose` makes of them lie, and where the table has its own int8 files: those are
# whole, whatever they lose, and `choose` must neither find them nor put its own in their place
ARTIFACTS, WHOLE = "artifacts", "whole"
# an int8 file of the table is judged, and nothing is looked for, so that this much is never needed
SEARCH_S = 300.0


def network_of(word: str) -> Trained:
    """Return the network that a word names, `NAME` or `NAME:PIXELS`; of any that can be trained here.

    Raises NotFoundError with the nearest match, MissingExtraError for one of a package that is not installed.
    """
    known = {one.name: one for one in NETWORKS}
    name, _, size = word.rpartition(":")
    if not (name and size.isdecimal()):
        name, size = word, ""
    spec = zoo.model(name)
    found = known.get(name) or Trained(name=name, grey=spec.input_shape[0] == 1)
    return replace(found, size=int(size)) if size else found


def train(network: Trained, folder: Path, cifar: Path | None, store: Store) -> Artifact:
    """Return a network's checkpoint, trained now where none is there.

    Raises what `Store.insist` does, CnnkitError for one that is trained for another size.
    """
    root = folder / ARTIFACTS
    path = artifact_path(root, network.file)
    if not path.exists():
        store.insist(f"the training of {network.name}")
        if cifar is None and not network.grey:
            raise CnnkitError(f"{network.name} is trained on CIFAR-10: name its folder with --cifar")
        dataset = "fashion-mnist" if network.grey else f"folder:{cifar}"
        words = ["--dataset", dataset, "--epochs", str(network.epochs), "--images", str(network.images)]
        words += ["--validation-fraction", HELD_OUT, "--artifacts", str(root)]
        words += ["--size", str(network.size)] if network.size else []
        done = subprocess.run([sys.executable, "-m", "cnnkit", "train", network.name, *words], check=False)
        if done.returncode:
            raise CnnkitError(f"the training of {network.name} ended with status {done.returncode}")
    side = read_passport(path).input.shape[-1]
    if network.size not in (None, side):
        raise CnnkitError(
            f"{path} is trained at {side} pixels, and {network.size} are asked for: name another --folder"
        )
    return open_model(network.name, Selection(root=root, formats=(CHECKPOINT,)))


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One row of the exhaustive table."""

    backend: str
    precision: Precision
    dialect: Dialect | None = None
    threads: int | None = None
    settings: Mapping[str, str]


def configurations(batch: int, *, cores: int, compiles: bool) -> Iterator[Configuration]:
    """Yield the table at a batch: three runtimes' settings × their precisions, all that `choose` may try.

    `cores` are the machine's, `compiles` whether a C++ compiler is there.
    """
    graphs: tuple[tuple[Precision, Dialect | None], ...] = (
        *(("fp32", None), ("fp16", None), ("int8", UNSIGNED), ("int8", SYMMETRIC)),
    )
    counts = numbers_of_threads(cores)
    for precision, dialect in graphs:
        for threads in counts:
            # a single thread has nobody to wait for
            several = (threads or cores) > 1
            for level in ({}, {"level": "extended"}):
                for spinning in ({}, {"spinning": "off"}) if several else ({},):
                    yield Configuration(
                        backend="ort",
                        precision=precision,
                        dialect=dialect,
                        threads=threads,
                        settings={**level, **spinning},
                    )
    for precision, dialect in (("bf16", None), *graphs):
        for threads in counts:
            # a stream needs a thread, and two rows at least
            most = min(threads or cores, batch // 2)
            for streams in ("1", *(n for n in ("2", "4", "8") if int(n) <= most and batch % int(n) == 0)):
                yield Configuration(
                    backend="openvino",
                    precision=precision,
                    dialect=dialect,
                    threads=threads,
                    settings={} if streams == "1" else {"streams": streams},
                )
    for compiled in ({}, {"compile": "yes"}) if compiles else ({},):
        for laid_out in ({}, {"channels_last": "yes"}):
            for threads in counts:
                yield Configuration(
                    backend="pytorch", precision="fp32", threads=threads, settings={**laid_out, **compiled}
                )


def numbers_of_threads(cores: int) -> tuple[int | None, ...]:
    """Return each runtime's default, half of the cores where they are four or more, and one."""
    if cores == 1:
        return (None,)
    return (None, cores // 2, 1) if cores > 3 else (None, 1)


def candidates(network: Trained, folder: Path, source: Artifact, batch: int) -> dict[str, Candidate]:
    """Return the rows' candidates by `row_key`, their files made where they are missing.

    What cannot be had is said, and is no row.
    """
    root, budget = folder / ARTIFACTS, Budget(max_accuracy_drop=ANY)
    settings = ChooseSettings(search_s=SEARCH_S)
    _lay_record(source, folder / WHOLE)
    plain = FileFinder(source, root, settings, budget, print, judged=True)
    whole = FileFinder(source, folder / WHOLE, settings, budget, print, judged=True)
    compiles = any(shutil.which(word) for word in ("c++", "g++", "clang++"))
    found: dict[str, Candidate] = {}
    absent: dict[str, str] = {}
    for one in configurations(batch, cores=cpu().cores, compiles=compiles):
        backend = BACKENDS.load(one.backend)
        what = f"{one.backend} {one.precision} {one.dialect or ''}".strip()
        why = backend.availability().why_not or backend.lacks(one.precision)
        if why is not None:
            absent[what] = why
            continue
        stored = backend.computes.get(one.precision, one.precision)
        finder = whole if stored == "int8" else plain
        file = source if CHECKPOINT in backend.formats else finder.file("onnx", stored, one.dialect)
        if isinstance(file, str):
            absent[what] = file
            continue
        asked = as_asked(file, backend.opens(Selection(root=root, precision=one.precision)))
        row = Candidate(backend=one.backend, artifact=asked, settings=dict(one.settings), threads=one.threads)
        found[row_key(row)] = row
    for what, why in absent.items():
        print(f"  {network.name}: no {what}: {why}", flush=True)
    return found


def _lay_record(source: Artifact, whole: Path) -> None:
    """Lay the list of what a network was trained on beside its whole files: they are judged on the others."""
    record = source.path.with_name(f"{source.name}{RECORD}")
    if record.exists():
        home = whole / source.name
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy2(record, home / record.name)


def row_key(one: Candidate) -> str:
    """Return what tells a way to run a network from all others, its file by its hash."""
    return f"{one.key}@{one.artifact.passport.sha256[:12]}"


def file_key(one: Candidate) -> str:
    """Return what ways share that run the same bytes in one precision by one backend."""
    return f"{one.file_key}@{one.artifact.passport.sha256[:12]}"


def has_defaults(one: Candidate, backend: str) -> bool:
    """Tell whether a way is what people run without choosing: a backend's fp32 with its defaults."""
    plain = not one.settings and one.threads is None and one.artifact.passport.precision == "fp32"
    return plain and one.backend == backend
