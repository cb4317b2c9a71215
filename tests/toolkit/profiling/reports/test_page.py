"""The report in a real Chromium: wide and narrow, light and dark, by mouse, by keyboard, without scripts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.profiling.test_result import COLUMN, FULL
from toolkit.profiling.comparing.differences import Comparison, Difference
from toolkit.profiling.reports.html import html_report
from toolkit.profiling.result import Cell, CellMemory, Explanation, Memory, Profile, Row, Run

SCREENS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
STEPS = ("conv", "norm", "act", "add")
LARGEST = 1_500_000


def network(rows: int, *, batches: tuple[int, ...] = (1,)) -> Profile:
    """Return a profile of so many rows in blocks of layers, on two backends; the last row costs most."""
    names = [f"features.block{i // 40}.layer{i // 4 % 10}.{STEPS[i % 4]}{i}" for i in range(rows)]
    whole = sum(range(1, rows + 1))

    def cell(i: int, factor: float) -> Cell:
        ms = factor * (i + 1) / 100
        return Cell(
            latency_ms=ms, share=(i + 1) / whole, windows=(ms,) * 8, nodes=(f"{names[i]}/Node",),
            ops=("Conv",), match="name", macs=10**6 * (i + 1), ideal_bytes=10**4, gflops=float(1 + i % 90),
            gbytes_s=1.0, attainable=0.5, bound="compute" if i % 2 else "memory",
            memory=CellMemory(weights_bytes=1000, activation_bytes=2000),
        )  # fmt: skip

    found = [
        Row(
            modules=(name, f"{name}_relu"), type=("Conv2d", "BatchNorm2d")[i % 2], macs=10**6 * (i + 1),
            output_shape=(1, 64, 56, 56), parameters=500, cells={"ort": cell(i, 1), "pytorch": cell(i, 2)},
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    moved = Row(
        modules=(), type="layout", caused_by=names[0], cells={"ort": Cell(latency_ms=0.001, ops=("Reorder",))}
    )
    memory = Memory(timeline=tuple((name, 1000 * (i % 50 + 1)) for i, name in enumerate(names)))
    column = dataclasses.replace(COLUMN, memory=memory, flags=())
    why = (Explanation(row=names[-1], latency_ms=1.0, share=0.1, why="slow", advice="`other` is faster"),)
    run = Run(
        batch=1, backends={"ort": column, "pytorch": dataclasses.replace(column, backend="pytorch")},
        rows=(*found, moved), findings=("`x` stands out",), explanations={"ort": why, "pytorch": why},
    )  # fmt: skip
    runs = tuple(dataclasses.replace(run, batch=batch) for batch in batches)
    return dataclasses.replace(FULL, model="deep", runs=runs)


def change(row: str, verdict: Any, after: float) -> Difference:
    return Difference(
        batch=1, backend="ort", row=row, verdict=verdict, before_ms=1.0, after_ms=after, change=after - 1,
        interval=(after - 1.1, after - 0.9),
    )  # fmt: skip


DEEP = network(200, batches=(1, 8))
CHANGED = Comparison(
    before=DEEP,
    after=DEEP,
    differences=(
        change("end to end", "no change", 1.0),
        change("features.block0.layer0.conv0", "slower", 1.5),
        change("features.block0.layer0.norm1", "faster", 0.5),
        *(change(f"quiet{i}", "no change", 1.0) for i in range(60)),
    ),
)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra test)")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield made
        made.close()


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open a report; whatever it asks for, or trips over, fails the test."""
    contexts: list[Any] = []
    asked: list[str] = []
    wrong: list[str] = []

    def visit(text: str, width: int = 1440, scheme: str = "light", *, scripts: bool = True) -> Any:
        path = tmp_path / "p.html"
        path.write_text(text)
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=scripts)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []
    assert len(asked) == len(contexts)


def rows_of(page: Any) -> list[str]:
    """Return the names in the table of rows that is seen."""
    return [text.strip() for text in page.locator("table.rows:visible tbody th").all_inner_texts()]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_page_fits_the_screen_and_axe_finds_nothing(opened: Open, width: int, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed (extra test)"
    )
    page = opened(html_report(DEEP, CHANGED), width, scheme)
    page.locator(".chart svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("details.all:visible summary").click()
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [1440, 390])
def test_at_first_sight_a_deep_network_is_no_endless_page(opened: Open, width: int) -> None:
    page = opened(html_report(DEEP), width)
    page.locator(".chart svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollHeight") < 6000


