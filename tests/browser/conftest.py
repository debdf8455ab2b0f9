"""Pages in a real headless Chromium, the system's own: nothing is downloaded.

Chromium is Debian's package; `.ci/packages` installs it.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Request, sync_playwright

from lesion_testing.browser import Opened, Opener, hostile, written
from lesion_testing.invented import Shape, write_study

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 800
# Far more than a page takes: machines can be busy, and no test is about time.
PATIENCE_MS = 180_000


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


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an invented study whose model writes the worst it can."""
    folder = tmp_path_factory.mktemp("hostile")
    return written(hostile(write_study(folder / "tables")))


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an invented study of seven models."""
    models = [f"model-number-{number}-instruct" for number in range(1, 8)]
    shape = Shape(harm=["financial", "physical"], benign=["plan"], models=models)
    return written(write_study(tmp_path_factory.mktemp("seven") / "tables", shape))


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shape], Path]:
    """The page of an invented study of another shape."""
    return lambda shape: written(write_study(tmp_path_factory.mktemp("shaped") / "tables", shape))
