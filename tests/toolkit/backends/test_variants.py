"""What backends declare worth trying: answers stay the same, and nothing is tried that cannot matter."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.artifacts import Artifact, open_artifact, shipped_root
from toolkit.backends import BACKENDS, EngineOptions, backend_names

MODEL = "lenet-maxpool"


def opened_by(name: str) -> Artifact:
    backend = BACKENDS.load(name)
    folder = shipped_root() / MODEL
    ending = ".onnx" if "onnx" in backend.formats else ".safetensors"
    return open_artifact(folder / f"{MODEL}{ending}")


@pytest.mark.parametrize("name", backend_names())
def test_variants_begin_with_the_defaults_and_hold_known_values(name: str) -> None:
    backend = BACKENDS.load(name)
    for setting in backend.settings.values():
        assert set(setting.tries) <= set(setting.choices) - {setting.default}
    found = list(backend.variants(opened_by(name), threads=2, batch=8))
    assert found[0] == {}
    assert len({tuple(sorted(one.items())) for one in found}) == len(found)
    for one in found:
        for word, value in one.items():
            assert value in backend.settings[word].choices


@pytest.mark.parametrize("name", backend_names())
def test_every_variant_answers_as_the_defaults_do(name: str) -> None:
    backend = BACKENDS.load(name)
    state = backend.availability()
    if not state.available:
        pytest.skip(f"{name}: {state.why_not}")
    artifact = opened_by(name)
    given = np.random.default_rng(0).standard_normal((8, 1, 28, 28), dtype=np.float32)
    with backend.open(artifact, EngineOptions(threads=2)) as plain:
        wanted = plain.run(given)[0]
    for one in backend.variants(artifact, threads=2, batch=8):
        if "compile" in one:
            continue  # takes half a minute; see below
        with backend.open(artifact, EngineOptions(threads=2, chosen=one)) as engine:
            assert np.allclose(engine.run(given)[0], wanted, atol=1e-4), one
            engine.bind(given)()


@pytest.mark.slow
def test_a_compiled_module_answers_as_the_module_does() -> None:
    torch = pytest.importorskip("torch")
    (name,) = [name for name in backend_names() if "compile" in BACKENDS.load(name).settings]
    backend, artifact = BACKENDS.load(name), opened_by(name)
    if not any("compile" in one for one in backend.variants(artifact, threads=1, batch=1)):
        pytest.skip("no C++ compiler is here")
    given = np.random.default_rng(0).standard_normal((8, 1, 28, 28), dtype=np.float32)
    threads = torch.get_num_threads()
    with (
        backend.open(artifact, EngineOptions()) as plain,
        backend.open(artifact, EngineOptions(chosen={"compile": "yes"})) as compiled,
    ):
        for count in (8, 3, 1):
            assert np.allclose(compiled.run(given[:count])[0], plain.run(given[:count])[0], atol=1e-4)
    torch.set_num_threads(threads)


def test_idle_workers_of_a_server_do_not_spin_unless_that_was_chosen() -> None:
    (name,) = [name for name in backend_names() if "spinning" in BACKENDS.load(name).settings]
    backend, artifact = BACKENDS.load(name), opened_by(name)
    assert not any("spinning" in one for one in backend.variants(artifact, threads=1, batch=1))
    key = "session.intra_op.allow_spinning"
    for chosen, yields, spins in (
        ({}, False, True),
        ({}, True, False),
        ({"spinning": "on"}, True, True),
        ({"spinning": "off"}, False, False),
    ):
        with backend.open(artifact, EngineOptions(yields=yields, chosen=chosen)) as engine:
            options = engine.session.get_session_options()  # type: ignore[attr-defined]  # this engine's own
            try:
                off = options.get_session_config_entry(key) == "0"
            except RuntimeError:
                off = False
            assert off is not spins
