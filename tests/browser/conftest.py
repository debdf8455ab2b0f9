"""Pages in a real headless Chromium, the system's own: nothing is downloaded.

Chromium is Debian's package; `.ci/packages` installs it.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, sync_playwright
from report.invented import HOSTILE, Shape, write_study

from lesion.report.page import write_report

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 800
# Far more than a page takes: machines can be busy, and no test is about time.
PATIENCE_MS = 180_000
SCRIPT = "<script>window.taken = true; alert(3)</script>"
LONG = f"{SCRIPT}<b onmouseover=alert(4)>\u202e" + 200_000 * "word "

GRAVE = ("serious", "critical")
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


# Not for the session: while Playwright runs, no other test could start an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium: `.ci/packages` installs Debian's")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Open a file at a width and in a colour scheme, and wait until its charts are drawn."""
    contexts = []

    def opener(path: Path, width: int = 1280, scheme: Any = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": HEIGHT}, color_scheme=scheme
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        found = Opened(page, [], [], [], 0.0)

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                found.errors.append(message.text)

        def asked(dialog: Dialog) -> None:
            found.dialogs.append(dialog.message)
            dialog.dismiss()

        def requested(request: Request) -> None:
            found.requests.append(request.url)

        page.on("console", heard)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("dialog", asked)
        page.on("request", requested)
        started = time.monotonic()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        return found._replace(seconds=time.monotonic() - started)

    yield opener
    for context in contexts:
        context.close()


def assert_whole(found: Opened, path: Path) -> None:
    """It said nothing, asked for nothing, drew every figure, and nothing sticks out."""
    assert found.errors == []
    assert found.dialogs == []
    assert set(found.requests) <= {path.as_uri(), "data:,"}
    for figure in found.page.query_selector_all("figure"):
        assert figure.evaluate(MARKS) > 0, figure.get_attribute("aria-labelledby")
    assert found.page.evaluate(WIDER) == []


def assert_accessible(found: Opened) -> None:
    """Axe finds nothing serious, with everything unfolded."""
    unfold(found.page)
    # A table's rows are alike, and the contrast of thousands of cells takes longest.
    found.page.evaluate(
        "document.querySelectorAll('tbody tr:nth-child(n+6)').forEach(r => r.remove())"
    )
    report = Axe().run(found.page)
    grave = [one for one in report.response["violations"] if one["impact"] in GRAVE]
    assert [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]]) for one in grave
    ] == []


def unfold(page: Page) -> None:
    """Open everything that is folded."""
    for folded in page.query_selector_all("details"):
        folded.evaluate("one => one.open = true")


def hostile(folder: Path) -> Path:
    """Let an invented study's prompts and answers, and its config, try everything."""
    path = folder / "examples.parquet"
    table = pl.read_parquet(path)
    table.with_columns(
        prompt=pl.col("prompt") + pl.lit(HOSTILE),
        completion=pl.when(variant="intact").then(pl.lit(LONG)).otherwise(pl.col("completion")),
    ).write_parquet(path)
    about = folder / "study.json"
    text = about.read_text(encoding="utf-8")
    about.write_text(text.replace('"threshold": 0.5', f'"threshold": 0.5, "{SCRIPT}": "{SCRIPT}"'))
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an invented study whose model writes the worst it can."""
    folder = tmp_path_factory.mktemp("hostile")
    return written(hostile(write_study(folder / "tables")))


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shape], Path]:
    """The page of an invented study of another shape."""
    return lambda shape: written(write_study(tmp_path_factory.mktemp("shaped") / "tables", shape))


def written(tables: Path) -> Path:
    page = tables.parent / "index.html"
    write_report(tables, page, examples=6)
    return page
