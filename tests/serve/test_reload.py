"""What takes over while a server runs: which file, what happens to the old engine, and what ends nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra serve)")

from serve.api.metrics import ServerMetrics
from serve.lineup import line_up
from serve.page.models import PageModel
from serve.registry import Registry, Version
from serve.reload import Reloader
from serve.served import ServedModel
from serve.settings import BatchingSettings, OpeningSettings
from tests.serve.conftest import MODEL, Server, serving
from tests.stamping import stamp
from toolkit.artifacts import Artifact, read_passport, sidecar
from toolkit.errors import CnnkitError
from toolkit.passports import SYMMETRIC, Passport

IMAGE = np.zeros((1, 1, 28, 28), dtype=np.float32)


@dataclass(kw_only=True)
class Running:
    """What a server holds, without its socket: models behind queues, and who looks for newer files."""

    registry: Registry
    reloader: Reloader
    said: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, entries: Sequence[ServedModel], backend: str = "counting") -> Running:
        said: list[str] = []
        metrics = ServerMetrics()
        registry = Registry(entries, BatchingSettings(), metrics.batch)
        registry.start()
        return cls(registry=registry, reloader=Reloader(registry, metrics, said.append), said=said)

    @property
    def model(self) -> ServedModel:
        return self.registry.default()

    def served(self, precision: str | None = None) -> Artifact:
        return self.model.opened[precision or self.model.default].artifact

    def version(self) -> Version:
        found = self.registry.opened(self.model, None)
        assert found is not None
        return found

    def look(self) -> None:
        asyncio.run(self.reloader.look())


def write(root: Path, content: bytes, name: str = f"{MODEL}.onnx", **facts: Any) -> Artifact:
    """Write a file under the served name, with the shipped passport's facts but for those given."""
    path = root / MODEL / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    known: Passport = facts.pop("known")
    return stamp(path, dataclasses.replace(known, **facts))


@pytest.fixture
def known(shipped: Path) -> Passport:
    return read_passport(shipped)


def at(month: int) -> str:
    return f"2100-{month:02}-01T00:00:00+00:00"


def serve(root: Path, model: str = MODEL, **chosen: Any) -> Running:
    return Running.start(line_up([model], "counting", OpeningSettings(root=root, **chosen), others=False))


@pytest.mark.usefixtures("counting")
def test_a_model_named_by_its_path_stays_that_file(tmp_path: Path, known: Passport) -> None:
    backup = write(tmp_path / "backup", b"old", known=known, created=at(1))
    write(tmp_path, b"new", known=known, created=at(2))
    write(tmp_path, b"half", f"{MODEL}.fp16.onnx", known=known, created=at(3), precision="fp16")
    running = serve(tmp_path, str(backup.path))
    running.look()
    assert running.served().path == backup.path
    assert running.model.versions == ["fp32"]
    # the file itself may be replaced, as any other that is served
    again = write(tmp_path / "backup", b"older", known=known, created=at(1))
    running.look()
    assert running.served() == again


@pytest.mark.usefixtures("counting")
def test_the_graph_for_tensorrts_builder_is_no_version_and_never_takes_over(
    tmp_path: Path, known: Passport
) -> None:
    plain = write(tmp_path, b"int8", f"{MODEL}.int8.onnx", known=known, created=at(1), precision="int8")
    facts = {"precision": "int8", "int8_dialect": SYMMETRIC}
    write(tmp_path, b"trt", f"{MODEL}.int8-trt.onnx", known=known, created=at(2), **facts)
    running = serve(tmp_path, precision="int8")
    running.look()
    assert running.served() == plain

    write(tmp_path, b"fp32", known=known, created=at(3))
    other = serve(tmp_path)
    assert other.model.files["int8"] == plain


@pytest.mark.usefixtures("counting")
def test_untrained_weights_of_another_seed_never_take_over(tmp_path: Path, known: Passport) -> None:
    def untrained(seed: int, content: bytes, month: int) -> Artifact:
        path = tmp_path / "lenet-untrained" / "lenet-untrained.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return stamp(path, dataclasses.replace(known, trained=False, seed=seed, created=at(month)))

    first = untrained(0, b"seed 0", 1)
    running = serve(tmp_path, "lenet", untrained=True)
    untrained(1, b"seed 1", 2)
    running.look()
    assert running.said == []
    assert running.served() == first
    untrained(0, b"seed 0, made anew", 3)
    running.look()
    assert running.served().passport.created == at(3)


