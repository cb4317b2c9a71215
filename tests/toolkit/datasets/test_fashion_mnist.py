"""Fashion-MNIST is found in the promised order, verified, and its absence is explained."""

from __future__ import annotations

import dataclasses
import gzip
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import fetching
from toolkit.datasets import _idx, dataset_of, fashion_mnist
from toolkit.errors import CorruptError, NotFoundError


def idx(array: np.ndarray, count: int | None = None) -> bytes:
    magic = 2049 if array.ndim == 1 else 2051
    shape = (array.shape[0] if count is None else count, *array.shape[1:])
    return struct.pack(f">I{array.ndim}I", magic, *shape) + array.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data in any place, and no way out: the cache is empty, mirrors refuse, apt-get is gone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNKIT_DATA", raising=False)
    elsewhere = dataclasses.replace(fashion_mnist.FILES, debian=("dataset-fashion-mnist", tmp_path / "none"))
    monkeypatch.setattr(fashion_mnist, "FILES", elsewhere)
    monkeypatch.setattr(fashion_mnist, "load", partial(_idx.load_idx, elsewhere))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_whole_set_is_read_and_verified(fashion_mnist_dir: Path) -> None:
    data = fashion_mnist.load(data_dir=fashion_mnist_dir)
    assert data.train.images.shape == (60_000, 1, 28, 28)
    assert len(data.test) == 10_000
    assert np.bincount(data.train.labels).tolist() == [6_000] * 10
    assert "--data-dir" in data.source
    assert data.train.images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def test_an_altered_file_is_refused_by_name(fashion_mnist_dir: Path, tmp_path: Path) -> None:
    for name in fashion_mnist.FILES.hashes:
        packed = (fashion_mnist_dir / "fashion-mnist" / f"{name}.gz").read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(packed)
    broken = tmp_path / "t10k-labels-idx1-ubyte"
    data = bytearray(gzip.decompress((tmp_path / f"{broken.name}.gz").read_bytes()))
    data[-1] ^= 1
    broken.write_bytes(bytes(data))
    with pytest.raises(CorruptError, match=r"t10k-labels-idx1-ubyte is not the published file"):
        fashion_mnist.load(data_dir=tmp_path)


@pytest.mark.usefixtures("nothing_at_hand")
def test_offline_without_data_the_error_lists_everything_tried() -> None:
    with pytest.raises(NotFoundError) as caught:
        fashion_mnist.load()
    text = str(caught.value)
    tried = ("your cache", "Debian's package", "torchvision's mirrors", "apt-get and dpkg-deb are not")
    places = [text.index(part) for part in tried]
    assert places == sorted(places)
    assert "apt-get install dataset-fashion-mnist" in text
    assert "--dataset fashion-mnist-sample" in text


@pytest.mark.usefixtures("nothing_at_hand")
def test_without_fetch_nothing_is_downloaded() -> None:
    with pytest.raises(NotFoundError) as caught:
        fashion_mnist.load(fetch=False)
    assert "mirrors" not in str(caught.value)


@pytest.mark.usefixtures("nothing_at_hand")
def test_a_named_folder_without_the_files_is_an_error_not_a_search(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"--data-dir .* holds no Fashion-MNIST"):
        fashion_mnist.load(data_dir=tmp_path)


def test_the_variable_is_searched_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNKIT_DATA", str(tmp_path))
    labels = [label for label, _ in _idx.given_folders("fashion-mnist", Path("/x"))]
    assert labels == ["--data-dir", "--data-dir", "$CNNKIT_DATA", "$CNNKIT_DATA", "your cache"]


def test_the_sample_is_stratified_and_real() -> None:
    spec = dataset_of("fashion-mnist-sample")
    data = spec.load("fashion-mnist-sample", None, False, None)
    assert np.bincount(data.train.labels).tolist() == [200] * 10
    assert np.bincount(data.test.labels).tolist() == [50] * 10
    assert data.train.images.shape[1:] == (1, 28, 28)


def test_the_sample_is_taken_from_the_whole_set(fashion_mnist_dir: Path) -> None:
    from toolkit.datasets import fashion_mnist_sample

    whole = fashion_mnist.load(data_dir=fashion_mnist_dir)
    with np.load(fashion_mnist_sample.FILE) as shipped:
        for name, split, count in (("train", whole.train, 200), ("test", whole.test, 50)):
            first = np.sort(np.concatenate([np.flatnonzero(split.labels == k)[:count] for k in range(10)]))
            np.testing.assert_array_equal(shipped[f"{name}_images"], split.images[first])
            np.testing.assert_array_equal(shipped[f"{name}_labels"], split.labels[first])


def test_idx_images_and_labels_are_read_plain_and_packed(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(idx(IMAGES))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(IMAGES[:, 0, 0])))
    np.testing.assert_array_equal(_idx.read(tmp_path, "plain", None), IMAGES)
    np.testing.assert_array_equal(_idx.read(tmp_path, "packed", None), IMAGES[:, 0, 0])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short"),
        (idx(IMAGES)[:-1], "promises 24 bytes and holds 23"),
        (idx(IMAGES, count=2**31), "promises"),
        (b"\0\0\0\0" * 4, "no IDX file"),
    ],
)
def test_damaged_idx_bytes_are_told_in_one_line(data: bytes, why: str) -> None:
    with pytest.raises(CorruptError, match=why) as caught:
        _idx.parse(data, "file")
    assert "fetch it again" in str(caught.value)


def test_a_truncated_gzip_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(IMAGES))[:-9])
    with pytest.raises(CorruptError, match=r"x\.gz cannot be unpacked"):
        _idx.read(tmp_path, "x", None)


@given(st.binary(max_size=64))
def test_any_bytes_are_an_array_or_a_corrupt_error(data: bytes) -> None:
    try:
        assert _idx.parse(data, "file").dtype == np.uint8
    except CorruptError:
        return


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"http://127\.0\.0\.1:9/x"):
        fetching.download("http://127.0.0.1:9/x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


class Mirror(BaseHTTPRequestHandler):
    """Answers every file alike: `/short/` promises more than it sends, `/odd/` speaks no HTTP."""

    def do_GET(self) -> None:
        if self.path.startswith("/odd/"):
            self.wfile.write(b"what?\r\n")
            return
        body = gzip.compress(b"please log in")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (100 if "/short/" in self.path else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def mirror() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.usefixtures("nothing_at_hand")
def test_a_mirror_that_sends_something_else_leaves_nothing_in_the_cache(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = dataclasses.replace(fashion_mnist.FILES, mirrors=lambda: (f"{mirror}/",))
    with pytest.raises(NotFoundError, match=r"was deleted: .*Debian's package .*--data-dir FOLDER"):
        _idx.load_idx(files)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("path", "why"), [("short/x", "ended after 33 of 133 bytes"), ("odd/x", "what")])
def test_a_download_cut_short_or_garbled_leaves_nothing(
    mirror: str, path: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(NotFoundError, match=why):
        fetching.download(f"{mirror}/{path}", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
