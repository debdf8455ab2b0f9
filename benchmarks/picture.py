"""The README's picture: a report's opening beside its before/after table, as a browser shows them.

    python benchmarks/picture.py results/default/report/index.html docs/report.png

Needs Debian's `chromium`; `make picture` runs the study first.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1280
LARGEST = 400_000
"""Bytes: a README should not take longer to load than to read."""


BESIDE = """
body { zoom: 1.15; }
body { display: block; }
.page { max-width: none; padding: .5rem 1.5rem 1rem; }
nav, main > section:not(#short, #model-1), #model-1 > :not([id$=-before]),
#short > :is(h2, p:not(.tally, .warning)), #short li:has(.unmeasured),
.headline .note, .headline .n, .headline ~ * { display: none; }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 0 3rem; }
h1 { margin: .5rem 0; }
h3 { margin-top: .75rem; }
ol.verdicts li { padding: .4rem 0; }
.headline th:first-child { width: 28%; }
.headline .group th { padding-top: .4rem; }
"""
"""Fits both into one look: without the sentences behind the answers, which the page has."""


def take(page: Path, picture: Path) -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.exit("there is no Chromium: install Debian's package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        tab = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector("html[data-drawn]", state="attached")
        tab.add_style_tag(content=BESIDE)
        height = tab.locator(".page").evaluate("element => element.getBoundingClientRect().bottom")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        image = tab.screenshot(full_page=True, clip=clip)
        browser.close()
    if len(image) > LARGEST:
        sys.exit(f"{picture}: would have {len(image):,} bytes, more than {LARGEST:,}")
    picture.write_bytes(image)
    print(f"{picture}: {WIDTH} x {height:.0f} pixels, {len(image):,} bytes")


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
