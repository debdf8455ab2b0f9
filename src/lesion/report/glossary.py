"""The glossary: its page of the docs, and explanations of the report's terms where they occur.

A term that a text contains becomes a `dfn` with a tooltip, which CSS shows on hover, on keyboard
focus and on touch; no script is needed. Only the first occurrence in a part of the page is marked,
so that texts stay legible.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

_SOURCE = Path(__file__).with_name("glossary.toml")
_HEAD = """# Glossary

The terms of the docs, the messages and the report, each in a sentence or two. This page is
generated from `src/lesion/report/glossary.toml` by `lesion reference --write`; the report explains
the same terms where they occur. The docs are in British English (*behaviour*, *judgement*,
*optimiser*, *licence*); a key that Hugging Face defines keeps Hugging Face's spelling (`license`).
"""
_NOT_REPORTED = ("The pipeline",)
"""Sections whose words have their everyday meaning in the report."""
_UNMARKED = ("lesion", "p", "q", "`rng`")
"""Terms that are letters, or the name of the program, in the report."""


class Term(NamedTuple):
    """A term of the report, all words for it, and its meaning without links and formatting."""

    name: str
    words: tuple[str, ...]
    meaning: str


def glossary_page() -> str:
    """The glossary as a page of the docs, in Markdown."""
    lines = [_HEAD]
    for section, terms in _sections().items():
        rows = [f"| {term} | {meaning} |" for term, meaning in terms.items()]
        lines += [f"## {section}", "", "| term | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


@cache
def terms() -> list[Term]:
    """The terms that the report explains, in the order of the glossary."""
    entries = [
        entry
        for section, of_section in _sections().items()
        if section not in _NOT_REPORTED
        for entry in of_section.items()
        if entry[0] not in _UNMARKED
    ]
    return [_term(key, meaning) for key, meaning in entries]


class Explained:
    """The texts of one page, in which terms are explained; it knows which terms were used."""

    def __init__(self) -> None:
        self._by_word = {word: term for term in terms() for word in term.words}
        self._marked: set[Term] = set()
        self._used: set[Term] = set()
        self._tooltips = 0

    @property
    def used(self) -> list[Term]:
        """The terms that were explained so far, sorted by name."""
        return sorted(self._used, key=lambda term: term.name.lower())

    def afresh(self) -> str:
        """Begin a new part of the page, in which every term is explained again; writes nothing."""
        self._marked.clear()
        return ""

    def text(self, text: str) -> Markup:
        """A text as HTML: what backticks enclose is code, and new terms have explanations."""
        parts = text.split("`")
        return Markup().join(
            Markup("<code>{}</code>").format(part) if place % 2 else self._prose(part)
            for place, part in enumerate(parts)
        )

    def _prose(self, text: str) -> Markup:
        # Splitting by one group gives texts and words in turn.
        pieces = _pattern().split(text)
        return Markup().join(
            self._word(piece) if place % 2 else Markup.escape(piece)
            for place, piece in enumerate(pieces)
        )

    def _word(self, word: str) -> Markup:
        term = self._by_word.get(word) or self._by_word[word[0].lower() + word[1:]]
        if term in self._marked:
            return Markup.escape(word)
        self._marked.add(term)
        self._used.add(term)
        self._tooltips += 1
        return Markup(
            '<span class="term"><dfn tabindex="0" aria-describedby="tooltip-{0}">{1}</dfn>'
            '<span role="tooltip" id="tooltip-{0}">{2}</span></span>'
        ).format(self._tooltips, word, term.meaning)


@cache
def _sections() -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = tomllib.loads(_SOURCE.read_text(encoding="utf-8"))
    return sections


@cache
def _pattern() -> re.Pattern[str]:
    """Matches every word for a term, also at the beginning of a sentence; longer ones first."""
    words = sorted({word for term in terms() for word in term.words}, key=len, reverse=True)
    either = (f"(?:{word[0].upper()}|{word[0]}){re.escape(word[1:])}" for word in words)
    return re.compile(rf"(?<![\w@/.-])({'|'.join(either)})(?![\w@/-])")


def _term(key: str, meaning: str) -> Term:
    name, _, others = key.partition(" (")
    words = {name, *re.findall(r"\*(.+?)\*", others), *re.findall(r"^[A-Z]+(?=\)$)", others)}
    if "AUROC" in words and name != "AUROC":
        words.remove("AUROC")
    plurals = {f"{word}s" for word in words if word[-1] not in "sd" and not word.isupper()}
    plain = re.sub(r" \(\[.+?\]\(.+?\)\)|`|(?<!\S)\*(?=\w)|(?<=\w)\*", "", meaning)
    return Term(name, tuple(sorted(words | plurals)), plain)
