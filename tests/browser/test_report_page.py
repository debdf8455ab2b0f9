"""The report as a person opens it: from disk, at three widths, in light and dark, and printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Browser, Page

from lesion_testing.browser import (
    LONG,
    Opener,
    assert_accessible,
    assert_whole,
    unfold,
    violations,
    written,
)
from lesion_testing.invented import Shape, write_study

pytestmark = pytest.mark.slow

WIDTHS = (390, 820, 1400)
SCHEMES = ("light", "dark")

EXPLAINED = """(terms, width) => terms.filter(term => {
    const tooltip = term.querySelector("[role=tooltip]");
    const seen = () => tooltip.checkVisibility({visibilityProperty: true, opacityProperty: true});
    const before = seen();
    term.querySelector("dfn").focus();
    const box = tooltip.getBoundingClientRect();
    const inside = box.left >= 0 && box.right <= width && box.width > 0 && box.height > 0;
    const fits = document.scrollingElement.scrollWidth <= document.documentElement.clientWidth;
    return before || !seen() || !inside || !fits;
}).map(term => term.outerHTML.slice(0, 120))"""
"""The terms that were explained before they had the focus, or then were not, or not in full."""
LEGIBLE = """one => {
    for (let up = one; up; up = up.parentElement)
        if (getComputedStyle(up).filter.includes("blur")) return false;
    return one.checkVisibility({visibilityProperty: true, opacityProperty: true});
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_opens_whole_and_keeps_nobody_out(
    opened: Opener, report: Path, width: int, scheme: str
) -> None:
    found = opened(report, width, scheme)
    print(f"{width} px, {scheme}: drawn in {found.seconds:.2f} s")
    assert_whole(found, report)
    assert found.page.locator("figure").count() >= 4
    assert_accessible(found)


def test_what_keeps_someone_out_is_found(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<main><img src='a.png'><p style='color: #bbb'>pale</p></main>")
    assert {"image-alt", "color-contrast"} <= {rule for rule, *_ in violations(page)}
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (820, "light"), (1400, "dark")])
def test_seven_models(opened: Opener, seven: Path, width: int, scheme: str) -> None:
    found = opened(seven, width, scheme)
    assert_whole(found, seven)
    table = found.page.locator("table.models")
    assert table.locator("tbody tr").count() == 7
    # The table comes before any model, and scrolls inside of its own frame.
    top = table.evaluate("table => table.getBoundingClientRect().top")
    assert 0 < top < found.page.locator("#model-1").evaluate("e => e.getBoundingClientRect().top")
    assert table.evaluate("t => t.parentElement.scrollWidth > t.parentElement.clientWidth")
    ids = found.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    own = [name for name in ids if not name.startswith(("gradient", "clip", "vg-"))]
    assert len(own) == len(set(own))
    # Each model's own section is like that of the page of one model, which Axe sees whole.
    found.page.evaluate("document.querySelectorAll('main > [id^=model-]').forEach(e => e.remove())")
    assert_accessible(found)


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


@pytest.mark.parametrize("width", WIDTHS)
def test_every_term_is_explained_on_hover_and_on_focus(
    opened: Opener, report: Path, width: int
) -> None:
    page = opened(report, width).page
    unfold(page)
    terms = page.locator(".term:visible")
    assert terms.count() > 30
    assert terms.evaluate_all(EXPLAINED, width) == []
    page.keyboard.press("Escape")
    assert not page.locator("[role=tooltip]:visible").count()
    page.mouse.move(0, 0)
    first = terms.first
    first.locator("dfn").hover()
    assert first.locator("[role=tooltip]").is_visible()
    page.keyboard.press("Escape")
    assert not first.locator("[role=tooltip]").is_visible()


def test_terms_and_contents_need_no_script(browser: Browser, report: Path) -> None:
    context = browser.new_context(
        java_script_enabled=False, has_touch=True, viewport={"width": 390, "height": 800}
    )
    page = context.new_page()
    page.goto(report.as_uri())
    term = page.locator("#short .term").first
    term.locator("dfn").tap()
    assert term.locator("[role=tooltip]").is_visible()
    link = page.locator(".toc a[href='#glossary']")
    assert not link.is_visible()
    page.locator(".contents > summary").tap()
    link.tap()
    assert page.url.endswith("#glossary")
    assert page.locator("#glossary dt").count() > 20
    context.close()


def test_the_contents_stay_beside_the_text_and_lead_everywhere(opened: Opener, seven: Path) -> None:
    page = opened(seven, 1400).page
    contents = page.locator(".toc")
    assert contents.locator("summary").first.is_hidden()
    unfold(page)
    targets = contents.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert len(targets) == len(set(targets))
    sections = page.locator("section[id]").evaluate_all("all => all.map(one => '#' + one.id)")
    assert set(sections) == set(targets)
    page.evaluate("window.scrollTo({top: 20_000, behavior: 'instant'})")
    assert page.evaluate("window.scrollY") > 10_000
    box = contents.bounding_box()
    assert box is not None
    assert box["y"] == 0
    assert box["height"] <= 800


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_chart_can_be_saved(
    opened: Opener, report: Path, tmp_path: Path, kind: str, start: bytes
) -> None:
    page = opened(report, 820, "dark").page
    figures = page.locator("figure").count()
    buttons = page.locator(f"button[data-save={kind}]")
    assert buttons.count() == figures
    with page.expect_download() as saved:
        buttons.first.focus()
        page.keyboard.press("Enter")
    assert saved.value.suggested_filename == f"smol-outcomes.{kind}"
    saved.value.save_as(tmp_path / "chart")
    assert (tmp_path / "chart").read_bytes().startswith(start)
    assert page.locator(".chart svg").first.is_visible()


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
    "shape", [Shape(harm=["physical"], benign=["plan"]), Shape(harm=TWENTY)], ids=["one", "twenty"]
)
def test_other_studies_open_whole(
    opened: Opener, shaped: Callable[[Shape], Path], shape: Shape
) -> None:
    path = shaped(shape)
    assert_whole(opened(path, 375, "dark"), path)


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_trained_models_keep_nobody_out(
    opened: Opener, shaped: Callable[[Shape], Path], width: int, scheme: str
) -> None:
    path = shaped(Shape(trained=True))
    found = opened(path, width, scheme)
    assert_whole(found, path)
    assert_accessible(found)


def test_a_study_of_empty_tables_opens_whole(opened: Opener, tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables")
    for path in tables.glob("*.parquet"):
        pl.read_parquet(path).clear().write_parquet(path)
    page = written(tables)
    found = opened(page, 375)
    assert_whole(found, page)
    assert found.page.locator("figure").count() == 0
    assert found.page.locator(".missing").count() > 0
