"""The code blocks and code spans of README and docs."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lesion_testing import ROOT

PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "config/README.md",
    "docs/**/*.md",
    "studies/*/README.md",
)
PAGES = sorted(page for pattern in PATTERNS for page in ROOT.glob(pattern))

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S)
_SPAN = re.compile(r"`([^`]+)`")
_OPERATORS = {"&&", "||", "|", ";", "&"}


class Snippet(NamedTuple):
    """A code block."""

    place: str
    """The page and the line, such as `README.md:17`."""
    language: str
    text: str


def snippets(text: str, name: str) -> Iterator[Snippet]:
    """The code blocks of a page, those in lists too."""
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Snippet(f"{name}:{line}", match["language"], textwrap.dedent(match["text"]))


def all_snippets(language: str) -> list[Snippet]:
    """Those of all pages in a language."""
    return [
        snippet
        for page in PAGES
        for snippet in snippets(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
        if snippet.language == language
    ]


def spans(text: str) -> Iterator[str]:
    """The code spans of a page, those that go on in the next line joined."""
    for span in _SPAN.findall(_FENCE.sub("", text)):
        yield " ".join(span.split())


def commands(script: str) -> Iterator[list[str]]:
    """The words of each simple command of a script, without assignments and redirections."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in lexer:
            if word in _OPERATORS:
                yield words
                words = []
            elif skip or set(word) <= set("<>"):
                skip = not skip
            else:
                words.append(word)
        yield words


def named(words: list[str]) -> list[str]:
    """A command without assignments before it, its program without its folder."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    return [Path(words[0]).name, *words[1:]] if words else []