def test_a_newer_one_that_opens_and_cannot_be_run_is_said_once_and_ends_nothing(
    tmp_path: Path, known: Passport, counting: Any
) -> None:
    old = write(tmp_path, b"old", known=known, created=at(1))
    running = serve(tmp_path)
    write(tmp_path, b"fails when run", known=known, created=at(2))
    for _ in range(2):
        running.look()
    assert running.said == [f"not reloaded: {MODEL} fp32: RuntimeError: out of luck"]
    assert running.served() == old
    assert [engine.closed for engine in counting.opened] == [0, 1]
    good = write(tmp_path, b"good", known=known, created=at(3))
    running.look()
    assert running.served() == good


def test_a_newer_one_that_finds_no_memory_takes_over_once_there_is_some(
    tmp_path: Path, known: Passport, counting: Any
) -> None:
    old = write(tmp_path, b"old", known=known, created=at(1))
    running = serve(tmp_path)
    new = write(tmp_path, b"new", known=known, created=at(2))
    counting.has_memory = False
    for _ in range(2):
        running.look()
    assert running.said == [f"not reloaded: no memory for {new.path}"]
    assert running.served() == old
    counting.has_memory = True
    running.look()
    assert running.served() == new


@pytest.mark.usefixtures("counting")
def test_a_newer_one_that_is_refused_is_not_read_again_until_it_changes(
    tmp_path: Path, known: Passport, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write(tmp_path, b"old", known=known, created=at(1))
    running = serve(tmp_path)
    damaged = write(tmp_path, b"damaged", known=known, created=at(2))
    damaged.path.write_bytes(b"another")
    read: list[Path] = []
    reopened = ServedModel.reopened

    def counted(model: ServedModel, found: Artifact) -> Artifact:
        read.append(found.path)
        return reopened(model, found)

    monkeypatch.setattr(ServedModel, "reopened", counted)
    for _ in range(3):
        running.look()
    assert read == [damaged.path]
    assert running.served() == old
    other = dataclasses.replace(known.output, shape=(None, 7))
    write(tmp_path, b"seven", known=known, created=at(3), output=other)
    running.look()
    assert any("other shapes" in text for text in running.said)
    # shapes are compared before the file is read
    assert read == [damaged.path]


@pytest.mark.usefixtures("counting")
def test_a_broken_newer_one_is_said_and_the_next_model_is_taken_up_all_the_same(
    tmp_path: Path, known: Passport
) -> None:
    old = write(tmp_path, b"old", known=known, created=at(1))
    write(tmp_path, b"old half", f"{MODEL}.fp16.onnx", known=known, created=at(1), precision="fp16")
    running = serve(tmp_path)
    running.model.classifier("fp16")
    write(tmp_path, b"cut short", known=known, created=at(2)).path.write_bytes(b"cut")
    half = write(tmp_path, b"half", f"{MODEL}.fp16.onnx", known=known, created=at(2), precision="fp16")
    running.look()
    assert "SHA-256 differs" in running.said[0]
    assert "reloaded" in running.said[1]
    assert (running.served(), running.served("fp16")) == (old, half)


@pytest.mark.usefixtures("counting")
def test_a_passport_that_does_not_know_its_time_is_the_oldest(tmp_path: Path, known: Passport) -> None:
    old = write(tmp_path, b"old", known=known, created=at(1))
    running = serve(tmp_path)
    other = write(tmp_path, b"when?", f"{MODEL}.copy.onnx", known=known)
    facts = json.loads(sidecar(other.path).read_text())
    sidecar(other.path).write_text(json.dumps({**facts, "created": None}))
    running.look()
    assert running.said == []
    assert running.served() == old


def test_the_old_engine_is_closed_with_the_answer_to_whoever_came_to_it(
    tmp_path: Path, known: Passport, counting: Any
) -> None:
    write(tmp_path, b"old", known=known, created=at(1))

    async def go() -> None:
        running = serve(tmp_path)
        came = running.version()
        waiting = [came.queue.batcher.submit(IMAGE, came.classifier.run) for _ in range(3)]
        del came
        write(tmp_path, b"new", known=known, created=at(2))
        await running.reloader.look()
        old, new = counting.opened
        for answer in waiting:
            arrays, _ = await answer
            assert arrays[0].shape == (1, 10)
        waiting.clear()
        del answer
        later = running.version()
        await later.queue.batcher.submit(IMAGE, later.classifier.run)
        assert (old.closed, new.closed) == (1, 0)
        await running.registry.close()
        assert new.closed == 1

    asyncio.run(go())


def test_api_and_page_are_answered_by_one_engine_before_and_after_a_reload(
    tmp_path: Path, known: Passport, counting: Any
) -> None:
    write(tmp_path, b"old", known=known, created=at(1))
    running = serve(tmp_path)
    assert running.version().classifier is running.model.classifier()
    new = write(tmp_path, b"new", known=known, created=at(2))
    # looking inside reads the file that lies there by now; the engine stays until the reload
    assert running.model.read() == new
    assert running.model.artifact != new
    running.look()
    assert running.version().classifier is running.model.classifier()
    assert running.model.artifact == running.model.classifier().artifact == new
    assert [engine.closed for engine in counting.opened] == [1, 0]


def test_the_pages_other_engines_follow_and_let_go_of_the_old_weights(
    shipped: Path, tmp_path: Path, known: Passport, counting: Any
) -> None:
    def written(tail: bytes, month: int) -> Artifact:
        # a trailing protobuf field that readers skip makes it another file with the same answers
        content = shipped.read_bytes() + b"\xfa\x3f\x04" + tail
        return write(tmp_path, content, known=known, created=at(month))

    written(b"aaaa", 1)
    entries = line_up([MODEL], "ort", OpeningSettings(root=tmp_path), others=True)
    running = Running.start(entries, "ort")
    (ticked,) = [entry for entry in entries if entry.backend.name == "counting"]
    ticked.classifier()
    new = written(b"bbbb", 2)
    running.look()
    assert running.served() == new
    assert ticked.artifact == new
    assert counting.opened[0].closed == 1
    assert ticked.classifier().artifact == new
    asyncio.run(running.registry.close())
    assert [engine.closed for engine in counting.opened] == [1, 1]


@pytest.mark.usefixtures("counting")
def test_the_page_puts_no_file_in_the_apis_place_that_the_reload_left_alone(
    tmp_path: Path, known: Passport
) -> None:
    def half(content: bytes, month: int, **facts: Any) -> Artifact:
        name = f"{MODEL}.fp16.onnx"
        return write(tmp_path, content, name, known=known, created=at(month), precision="fp16", **facts)

    write(tmp_path, b"whole", known=known, created=at(1))
    old = half(b"half", 1)
    running = serve(tmp_path)
    running.model.classifier("fp16")
    page = PageModel(name=MODEL, entries=[running.model])

    def shown() -> Artifact:
        page.look()
        engine = page.engine("counting:fp16")
        assert engine.artifact == engine.classifier().artifact == running.served("fp16")
        return engine.artifact

    half(b"of another shape", 2, output=dataclasses.replace(known.output, shape=(None, 7)))
    running.look()
    assert "other shapes" in running.said[0]
    assert shown() == old
    new = half(b"of the same", 3)
    assert shown() == old
    running.look()
    assert shown() == new


@pytest.mark.usefixtures("counting")
def test_an_engine_that_is_ticked_after_a_retrain_comes_with_its_own_passport(
    tmp_path: Path, known: Passport
) -> None:
    write(tmp_path, b"old", known=known, created=at(1))
    first, second = (
        line_up([MODEL], "counting", OpeningSettings(root=tmp_path), others=False)[0] for _ in "ab"
    )
    new = write(tmp_path, b"new", known=known, created=at(2))
    assert first.classifier().artifact == new
    assert first.artifact == new
    new.path.write_bytes(b"altered")
    with pytest.raises(CnnkitError, match="SHA-256 differs"):
        second.classifier()


def shown(server: Server) -> str:
    """Return what the page says of what is served."""
    return server.ask("GET", "/page/about").body.decode()


def test_title_and_card_are_of_what_is_served_when_the_page_is_opened(
    shipped: Path, tmp_path: Path, known: Passport
) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed (extra page)")
    content = shipped.read_bytes()
    old = write(tmp_path, content, known=known, created=at(1))
    with serving(tmp_path, MODEL) as server:
        assert old.passport.sha256 in shown(server)
        metrics = dataclasses.replace(known.metrics, test_accuracy=0.4321)
        content += b"\xfa\x3f\x04aaaa"  # a field that readers skip
        new = write(tmp_path, content, known=known, created=at(2), metrics=metrics)
        server.read_line("reloaded")
        said = shown(server)
    assert "43.2% right" in said
    assert new.passport.sha256 in said
    assert old.passport.sha256 not in said
