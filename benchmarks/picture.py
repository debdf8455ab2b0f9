"""The README's picture: a report's verdicts beside its before/after table, as a browser shows them.

    python benchmarks/picture.py results/default/report/index.html docs/report.png

Needs Debian's `chromium`; `make picture` runs the study first.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1280
LARGEST = 350_000
"""Bytes: a README should not take longer to load than to read."""


BESIDE = """
body { zoom: 1.15; }
.page { max-width: none; padding: .5rem 1.5rem 1rem; }
header p, nav, main > section ~ section, .warning:not([role=note]), ol.verdicts p + p + p,
.headline .note, .headline .n, .headline ~ *, [id$=-before] ~ section { display: none; }
main > section { display: grid; grid-template-columns: 1fr 1fr; gap: 0 3rem; }
main > section > h2 { grid-column: 1 / -1; margin: 0; }
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
