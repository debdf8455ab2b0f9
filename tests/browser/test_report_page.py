"""The report as a person opens it: from disk, at three widths, in light and dark, and printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Page

from lesion_testing.browser import LONG, Opener, assert_accessible, assert_whole, unfold, written
from lesion_testing.invented import Shape, write_study

pytestmark = pytest.mark.slow

WIDTHS = (375, 768, 1280)
SCHEMES = ("light", "dark")

LEGIBLE = """one => {
    for (let up = one; up; up = up.parentElement)
        if (getComputedStyle(up).filter.includes("blur")) return false;
    return one.checkVisibility({visibilityProperty: true, opacityProperty: true});
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_opens_whole(opened: Opener, report: Path, width: int, scheme: str) -> None:
    found = opened(report, width, scheme)
    print(f"{width} px, {scheme}: drawn in {found.seconds:.2f} s")
    assert_whole(found, report)
    assert found.page.locator("figure").count() >= 4


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_nothing_keeps_anyone_out(opened: Opener, report: Path, width: int, scheme: str) -> None:
    assert_accessible(opened(report, width, scheme))


def test_hostile_text_is_shown_and_does_nothing(opened: Opener, report: Path) -> None:
    found = opened(report)
    page = found.page
    elements = page.evaluate("document.querySelectorAll('*').length")
    unfold(page)
    page.mouse.wheel(0, 100_000)
    assert_whole(found, report)
    assert page.evaluate("window.taken") is None
    assert page.locator("main :is(img, b, script:not([type='application/json']))").count() == 0
    assert page.evaluate("document.querySelectorAll('*').length") == elements
    texts = page.locator("blockquote").all_inner_texts()
    assert any("</script><script>alert(1)</script><img src=" in text for text in texts)
    assert any(text.startswith("<script>window.taken = true") for text in texts)
    assert max(map(len, texts)) < 1000 < len(LONG)
    assert not any("\u202e" in text for text in texts)
    assert report.stat().st_size < 5 * 2**20


def _legible(page: Page) -> list[bool]:
    places = page.locator("article.example:has(summary) blockquote")
    return [bool(one.evaluate(LEGIBLE)) for one in places.all()]


def test_harmful_examples_wait_for_a_click(opened: Opener, report: Path) -> None:
    page = opened(report).page
    before = _legible(page)
    assert before
    assert not any(before)
    summary = page.locator("article.example summary").first
    look = summary.locator(".blurred")
    styles = "element => [getComputedStyle(element).filter, getComputedStyle(element).userSelect]"
    seen, selected = look.evaluate(styles)
    assert seen.startswith("blur(")
    assert selected == "none"
    summary.focus()
    page.keyboard.press("Enter")
    assert not look.is_visible()
    after = _legible(page)
    assert 0 < sum(after) < len(after)
    page.emulate_media(media="print")
    assert not any(_legible(page))


def test_harmless_examples_are_printed(opened: Opener, report: Path) -> None:
    page = opened(report).page
    page.emulate_media(media="print")
    harmless = page.locator("article.example:not(:has(summary)) blockquote")
    assert harmless.count()
    assert all(one.evaluate(LEGIBLE) for one in harmless.all())


def test_the_keyboard_reaches_the_content(opened: Opener, report: Path) -> None:
    page = opened(report).page
    page.keyboard.press("Tab")
    first: Any = page.evaluate("document.activeElement.getAttribute('href')")
    assert first == "#content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0


TWENTY = [f"type-{number:02}" for number in range(20)]


@pytest.mark.parametrize(
    "shape",
    [Shape(harm=["physical"], benign=["plan"]), Shape(harm=TWENTY), Shape(trained=True)],
    ids=["one", "twenty", "trained"],
)
def test_other_studies_open_whole(
    opened: Opener, shaped: Callable[[Shape], Path], shape: Shape
) -> None:
    path = shaped(shape)
    assert_whole(opened(path, 375, "dark"), path)


def test_trained_models_keep_nobody_out(opened: Opener, shaped: Callable[[Shape], Path]) -> None:
    assert_accessible(opened(shaped(Shape(trained=True)), 1280, "light"))


def test_a_study_of_empty_tables_opens_whole(opened: Opener, tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables")
    for path in tables.glob("*.parquet"):
        pl.read_parquet(path).clear().write_parquet(path)
    page = written(tables)
    found = opened(page, 375)
    assert_whole(found, page)
    assert found.page.locator("figure").count() == 0
    assert found.page.locator(".missing").count() > 0
