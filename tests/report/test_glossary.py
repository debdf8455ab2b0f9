"""The glossary: one source for the docs and for the report's explanations."""

import re
from pathlib import Path

import pytest

from lesion.report.glossary import Explained, terms
from lesion.report.page import write_report


def test_no_word_has_two_meanings() -> None:
    words = [word for term in terms() for word in term.words]
    assert sorted(words) == sorted(set(words))


def test_meanings_are_plain_sentences() -> None:
    for term in terms():
        assert term.meaning.endswith((".", ")")), term.name
        assert not re.search(r"`|\]\(|\.md", term.meaning), term.name


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("The NLL rises; the NLL of it.", ["NLL"]),
        ("Zeroing weights of harm; masks", ["Zeroing", "weights of harm", "masks"]),
        ("Nothing is explained in `mask` code.", []),
        ("unweighted, a/token, token-wise, tokens", ["tokens"]),
        ("The minimum detectable effect (MDE)", ["minimum detectable effect"]),
    ],
)
def test_the_first_of_each_term_is_explained(text: str, marked: list[str]) -> None:
    html = str(Explained().text(text))
    assert re.findall(r"<dfn [^>]*>([^<]*)</dfn>", html) == marked


def test_a_new_part_explains_again_and_ids_stay_apart() -> None:
    explained = Explained()
    first = explained.text("A mask")
    assert "<dfn" not in explained.text("a mask")
    explained.afresh()
    again = explained.text("a mask")
    assert 'id="tooltip-1"' in first
    assert 'id="tooltip-2"' in again
    assert [term.name for term in explained.used] == ["mask"]


def test_texts_are_escaped() -> None:
    assert explained_text("<b>NLL</b> `<i>`") == ("&lt;b&gt;NLL&lt;/b&gt; <code>&lt;i&gt;</code>")


def explained_text(text: str) -> str:
    """The HTML of a text without its explanations."""
    html = str(Explained().text(text))
    html = re.sub(r'<span role="tooltip".*?</span>', "", html)
    return re.sub(r"</?(?:dfn|span)[^>]*>", "", html)


def test_the_page_ends_with_the_terms_that_it_uses(tables: Path, tmp_path: Path) -> None:
    write_report(tables, tmp_path / "page.html", 0)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    body, glossary = text.split('<section id="glossary"')
    used = {name for term in terms() for name in [term.name] if f"<dt>{name}</dt>" in glossary}
    marked = set(re.findall(r"<dfn [^>]*>([^<]*)</dfn>", body))
    words = {word: term.name for term in terms() for word in term.words}
    assert {words.get(word) or words[word[0].lower() + word[1:]] for word in marked} == used
    assert {"NLL", "AUROC", "mask", "prefill", "minimum detectable effect"} <= used
