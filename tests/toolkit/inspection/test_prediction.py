"""`cnnkit predict`: files and data sets, by any backend; bad files in one line each; the sheet."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.toolkit.inspection.conftest import Run, read
from toolkit.datasets import Dataset
from toolkit.inspection.prediction import Prediction
from toolkit.inspection.sheet import RIGHT, TILE, WRONG, draw_sheet, write_sheet

NAME = "lenet-maxpool"


def test_backends_agree_on_files_and_the_default_is_said(run: Run, exported: Path, boot: Path) -> None:
    by_default = run("predict", NAME, boot, "--artifacts", exported, "--json")
    assert "backend ort" in by_default.stderr
    ort = read(by_default)
    torch = read(run("predict", NAME, boot, "--artifacts", exported, "--json", "--backend", "pytorch"))
    assert (ort["backend"], torch["backend"]) == ("ort", "pytorch")
    (one,), (other,) = ort["predictions"], torch["predictions"]
    assert [entry["label"] for entry in one["top"]] == [entry["label"] for entry in other["top"]]
    assert one["top"][0]["probability"] == pytest.approx(other["top"][0]["probability"], abs=1e-5)
    assert one["file"] == str(boot)
    assert len(one["top"]) == 3


def test_a_picture_may_stand_where_model_does(run: Run, exported: Path, boot: Path) -> None:
    named = read(run("predict", NAME, boot, "--artifacts", exported, "--json"))
    unnamed = read(run("predict", boot, "--artifacts", exported, "--json"))
    assert named == unnamed


def test_a_dark_drawing_on_light_paper_is_inverted_and_that_is_said(
    run: Run, trained: Path, boot: Path, tmp_path: Path
) -> None:
    negative = tmp_path / "paper.png"
    Image.fromarray(255 - np.asarray(Image.open(boot))).save(negative)
    result = run("predict", NAME, boot, negative, "--artifacts", trained, "--json")
    assert (
        f"inverted, for a ground unlike the training set's (`--invert no` keeps them): {negative}"
        in result.stderr
    )
    plain, turned = read(result)["predictions"]
    assert (plain["inverted"], turned["inverted"]) == (False, True)
    assert plain["top"] == turned["top"]
    kept = read(run("predict", NAME, negative, "--artifacts", trained, "--json", "--invert", "no"))
    assert kept["predictions"][0]["inverted"] is False
    assert kept["predictions"][0]["top"] != plain["top"]
    forced = read(run("predict", NAME, boot, "--artifacts", trained, "--json", "--invert", "yes"))
    assert forced["predictions"][0]["top"] == kept["predictions"][0]["top"]


def test_a_picture_may_come_through_a_pipe(run: Run, exported: Path, boot: Path) -> None:
    outlet, inlet = os.pipe()
    os.write(inlet, boot.read_bytes())
    os.close(inlet)
    try:
        piped = read(run("predict", NAME, f"/dev/fd/{outlet}", "--artifacts", exported, "--json"))
    finally:
        os.close(outlet)
    named = read(run("predict", NAME, boot, "--artifacts", exported, "--json"))
    assert piped["predictions"][0]["top"] == named["predictions"][0]["top"]


def _folder_of(pictures: Path, sample: Dataset, count: int) -> Path:
    """Write the first test pictures, one in a folder within, and what is no picture beside them."""
    (pictures / "within").mkdir(parents=True)
    for index in range(count):
        image = Image.fromarray(sample.test.images[index, 0])
        image.save(pictures / ("within" if index == 0 else "") / f"{index:03}.png")
    (pictures / "001.png").rename(pictures / "without an ending")
    (pictures / "notes.txt").write_text("none")
    (pictures / ".hidden.png").write_bytes(b"none")
    (pictures / "again").symlink_to(pictures)
    return pictures


def test_a_folder_stands_for_its_pictures_with_or_without_model(
    run: Run, exported: Path, sample: Dataset, tmp_path: Path
) -> None:
    folder = _folder_of(tmp_path / "pictures", sample, 5)
    result = run("predict", NAME, folder, "--artifacts", exported, "--json")
    assert "5 pictures in" in result.stderr
    assert "1 other files are left out" in result.stderr
    answers = {Path(row["file"]).name: row["top"] for row in read(result)["predictions"]}
    assert sorted(answers) == ["000.png", "002.png", "003.png", "004.png", "without an ending"]
    alone = read(run("predict", NAME, folder / "003.png", "--artifacts", exported, "--json"))
    assert [one["label"] for one in answers["003.png"]] == [
        one["label"] for one in alone["predictions"][0]["top"]
    ]
    assert len(read(run("predict", folder, "--artifacts", exported, "--json"))["predictions"]) == 5
    empty = run("predict", NAME, tmp_path / "artifacts", "--artifacts", exported)
    assert empty.exit_code == 1


def test_a_folder_without_pictures_is_one_line(run: Run, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    refused = run("predict", NAME, tmp_path, "--artifacts", exported)
    assert refused.exit_code == 1
    assert "holds no pictures; 1 other files are left out" in refused.stderr


def test_answers_are_written_as_csv_with_the_pictures_that_could_not_be_read(
    run: Run, exported: Path, sample: Dataset, tmp_path: Path
) -> None:
    folder = _folder_of(tmp_path / "pictures", sample, 3)
    (folder / "zbroken.png").write_bytes(b"\x89PNG")
    table = tmp_path / "answers.csv"
    result = run("predict", folder, "--artifacts", exported, "--csv", table, "--top", "2")
    assert result.exit_code == 1
    head, *rows = csv.reader(table.read_text().splitlines())
    assert head == [
        *("file", "truth", "label", "probability", "label_2", "probability_2", "inverted", "frames", "error")
    ]
    assert len(rows) == 4
    assert all(float(row[3]) >= float(row[5]) for row in rows[:3])
    assert Path(rows[3][0]).name == "zbroken.png"
    assert "no picture that can be read" in rows[3][-1]


def test_of_many_pictures_the_answers_are_counted_and_a_sheet_shows_the_first(
    run: Run, exported: Path, sample: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.inspection.sheet.MOST_TILES", 20)
    folder = _folder_of(tmp_path / "pictures", sample, 300)
    words = ("predict", folder, "--artifacts", exported, "--sheet", folder / "sheet.png")
    assert run(*words).exit_code == 0
    result = run(*words)  # the first one's sheet is none of the pictures
    assert result.exit_code == 0, result.output
    assert "the first 20 of 300 pictures" in result.stderr
    counts = [int(line.split("│")[2]) for line in result.stdout.splitlines() if line.startswith("│")]
    assert sum(counts) == 300
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width < 10 * 200
    taken = run("predict", folder, "--artifacts", exported, "--sheet", next(folder.glob("[0-9]*")))
    assert "is read here and would be overwritten" in taken.stderr


def _huge(path: Path) -> None:
    """Write a PNG header that promises 40,000×40,000 pixels."""
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


def test_each_bad_picture_is_one_line_and_stops_no_other(
    run: Run, trained: Path, boot: Path, tmp_path: Path
) -> None:
    text, empty, huge, cut = (tmp_path / f"{name}.png" for name in ("text", "empty", "huge", "cut"))
    text.write_text("no picture")
    empty.touch()
    _huge(huge)
    cut.write_bytes(boot.read_bytes()[:200])
    bad = [text, empty, huge, cut, tmp_path / "missing.png"]
    result = run("predict", NAME, *bad, boot, "--artifacts", trained, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [entry["file"] for entry in found["predictions"]] == [str(boot)]
    assert [entry["file"] for entry in found["errors"]] == [str(path) for path in bad]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == len(bad)
    assert all(str(path) in line for path, line in zip(bad, errors, strict=True))
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_picture_is_answered(run: Run, trained: Path, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png")
    Image.new(mode, (40, 30)).save(path)
    found = read(run("predict", NAME, path, "--artifacts", trained, "--json", "--top", "10"))
    assert sum(entry["probability"] for entry in found["predictions"][0]["top"]) == pytest.approx(1)


def test_a_data_sets_first_pictures_with_their_truth_and_a_sheet(
    run: Run, trained: Path, sample: Dataset, tmp_path: Path
) -> None:
    sheet = tmp_path / "out.png"
    words = ("predict", NAME, "--dataset", sample.name, "--first", "12", "--artifacts", trained)
    found = read(run(*words, "--sheet", sheet, "--json"))
    assert [entry["truth"] for entry in found["predictions"]] == [
        sample.classes[label] for label in sample.test.labels[:12]
    ]
    assert [entry["right"] for entry in found["predictions"]] == [
        entry["truth"] == entry["top"][0]["label"] for entry in found["predictions"]
    ]
    assert found["sheet"] == str(sheet)
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert image.width > 4 * TILE
    assert "of 12 right" in run(*words).stdout


def test_a_sheet_frames_right_answers_green_and_wrong_ones_red() -> None:
    pixels = np.zeros((1, 28, 28), np.uint8)
    made = [
        Prediction(source="a", top=(("x", 0.9),), pixels=pixels, truth=truth, right=truth == "x")
        for truth in ("x", "y")
    ]
    colours = {colour for _, colour in draw_sheet(made, "title").getcolors(1 << 16)}
    for name in (RIGHT, WRONG):
        assert tuple(bytes.fromhex(name[1:])) in colours


def test_a_sheet_is_a_png_and_never_another_file(run: Run, trained: Path, boot: Path, tmp_path: Path) -> None:
    before = boot.read_bytes()
    for place, why in ((tmp_path / "out.jpg", "name it out.png"), (boot, "boot.png is read here")):
        refused = run("predict", NAME, boot, "--artifacts", trained, "--sheet", place)
        assert refused.exit_code == 1
        assert why in refused.stderr
        assert "opened" not in refused.stderr  # it is found before any work
    assert not (tmp_path / "out.jpg").exists()
    assert boot.read_bytes() == before


def test_a_name_of_any_bytes_is_told_and_of_pictures_that_are_all_refused_each_reason(
    run: Run, exported: Path, boot: Path, tmp_path: Path
) -> None:
    odd = boot.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    words = ("predict", NAME, odd, "--artifacts", exported, "--sheet", tmp_path / "sheet.png")
    assert read(run(*words, "--json"))["predictions"][0]["file"] == str(odd)
    shown = run(*words)
    assert (shown.exit_code, "café.png" in shown.stdout) == (0, True)
    odd.write_bytes(b"none")
    (tmp_path / "sheet.png").unlink()
    refused = run(*words)
    assert refused.exit_code == 1
    assert "no picture that can be read" in refused.stderr
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("x.png", "--dataset", "mnist"),
        ("x.png", "--first", "3"),
        ("x.png", "--data-dir", "."),
        ("--dataset", "mnist", "--invert", "yes"),
    ],
)
def test_neither_or_both_sources_are_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    assert run("predict", NAME, *words).exit_code == 2


def test_onnx_answers_where_torch_is_not_installed(exported: Path, boot: Path) -> None:
    """A serving box has the base install: anything that reaches for torch there fails."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'onnx', 'gradio')));"
        f"sys.argv[1:] = ['predict', {NAME!r}, {str(boot)!r}, '--artifacts', {str(exported)!r}, '--json'];"
        "from cnnkit import front_door; front_door.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "ort"
    evaluated = script.replace(f"'predict', {NAME!r}, {str(boot)!r}", f"'eval', {NAME!r}, '--first', '50'")
    done = subprocess.run([sys.executable, "-c", evaluated], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 50


def test_of_an_animation_only_the_first_frame_is_used_and_that_is_said(
    run: Run, trained: Path, boot: Path, tmp_path: Path
) -> None:
    first = Image.open(boot).convert("L")
    first.save(tmp_path / "still.gif")
    others = [Image.new("L", first.size, shade) for shade in (80, 160)]
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    words = ("predict", NAME, tmp_path / "still.gif", tmp_path / "moving.gif", "--artifacts", trained)
    result = run(*words, "--json")
    assert f"{tmp_path / 'moving.gif'} holds 3 frames; only the first is used" in result.stderr
    assert "still.gif holds" not in result.stderr
    still, moving = read(result)["predictions"]
    assert (still["frames"], moving["frames"]) == (1, 3)
    assert still["top"] == moving["top"]


def test_a_sheet_says_which_letters_no_font_here_has(tmp_path: Path) -> None:
    def write(label: str) -> str | None:
        entry = Prediction(
            source="x test 0", top=((label, 0.9),), pixels=np.zeros((1, 8, 8), np.uint8), truth=label
        )
        return write_sheet(tmp_path / "sheet.png", [entry], "title")

    assert write("ankle boot") is None
    nobodys = "\u0378"  # no letter has this number
    assert nobodys in (write(f"cat {nobodys}") or "")
