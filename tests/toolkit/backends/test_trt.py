"""TensorRT's backend: what it says without a GPU, and the code for GPUs on a driver that is host memory."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stamping import stamp
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.errors import UnavailableError
from toolkit.machine.cuda import device_count
from toolkit.passports import Passport, Target, TensorSpec
from toolkit.tensorrt.fit import Here, misfit

HERE = Path(__file__).parent
REPO = Path(__file__).parents[3]
TARGET = Target(
    flavour="rtx",
    compute_capabilities=("SM86", "SM89"),
    version="1.7.1.116",
    install="pip install tensorrt-rtx-cu13==1.7.1.116",
)


@pytest.fixture
def engine(tmp_path: Path) -> Artifact:
    path = tmp_path / "tiny" / "tiny.fp16.engine"
    path.parent.mkdir()
    path.write_bytes(b"an engine")
    passport = Passport(
        format="trt",
        model="tiny",
        precision="fp16",
        trained=True,
        input=TensorSpec(name="input", shape=(None, 1, 2, 2), layout="NCHW"),
        output=TensorSpec(name="logits", shape=(None, 4), layout="NC"),
        classes=tuple("abcd"),
        preprocessing=None,
        target=TARGET,
    )
    return stamp(path, passport)


def test_an_engine_that_fits_has_nothing_said_of_it(engine: Artifact) -> None:
    assert misfit(engine, Here(capability="SM89", versions={"rtx": "1.7.1.116"})) is None
    assert misfit(engine, Here(capability=None, versions={"rtx": "1.7.1.116"})) is None


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (
            Here(capability="SM90", versions={"rtx": "1.7.1.116"}),
            "tiny.fp16.engine was built for SM 8.6, 8.9 by TensorRT-RTX 1.7.1.116; this GPU is SM 9.0, which "
            "TensorRT-RTX does not run on: pip install 'cnnkit[tensorrt]' (classic TensorRT), then "
            "`cnnkit export tiny --format trt --precision fp16` builds it here",
        ),
        (
            Here(capability="SM100", versions={"rtx": "1.7.1.116", "classic": "11.4.0"}),
            "`cnnkit export tiny --format trt --precision fp16 --flavour classic` builds it here",
        ),
        (
            Here(capability="SM120", versions={"rtx": "1.7.1.116"}),
            "this GPU is SM 12.0: `cnnkit export tiny --format trt --precision fp16 --target sm120`",
        ),
        (
            Here(capability="SM120", versions={"rtx": "1.8.0.5"}),
            "built for SM 8.6, 8.9 by TensorRT-RTX 1.7.1.116; here is 1.8.0.5: "
            "pip install tensorrt-rtx-cu13==1.7.1.116, or `cnnkit export tiny --format trt",
        ),
        (
            Here(capability="SM89", versions={"classic": "11.4.0"}),
            "here is TensorRT: pip install tensorrt-rtx-cu13==1.7.1.116",
        ),
        (Here(capability="SM89", versions={}), "no TensorRT is installed here: pip install"),
    ],
)
def test_a_misfit_is_one_line_from_the_passport(engine: Artifact, here: Here, words: str) -> None:
    said = misfit(engine, here)
    assert said is not None
    assert words in said
    assert "\n" not in said


def test_an_engine_of_the_other_flavour_says_which(engine: Artifact) -> None:
    target = Target(flavour="classic", version="11.4.0", compute_capabilities=("SM90",))
    classic = dataclasses.replace(engine, passport=dataclasses.replace(engine.passport, target=target))
    said = misfit(classic, Here(capability="SM89", versions={"rtx": "1.7.1.116"}))
    assert said is not None
    assert "by TensorRT 11.4.0; here is TensorRT-RTX" in said


@pytest.mark.parametrize(
    ("level", "capability", "fits"),
    [
        ("AMPERE_PLUS", "SM120", True),
        ("AMPERE_PLUS", "SM75", False),
        ("SAME_COMPUTE_CAPABILITY", "SM120", False),
        (None, "SM120", False),
        (None, "SM86", True),
    ],
)
def test_a_classic_engine_runs_on_the_gpus_that_it_was_asked_for(
    engine: Artifact, level: str | None, capability: str, fits: bool
) -> None:
    target = Target(flavour="classic", compute_capabilities=("SM86",), hardware_compatibility=level)
    classic = dataclasses.replace(engine, passport=dataclasses.replace(engine.passport, target=target))
    said = misfit(classic, Here(capability=capability, versions={"classic": "11.4.0"}))
    if fits:
        assert said is None
    else:
        assert said is not None
        assert said.endswith(f"`cnnkit verify {engine.path} --rebuild` builds it here")
        assert "--target" not in said


@pytest.mark.skipif(device_count() > 0, reason="an NVIDIA GPU is here")
def test_without_a_gpu_the_backend_says_why_and_what_runs_instead(engine: Artifact) -> None:
    backend = BACKENDS.load("trt")
    state = backend.availability()
    assert state.available is False
    assert state.why_not
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT for RTX is not installed")
    with pytest.raises(UnavailableError, match=r"needs an NVIDIA GPU and none is visible; `--backend ort`"):
        backend.open(engine, EngineOptions())


@pytest.mark.parametrize("device", ["cuda:x", "cuda:1x", "cuda:N"])
def test_a_device_that_is_no_gpu_is_refused(engine: Artifact, device: str) -> None:
    with pytest.raises(UnavailableError, match="no device"):
        BACKENDS.load("trt").open(engine, EngineOptions(device=device))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the driver whose device memory is host memory; skip where there is no compiler."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed (Debian: apt-get install gcc)")
    path = tmp_path_factory.mktemp("driver") / "libcuda_in_memory.so"
    source = HERE / "libcuda_in_memory.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True, capture_output=True)
    return path


def on_driver(driver: Path, engine: Artifact, code: str, **environment: str) -> object:
    """Run code in a process of its own where the driver and TensorRT are the stand-ins."""
    script = f"""
