"""One contract over every backend × every format that it opens × small networks of every kind.

A network is written as a checkpoint; what a backend opens is made of it as `profile` makes it in passing.
A backend that cannot run here is skipped with its own reason.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.networks import light_models
from toolkit import zoo
from toolkit.answering import answers
from toolkit.artifacts import CHECKPOINT, Artifact, find_artifacts, open_artifact, shipped_root
from toolkit.backends import BACKENDS, Backend, Engine, EngineOptions, backend_names
from toolkit.checkpoints import load_module, write_untrained
from toolkit.errors import CnnkitError, NotFoundError, ShapeError, UnavailableError
from toolkit.exporting import EXPORTERS, ExportOptions
from toolkit.exporting.making import make
from toolkit.graphs.counting import count_graph
from toolkit.graphs.source import graph_of
from toolkit.profiling.rows.align import coverage
from toolkit.profiling.rows.matching import claim
from toolkit.telling import silent

torch = pytest.importorskip("torch")

OWN = Path(__file__).parent / "own_networks.py"
SHIPPED = "shipped"
# no multiple of any batch, and more than a batch of 32
MANY = 33
# relative to max(1, largest |logit|): what fp32 summed in another order may differ by
TOLERANCE = 1e-4
WINDOWS, RUNS = 3, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A backend, an artifact of a network that it opens, and the checkpoint that it was made of."""

    backend: Backend
    artifact: Artifact
    checkpoint: Artifact
    options: EngineOptions

    def open(self, **options: object) -> Engine:
        return self.backend.open(self.artifact, dataclasses.replace(self.options, **options))

    def inputs(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        shape = tuple(extent or 1 for extent in self.artifact.passport.input.shape[1:])
        return np.random.default_rng(seed).standard_normal((count, *shape), dtype=np.float32)

    def wanted(self, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return what the author's own module answers, without any backend."""
        module = load_module(self.checkpoint, model_file=self.options.model_file)
        with torch.inference_mode():
            found = module(torch.from_numpy(inputs))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]


Build = Callable[[str, str], Artifact]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that makes an artifact of a network in a format, each once."""
    root = tmp_path_factory.mktemp("contract")

    @functools.cache
    def checkpoint(network: str) -> Artifact:
        if network == SHIPPED:
            shipped = find_artifacts(shipped_root())
            return open_artifact(next(path for path, known in shipped if known.format == CHECKPOINT))
        return write_untrained(zoo.model(network, model_file=OWN), root, model_file=OWN)

    @functools.cache
    def built(network: str, exporter: str | None) -> Artifact:
        if exporter is None:
            return checkpoint(network)
        options = ExportOptions(root=root, images=8, model_file=OWN)
        return make(
            checkpoint(network), exporter, options, silent, lambda need: built(network, need.exporter)
        )

    return built


def cases() -> Iterator[object]:
    """Yield backend, exporter (None for checkpoints) and network; a backend that cannot run here once."""
    own = ("residual", "two-headed")
    for name in backend_names():
        backend: Backend = BACKENDS.load(name)
        state = backend.availability()
        if not state.available:
            yield pytest.param(None, id=name, marks=pytest.mark.skip(reason=f"{name}: {state.why_not}"))
            continue
        for kind, exporter in backend.formats.items():
            for network in (SHIPPED, *own, *light_models()):
                yield pytest.param((name, exporter, network), id=f"{name}-{kind}-{network}")


@pytest.fixture(scope="module", params=cases())
def case(request: pytest.FixtureRequest, build: Build) -> Case:
    """Return one case, its artifact made by now."""
    name, exporter, network = request.param
    return Case(
        backend=BACKENDS.load(name),
        artifact=build(network, exporter),
        checkpoint=build(network, None),
        options=EngineOptions(model_file=None if network == SHIPPED else OWN),
    )


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=allowed)


def takes(engine: Engine, count: int) -> int:
    """Return the batch nearest to `count` that an engine takes."""
    least, most = engine.batch_sizes
    return max(least, min(count, most or count))


def test_answers_are_those_of_the_authors_module_in_batches_that_the_engine_takes(case: Case) -> None:
    inputs = case.inputs(MANY)
    sizes: list[int] = []
    with case.open() as engine:
        found = answers(engine, inputs, on_batch=sizes.append)
        least, most = engine.batch_sizes
    assert_close(found, case.wanted(inputs)[0])
    assert found.dtype == np.float32
    assert sum(sizes) == MANY
    assert all(size <= (most or MANY) for size in sizes)
    assert all(size >= least for size in sizes[:-1])


def test_every_output_has_a_name_and_a_row_for_each_picture(case: Case) -> None:
    with case.open() as engine:
        inputs = case.inputs(takes(engine, 3))
        found, names, logits = engine.run(inputs), engine.output_names, engine.logits(inputs)
    wanted = case.wanted(inputs)
    assert [value.shape for value in found] == [value.shape for value in wanted]
    for value, right in zip(found, wanted, strict=True):
        assert_close(value, right)
    np.testing.assert_array_equal(logits, found[0])
    assert len(set(names)) == len(names)
    assert names[0] == case.artifact.passport.output.name
    assert len(names) in (1, len(found))  # a runtime may know the name of the logits alone


def test_a_batch_that_does_not_fit_is_told_in_shapes(case: Case) -> None:
    with case.open() as engine:
        good = case.inputs(takes(engine, 2))
        _, most = engine.batch_sizes
        wrong = [
            np.concatenate([good, good], axis=1),
            good[:, :, 1:],
            good[:, :, :, 1:],
            good[0],
            good[:0],
            *([case.inputs(most + 1)] if most else []),
        ]
        for batch in wrong:
            for call in (engine.run, engine.bind, functools.partial(engine.trace, windows=1, runs=1)):
                with pytest.raises(ShapeError):
                    call(batch)
        assert_close(engine.logits(good), case.wanted(good)[0])


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2, "yields": True}])
def test_threads_and_yielding_change_no_answer(case: Case, options: dict[str, object]) -> None:
    threads = torch.get_num_threads()
    try:
        with case.open(**options) as engine:
            inputs = case.inputs(takes(engine, 2))
            assert_close(engine.logits(inputs), case.wanted(inputs)[0])
    finally:
        torch.set_num_threads(threads)  # PyTorch's are those of the whole process


def test_arrays_that_are_views_or_may_not_be_written_to_are_answered_alike(case: Case) -> None:
    with case.open() as engine:
        inputs = case.inputs(takes(engine, 2))
        turned = np.asfortranarray(inputs)
        fixed = inputs.copy()
        fixed.flags.writeable = False
        wanted = case.wanted(inputs)[0]
        for batch in (turned, fixed):
            assert_close(engine.logits(batch), wanted)
            engine.bind(batch)()
    np.testing.assert_array_equal(fixed, inputs)


def test_bound_calls_can_be_repeated_and_answer_for_their_own_batches(case: Case) -> None:
    with case.open() as engine:
        batches = [case.inputs(takes(engine, 2), seed=seed) for seed in (1, 2)]
        first, second = map(engine.bind, batches)
        wanted = case.wanted(batches[1])[0]
        for call in (first, second, first):
            call()
        assert_close(engine.logits(batches[1]), wanted)
        # where a call returns answers, they are its own batch's, whatever ran since
        for call, batch in ((first, batches[0]), (second, batches[1])):
            answer = call()
            if isinstance(answer, (list, tuple, torch.Tensor)):
                scores = answer if isinstance(answer, torch.Tensor) else answer[0]
                assert_close(np.asarray(scores), case.wanted(batch)[0])


def test_a_trace_names_every_node_and_times_it_in_every_window(case: Case) -> None:
    source = graph_of(case.artifact)
    graph = count_graph(source.path, batch=1) if source else None
    with case.open(graph=graph.renamed if graph else None) as engine:
        trace = engine.trace(case.inputs(takes(engine, 1)), windows=WINDOWS, runs=RUNS)
    names = [node.name for node in trace.nodes]
    assert all(names)
    assert len(set(names)) == len(names)
    assert all(node.type for node in trace.nodes)
    assert trace.node_ms is not None
    assert trace.node_ms.shape == (WINDOWS, len(names))
    assert np.isfinite(trace.node_ms).all()
    assert (trace.node_ms >= 0).all()
    assert len(trace.total_ms) in (0, WINDOWS)
    assert all(np.isfinite(total) and total > 0 for total in trace.total_ms)
    assert trace.runs == WINDOWS * RUNS
    memory = trace.memory
    assert (memory.peak_activation_bytes is None) == bool(memory.why.get("peak_activation_bytes"))
    assert (memory.peak_activation_bytes or 0) >= 0
    assert (memory.weights_bytes or 0) >= 0
    assert (memory.workspace_bytes or 0) >= 0
    claims = claim(trace.nodes, graph, case.backend.spelling)
    assert coverage(claims) == 1.0


def test_an_engine_is_closed_twice_and_opened_again(case: Case) -> None:
    engine = case.open()
    inputs = case.inputs(takes(engine, 2))
    before = engine.logits(inputs)
    engine.close()
    engine.close()
    with case.open() as again:
        np.testing.assert_array_equal(again.logits(inputs), before)


def test_two_engines_at_once_answer_for_themselves(case: Case) -> None:
    with case.open() as first, case.open() as second:
        ones, others = case.inputs(takes(first, 2), seed=1), case.inputs(takes(first, 2), seed=2)
        found = [first.logits(ones), second.logits(others), first.logits(others)]
        first.close()
        found.append(second.logits(ones))
    right, other = case.wanted(ones)[0], case.wanted(others)[0]
    for answer, wanted in zip(found, (right, other, other, right), strict=True):
        assert_close(answer, wanted)


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_here_is_told(case: Case, device: str) -> None:
    with pytest.raises((UnavailableError, NotFoundError), match=r"device|GPU"):
        case.open(device=device)


def test_a_setting_that_a_backend_does_not_have_gets_its_nearest_match(case: Case) -> None:
    # some compile for seconds: every choice answers for one network, the default for all
    everything = "residual" in case.artifact.name
    for name, setting in case.backend.settings.items():
        assert setting.default in setting.choices
        for choice in setting.choices if everything else (setting.default,):
            with case.open(chosen={name: choice}) as engine:
                inputs = case.inputs(takes(engine, 1))
                assert_close(engine.logits(inputs), case.wanted(inputs)[0])
        nearly = f"{setting.choices[0]}x"
        with pytest.raises(NotFoundError, match=f"{name} of .*Did you mean '{setting.choices[0]}'"):
            case.open(chosen={name: nearly})


@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_damaged_file_is_one_line(case: Case, damage: str, tmp_path: Path) -> None:
    whole, path = case.artifact.path, tmp_path / case.artifact.path.name
    for file in sorted(whole.rglob("*")) if whole.is_dir() else [whole]:
        data = file.read_bytes()
        bad = {"cut": data[: len(data) // 2], "other": b"no file of any format\n" * 40, "empty": b""}[damage]
        broken_file = path / file.relative_to(whole)
        broken_file.parent.mkdir(exist_ok=True)
        broken_file.write_bytes(bad)
    broken = dataclasses.replace(case, artifact=dataclasses.replace(case.artifact, path=path))
    with pytest.raises(CnnkitError) as raised:
        broken.open()
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", backend_names())
def test_every_backend_tells_what_it_is(name: str) -> None:
    backend: Backend = BACKENDS.load(name)
    assert backend.name == name
    assert backend.title
    assert backend.summary
    assert backend.platform
    assert backend.formats
    assert backend.default_device in backend.device_words
    state = backend.availability()
    assert state.available or (state.why_not and state.how_to_get)
    kinds = {word.removesuffix(":N") for word in backend.device_words}
    assert {device.split()[0].partition(":")[0] for device in state.devices} <= kinds
    assert backend.installed() or not state.available
    assert all(look is None or look for look in backend.examine().parts.values())


def test_each_backend_has_a_platform_of_its_own() -> None:
    platforms = [BACKENDS.load(name).platform for name in backend_names()]
    assert len(set(platforms)) == len(platforms)


@pytest.mark.parametrize("name", backend_names())
def test_what_a_backend_opens_can_be_made(name: str) -> None:
    for kind, exporter in BACKENDS.load(name).formats.items():
        assert kind == CHECKPOINT if exporter is None else EXPORTERS.load(exporter).format == kind
