"""What is asked of a page in a browser, and the worst that a model can write into one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from lesion.report.page import write_report
from lesion_testing.invented import HOSTILE

SCRIPT = "<script>window.taken = true; alert(3)</script>"
LONG = f"{SCRIPT}<b onmouseover=alert(4)>\u202e" + 200_000 * "word "

MARKS = """figure => figure.querySelectorAll(
    "svg :is(.mark-rect, .mark-symbol, .mark-line, .mark-rule) path"
).length"""
WIDER = """() => {
    const edge = document.documentElement.clientWidth;
    if (document.scrollingElement.scrollWidth <= edge) return [];
    return ["the page", ...[...document.querySelectorAll("body *")]
        .filter(one => one.getBoundingClientRect().right > edge && !one.closest(".scroll"))
        .map(one => one.outerHTML.slice(0, 120))];
}"""


class Opened(NamedTuple):
    """A page that has drawn itself, and what happened meanwhile."""

    page: Page
    errors: list[str]
    dialogs: list[str]
    requests: list[str]
    seconds: float


Opener = Callable[..., Opened]


def assert_whole(found: Opened, path: Path) -> None:
    """It said nothing, asked for nothing, drew every figure, and nothing sticks out."""
    assert found.errors == []
    assert found.dialogs == []
    assert set(found.requests) <= {path.as_uri(), "data:,"}
    for figure in found.page.query_selector_all("figure"):
        assert figure.evaluate(MARKS) > 0, figure.get_attribute("aria-labelledby")
    assert found.page.evaluate(WIDER) == []


def assert_accessible(found: Opened) -> None:
    """Axe finds nothing, with everything unfolded."""
    unfold(found.page)
    # A table's rows are alike, and the contrast of thousands of cells takes longest.
    found.page.evaluate(
        "document.querySelectorAll('tbody tr:nth-child(n+6)').forEach(r => r.remove())"
    )
    assert violations(found.page) == []


def violations(page: Page) -> list[tuple[str, str, list[str]]]:
    """What Axe finds: rule, what it asks for, and the first elements that break it."""
    # Describing every element that keeps a rule takes longer than the rules.
    report = Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        (rule["id"], rule["help"], [node["html"][:200] for node in rule["nodes"][:3]])
        for rule in report.response["violations"]
    ]


def unfold(page: Page) -> None:
    """Open everything that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def hostile(folder: Path) -> Path:
    """Let an invented study's prompts and answers, and its config, try everything."""
    path = folder / "examples.parquet"
    table = pl.read_parquet(path)
    table.with_columns(
        prompt=pl.col("prompt") + pl.lit(HOSTILE),
        completion=pl.when(variant="unmodified").then(pl.lit(LONG)).otherwise(pl.col("completion")),
    ).write_parquet(path)
    about = folder / "study.json"
    text = about.read_text(encoding="utf-8")
    about.write_text(text.replace('"threshold": 0.5', f'"threshold": 0.5, "{SCRIPT}": "{SCRIPT}"'))
    return folder


def written(tables: Path) -> Path:
    page = tables.parent / "index.html"
    write_report(tables, page, examples=6)
    return page