import ctypes, importlib.util, json, sys
import numpy as np
from pathlib import Path
import toolkit.machine.cuda as cuda
cuda.LIBRARY = {str(driver)!r}
spec = importlib.util.spec_from_file_location("tensorrt_rtx", {str(HERE / "engine_in_memory.py")!r})
sys.modules["tensorrt_rtx"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["tensorrt_rtx"])
from toolkit.artifacts import open_artifact
from toolkit.backends import EngineOptions
from toolkit.backends.trt import TrtEngine, Trt
artifact = open_artifact(Path({str(engine.path)!r}))
left_over = ctypes.CDLL({str(driver)!r}).left_over
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(REPO),
            "XDG_CACHE_HOME": str(engine.path.parent / "cache"),
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_engine_runs_batches_of_any_size_in_its_profile_and_frees_everything(
    driver: Path, engine: Artifact
) -> None:
    answer = on_driver(
        driver,
        engine,
        """
right = []
with TrtEngine(artifact, EngineOptions(device="cuda")) as opened:
    for size in (1, 8, 3):
        batch = np.random.default_rng(size).standard_normal((size, 1, 2, 2)).astype(np.float32)
        right.append(bool((opened.logits(batch) == 2 * batch.reshape(size, 4)).all()))
    held = left_over()
opened.close()
print(json.dumps([right, held, left_over()]))
""",
    )
    assert answer == [[True, True, True], 211, 0]


def test_batches_outside_the_profile_are_refused_in_words(driver: Path, engine: Artifact) -> None:
    answer = on_driver(
        driver,
        engine,
        """
with TrtEngine(artifact, EngineOptions()) as opened:
    sizes = opened.batch_sizes
    try: opened.run(np.zeros((9, 1, 2, 2), np.float32))
    except Exception as error: print(json.dumps([sizes, type(error).__name__, str(error)]))
""",
    )
    assert answer == [
        [1, 8],
        "ShapeError",
        "tiny.fp16.engine was built for batches of 1 to 8, got 9; "
        "`cnnkit export tiny --format trt --precision fp16 --batch 1,4,9`",
    ]


def test_an_engine_says_on_which_gpu_it_runs(driver: Path, engine: Artifact) -> None:
    code = "with TrtEngine(artifact, EngineOptions()) as opened: print(json.dumps(opened.device_name))"
    assert on_driver(driver, engine, code) == "cuda:0 Stand-in (SM89)"