def test_the_costliest_rows_stand_first_and_the_others_are_one_line(opened: Open) -> None:
    page = opened(html_report(DEEP))
    names = rows_of(page)
    assert len(names) == 21
    assert names[0] == "features.block4.layer9.add199 + add199_relu"
    assert names[-1] == "181 other rows: show"
    page.get_by_role("button", name="181 other rows: show").click()
    assert len(rows_of(page)) == 201
    page.locator("select:visible").last.select_option("10")
    assert len(rows_of(page)) == 11


def test_rows_are_filtered_by_words_and_by_type_and_sorted_by_any_column(opened: Open) -> None:
    page = opened(html_report(DEEP))
    page.get_by_role("searchbox", name="Filter").fill("block1. .conv")
    assert len(rows_of(page)) == 10
    assert all("block1" in name and "conv" in name for name in rows_of(page))
    page.get_by_role("searchbox", name="Filter").fill("")
    page.get_by_role("combobox", name="Type").select_option("BatchNorm2d")
    assert all(re.search("norm|add", name) for name in rows_of(page)[:20])
    page.locator("table.rows:visible").get_by_role("button", name="module").click()
    assert rows_of(page)[0] == "features.block0.layer0.norm1 + norm1_relu"
    sort = page.locator("table.rows:visible").get_by_role("button", name="pytorch ms")
    sort.focus()
    page.keyboard.press("Enter")
    assert "add199" in rows_of(page)[0]
    page.keyboard.press("Enter")  # the heading keeps the focus
    assert "norm1" in rows_of(page)[0]
    assert page.locator("th[aria-sort=ascending]:visible").inner_text().startswith("pytorch ms")


def test_the_module_tree_folds_with_sums(opened: Open) -> None:
    page = opened(html_report(DEEP))
    page.get_by_role("button", name="Module tree").first.click()
    first = page.get_by_role("button", name="block0 (41)")
    assert first.get_attribute("aria-expanded") == "false"
    sums = page.locator("tr.group", has=page.locator("text=block0 (41)")).first.inner_text()
    assert "8.201" in sums  # 0.01 + … + 0.40 ms, and what moves data for its first row
    before = len(rows_of(page))
    first.focus()
    page.keyboard.press("Enter")
    assert len(rows_of(page)) == before + 10
    assert page.evaluate("document.activeElement.textContent").startswith("block0")
    page.get_by_role("searchbox", name="Filter").fill("layer1.conv4 ")
    assert [name for name in rows_of(page) if "conv4 +" in name] == ["block0.layer1.conv4 + conv4_relu"]


def test_a_name_opens_all_of_its_figures_by_tap_and_by_key(opened: Open) -> None:
    page = opened(html_report(DEEP), 390)
    name = page.locator("table.rows:visible .name").first
    assert name.get_attribute("title") == (
        "features.block4.layer9.add199 + features.block4.layer9.add199_relu"
    )
    name.click()
    said = page.locator(".detail:visible").inner_text()
    assert "features.block4.layer9.add199 + features.block4.layer9.add199_relu" in said
    assert "features.block4.layer9.add199/Node" in said
    page.keyboard.press("Enter")
    assert page.locator(".detail:visible").count() == 0


def test_columns_are_chosen_and_the_one_in_focus_gives_the_figures(opened: Open) -> None:
    page = opened(html_report(DEEP))
    heads = "table.rows:visible thead th"
    assert "pytorch %" not in page.locator(heads).all_inner_texts()
    page.get_by_role("group", name="Column in focus").get_by_role("button", name="pytorch").click()
    assert "pytorch %" in page.locator(heads).all_inner_texts()
    assert page.locator(".why:visible h4").all_inner_texts() == ["In pytorch"]
    page.locator(".chooser:visible summary").click()
    page.locator(".chooser:visible").get_by_label("ort GFLOP/s").check()
    page.locator(".chooser:visible").get_by_label("type", exact=True).uncheck()
    assert "ort GFLOP/s" in page.locator(heads).all_inner_texts()
    assert "type" not in page.locator(heads).all_inner_texts()


def test_batches_are_shown_one_at_a_time(opened: Open) -> None:
    page = opened(html_report(DEEP))
    assert page.locator("h2:visible").all_inner_texts() == ["Batch 1"]
    page.get_by_role("button", name="Batch 8").click()
    assert page.locator("h2:visible").all_inner_texts() == ["Batch 8"]
    page.locator(".chart:visible svg").first.wait_for()


