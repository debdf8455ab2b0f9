"""The site of the documentation: it asks no other host for anything, and people can read it."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser

import lesion
from lesion_testing import ROOT
from lesion_testing.browser import Opened, assert_accessible

pytestmark = pytest.mark.slow

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""The attributes of elements by which a page loads something."""
LOADING = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "prefetch", "manifest"}
"""What a `link` is for if a browser follows it by itself."""
PLACES = ["index.html", "tutorial/first-study.html", "reference/tables.html"]


class Loads(HTMLParser):
    """What a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADED:
            self.addresses.append(given.get(LOADED[tag], ""))
        if tag == "link" and LOADING & set(given.get("rel", "").split()):
            self.addresses.append(given.get("href", ""))


def foreign(folder: Path) -> list[str]:
    """The addresses of other hosts that the pages and styles of a folder load."""
    addresses = []
    for page in folder.rglob("*.html"):
        addresses += Loads(page.read_text(encoding="utf-8")).addresses
    for style in folder.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        addresses += re.findall(r"(?:url\(|@import )['\"]?([^'\")]+)", text)
    return [address for address in addresses if re.match(r"(?:\w+:)?//", address)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder


def test_no_page_loads_anything_of_another_host(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 30
    assert foreign(site) == []


def test_what_a_page_loads_is_found(tmp_path: Path) -> None:
    text = '<script src="https://a/b.js"></script><a href="https://c/">c</a><img src="//d/e.png">'
    (tmp_path / "page.html").write_text(f'<link rel="preconnect" href="http://f">{text}')
    (tmp_path / "page.css").write_text("@import 'https://g/h.css'; a {background: url(own.png)}")
    assert foreign(tmp_path) == ["http://f", "https://a/b.js", "//d/e.png", "https://g/h.css"]


def test_the_library_page_has_every_name(site: Path) -> None:
    page = (site / "reference" / "library.html").read_text(encoding="utf-8")
    headings = re.findall(r'class="doc doc-heading">\s*([\w.]+)', page)
    assert {f"lesion.{name}" for name in lesion.__all__} <= set(headings)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (820, "light"), (1400, "light")])
@pytest.mark.parametrize("place", PLACES)
def test_a_page_can_be_read(
    browser: Browser, site: Path, place: str, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((site / place).as_uri())
    page.wait_for_function(
        "document.querySelectorAll('table').length == "
        "document.querySelectorAll('.md-typeset__scrollwrap').length"
    )
    page.evaluate("new Promise(requestAnimationFrame)")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    if width != 820:
        assert_accessible(Opened(page, said, [], asked, 0))
    context.close()