def test_layer_times_come_from_the_profiler_and_leave_it_off(driver: Path, engine: Artifact) -> None:
    answer = on_driver(
        driver,
        engine,
        """
with TrtEngine(artifact, EngineOptions()) as opened:
    times = opened.layer_times(np.zeros((2, 1, 2, 2), np.float32), runs=3)
    found = times
    state = [opened.context.profiler is None, opened.context.enqueue_emits_profile]
    facts = json.loads(opened.inspect())["Layers"]
print(json.dumps([found, state, facts]))
""",
    )
    assert answer == [[[["double", 0.25]]] * 3, [True, True], ["double"]]


def test_an_engine_that_tensorrt_refuses_is_told_with_its_reason_and_frees_everything(
    driver: Path, engine: Artifact
) -> None:
    answer = on_driver(
        driver,
        engine,
        """
artifact.path.write_bytes(b"another engine")
try: TrtEngine(artifact, EngineOptions())
except Exception as error: print(json.dumps([type(error).__name__, str(error), left_over()]))
""",
    )
    assert isinstance(answer, list)
    assert answer[0] == "CorruptError"
    assert "magic tag does not match; `cnnkit verify" in answer[1]
    assert answer[1].endswith("--rebuild` makes it again for this machine")
    assert answer[2] == 0


def test_the_drivers_own_words_reach_the_user(driver: Path, engine: Artifact) -> None:
    answer = on_driver(
        driver,
        engine,
        """
said = []
for act in (lambda: cuda.Device(0).buffer("x", 2_000_000_000), lambda: cuda.Device(3)):
    try: act()
    except Exception as error: said.append(str(error))
gpu = cuda.gpus()[0]
print(json.dumps([said, gpu.name, gpu.capability, cuda.driver_version(), Trt().availability().devices]))
""",
    )
    assert answer == [
        [
            "the NVIDIA driver refused cuMemAlloc_v2: out of memory (error 2)",
            "the NVIDIA driver refused cuDeviceGet: invalid device ordinal (error 101)",
        ],
        "Stand-in",
        "SM89",
        "13.0",
        ["cuda:0 Stand-in (SM89)"],
    ]


def test_a_driver_that_does_not_start_is_told_with_its_own_words(driver: Path, engine: Artifact) -> None:
    code = """
said = []
try: cuda.Device(0)
except Exception as error: said.append(str(error))
try: Trt().open(artifact, EngineOptions())
except Exception as error: said.append(str(error).partition(" here: ")[2])
print(json.dumps([said, cuda.device_count(), cuda.driver_version(), Trt().availability().why_not]))
"""
    (first, second), *known = on_driver(driver, engine, code, DRIVER_STARTS_WITH="802")  # type: ignore[misc]
    why = "the NVIDIA driver does not start: system not yet initialized (error 802)"
    assert first == f"{why}; `cnnkit doctor` says what is here"
    assert second.startswith(f"it needs an NVIDIA GPU, and {why}; `--backend ort`") or "here is" in second
    assert known == [0, "13.0", f"it needs an NVIDIA GPU, and {why}"]


def test_a_gpu_that_tensorrt_for_rtx_does_not_run_on_is_told(driver: Path, engine: Artifact) -> None:
    code = """
state = Trt().availability()
print(json.dumps([state.available, state.why_not, state.how_to_get]))
"""
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("classic TensorRT is here")
    assert on_driver(driver, engine, code, GPU_CAPABILITY="90") == [
        False,
        "TensorRT-RTX, which is here, does not run on SM 9.0; classic TensorRT is needed",
        "pip install 'cnnkit[tensorrt]' (classic TensorRT)",
    ]


def test_a_gpu_that_is_not_here_is_told_beside_those_that_are(driver: Path, engine: Artifact) -> None:
    code = """
from toolkit.backends.trt import no_gpu
print(json.dumps(no_gpu(3)))
"""
    assert on_driver(driver, engine, code) == "there is no GPU 3; `--device` takes cuda:0"


@pytest.mark.gpu
def test_a_gpu_of_this_machine_is_named() -> None:
    from toolkit.machine.cuda import gpus

    assert gpus()[0].capability.startswith("SM")


def test_a_trace_holds_each_layer_by_window_and_the_device_memory(driver: Path, engine: Artifact) -> None:
    answer = on_driver(
        driver,
        engine,
        """
with TrtEngine(artifact, EngineOptions()) as opened:
    batch = np.ones((2, 1, 2, 2), np.float32)
    seen = opened.trace(batch, windows=2, runs=3)
    call = opened.bind(batch)
    call()
    answer = opened._download()[0]
    opened.device.synchronise()
names = [node.name for node in seen.nodes]
memory = [seen.memory.weights_bytes, seen.memory.peak_activation_bytes]
print(json.dumps([names, seen.node_ms.tolist(), seen.runs, memory, float(answer.max())]))
""",
    )
    memory = [123, 4096]
    assert answer == [["double"], [[0.25], [0.25]], 6, memory, 2.0]