def test_totals_are_by_type_and_by_stage(opened: Open) -> None:
    page = opened(html_report(DEEP))
    table = page.locator("table.totals:visible")
    assert table.locator("tbody th").all_inner_texts() == ["BatchNorm2d", "Conv2d", "data moved or converted"]
    page.get_by_role("button", name="By stage of the network").first.click()
    assert table.locator("tbody th").all_inner_texts()[:2] == ["features.block0", "features.block1"]


@pytest.mark.parametrize("width", [1440, 390])
def test_charts_name_their_axes_and_marks_to_eye_and_ear(opened: Open, width: int) -> None:
    page = opened(html_report(DEEP), width)
    memory, roofline = (page.locator(f"[data-part={part}] .chart:visible") for part in ("memory", "roofline"))
    memory.locator("svg").wait_for()
    texts = memory.locator("svg text").all_inner_texts() + memory.locator("svg text").all_text_contents()
    assert {"0 B", "200 nodes in the order in which they run", "block0"} <= set(texts)
    slider = memory.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == (
        "1.0 kB at features.block0.layer0.conv0 (node 1 of 200)"
    )
    page.keyboard.press("ArrowRight")
    assert "norm1 (node 2 of 200)" in memory.locator(".readout").inner_text()
    texts = roofline.locator("svg text").all_text_contents()
    assert {"FLOP for each byte moved", "GFLOP/s", "1", "8"} <= set(texts)
    assert any("GB/s" in text for text in texts)
    assert page.locator("[data-part=roofline] .named:visible li").count() == 8
    roofline.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert "act198" in roofline.locator(".readout").inner_text()


def test_a_module_that_became_slower_has_a_bar_to_the_right_and_what_did_not_change_is_folded(
    opened: Open,
) -> None:
    page = opened(html_report(DEEP, CHANGED))
    lines = page.locator("table.changes tbody tr")
    assert lines.count() == 8
    assert [text.split()[-1] for text in lines.locator("td.words").all_inner_texts()[1:3]] == [
        "slower",
        "faster",
    ]
    middle = page.evaluate(
        "[...document.querySelectorAll('.diverging')].slice(1, 3).map((bar) => { const box = "
        "bar.getBoundingClientRect(), fill = bar.querySelector('.fill').getBoundingClientRect(); "
        "return (fill.left + fill.right) / 2 - (box.left + box.right) / 2; })"
    )
    assert middle[0] > 20
    assert middle[1] < -20
    page.get_by_role("button", name="Show 55 more").click()
    assert lines.count() == 63
    page.get_by_role("button", name="Per cent").click()
    assert "+55.0%" in page.locator("table.changes thead").inner_text()


def test_without_scripts_the_costliest_rows_totals_and_reasons_stand_there(opened: Open) -> None:
    page = opened(html_report(DEEP), scripts=False)
    text = page.locator("main").inner_text()
    for said in ("features.block4.layer9.add199", "181 other rows", "BatchNorm2d", "In ort", "Batch 8"):
        assert said in text


def test_names_are_no_markup(opened: Open) -> None:
    name = "</script><img src=x onerror=alert(1)>'\"&"
    (run,) = network(40).runs
    rows = (dataclasses.replace(run.rows[39], modules=(name,), type=name), *run.rows[:39])
    profile = dataclasses.replace(DEEP, model=name, runs=(dataclasses.replace(run, rows=rows),))
    whole = dataclasses.replace(CHANGED, differences=(change(name, "slower", 2.0),))
    page = opened(html_report(profile, whole))
    assert page.locator("img").count() == 0
    assert rows_of(page)[0] == name
    assert page.locator("table.changes tbody th").inner_text() == name


def test_what_was_not_timed_has_no_charts_and_says_so(opened: Open) -> None:
    column = dataclasses.replace(
        COLUMN, measured=False, latency_ms=None, layer_sum_ms=None, memory=Memory(), device=None
    )
    rows = (Row(modules=("conv1",), type="Conv2d", cells={"trt": Cell(nodes=("conv1",), dtype="Half")}),)
    run = Run(batch=1, backends={"trt": column}, rows=rows)
    page = opened(html_report(Profile(model="net", device="cpu", threads=None, runs=(run,))))
    text = page.locator("main").inner_text()
    for said in ("not measured", "Nothing was timed", "Half", "Not known for trt"):
        assert said in text


def test_a_report_of_a_thousand_rows_is_a_small_file() -> None:
    changes = tuple(change(f"features.block{i}.conv", "no change", 1.0) for i in range(2000))
    text = html_report(network(1000), dataclasses.replace(CHANGED, differences=changes))
    assert len(text.encode()) < LARGEST
    assert "https://" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