def test_bound_calls_keep_their_own_batches_and_tell_what_tensorrt_refuses(
    driver: Path, engine: Artifact
) -> None:
    answer = on_driver(
        driver,
        engine,
        """
found = []
with TrtEngine(artifact, EngineOptions()) as opened:
    def answer():
        kept = opened._download()[0]
        opened.device.synchronise()
        return [*kept.shape, float(kept.max())]
    batches = [np.full((size, 1, 2, 2), size, np.float32) for size in (2, 8)]
    first, second = map(opened.bind, batches)
    for call in (first, second, first):
        call()
        found.append(answer())
    opened.run(np.zeros((4, 1, 2, 2), np.float32))
    second()
    found.append(answer())
    opened.context.execute_async_v3 = lambda stream: False
    try: second()
    except Exception as error: found.append(str(error))
print(json.dumps([found, left_over()]))
""",
    )
    assert answer == [
        [[2, 4, 4.0], [8, 4, 16.0], [2, 4, 4.0], [8, 4, 16.0], "TensorRT could not run the engine: None"],
        0,
    ]


def test_a_batch_that_the_gpu_has_no_memory_for_is_told(driver: Path, engine: Artifact) -> None:
    answer = on_driver(
        driver,
        engine,
        """
with TrtEngine(artifact, EngineOptions()) as opened:
    whole = opened.device.buffer
    opened.device.buffer = lambda name, size: whole(name, 2_000_000_000)
    try: opened.run(np.zeros((4, 1, 2, 2), np.float32))
    except Exception as error: print(json.dumps([type(error).__name__, str(error)]))
""",
    )
    assert answer == [
        "OutOfMemoryError",
        "cuda:0 Stand-in (SM89) has no memory for a batch of 4 of tiny in trt; a smaller --batch needs less",
    ]


def test_copies_and_layers_of_a_call_are_timed_apart_and_leave_no_event(
    driver: Path, engine: Artifact
) -> None:
    answer = on_driver(
        driver,
        engine,
        """
with TrtEngine(artifact, EngineOptions(device="cuda")) as opened:
    found = opened.call_times(np.ones((4, 1, 2, 2), np.float32), runs=3)
    held = left_over()
print(json.dumps([found.upload_ms, found.download_ms, held, left_over()]))
""",
    )
    assert answer == [1.0, 1.0, 211, 0]


KERNELS = """
def once(size):
    with TrtEngine(artifact, EngineOptions(device="cuda")) as opened:
        opened.run(np.ones((size, 1, 2, 2), np.float32))
        return opened.kernels
"""


def test_compiled_kernels_are_kept_from_one_process_to_the_next(driver: Path, engine: Artifact) -> None:
    code = f"{KERNELS}\nfirst = once(2); second = once(3)\n"
    tell = "print(json.dumps([first.loaded, second.loaded, first.path.read_text()]))"
    assert on_driver(driver, engine, code + tell) == [False, True, "release 1;2x1x2x2,3x1x2x2"]
    assert on_driver(driver, engine, code + tell) == [True, True, "release 1;2x1x2x2,3x1x2x2"]


def test_kernels_of_another_release_are_compiled_anew(driver: Path, engine: Artifact) -> None:
    code = f"""{KERNELS}
path = once(1).path
path.write_text("release 0;9x9")
print(json.dumps([once(1).loaded, path.read_text(), once(1).loaded]))
"""
    assert on_driver(driver, engine, code) == [False, "release 1;1x1x2x2", True]


def test_a_cache_folder_that_cannot_be_made_keeps_no_engine_from_running(
    driver: Path, engine: Artifact
) -> None:
    (engine.path.parent / "cache").write_text("a file where the folder would be")
    code = f"{KERNELS}\nfound = once(1)\nprint(json.dumps([found.loaded, found.why_not_saved]))"
    loaded, why = on_driver(driver, engine, code)  # type: ignore[misc]
    assert loaded is False
    assert "cannot write" in why
