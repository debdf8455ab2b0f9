"""The script that every page has, which is kept once it was made."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion.report import html


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which the script is kept, which holds it."""
    path = tmp_path / "page.json"
    monkeypatch.setattr(html, "SCRIPT", path)
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    monkeypatch.setattr(html.vl_convert, "javascript_bundle", lambda *_: "1;")
    html.page_script.cache_clear()
    assert html.page_script() == "1;"
    monkeypatch.setattr(html.vl_convert, "javascript_bundle", lambda *_: "2;")
    html.page_script.cache_clear()
    yield path
    html.page_script.cache_clear()


def test_the_script_is_made_once(kept: Path) -> None:
    assert html.page_script() == "1;"


def test_another_version_makes_it_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "VEGALITE", "another")
    assert html.page_script() == "2;"


@pytest.mark.parametrize("damage", ["", "[]", "{}", '["1;"]', "[1, 2, 3]", "[" * 200_000])
def test_a_damaged_file_makes_it_anew(kept: Path, damage: str) -> None:
    kept.write_text(damage, encoding="utf-8")
    assert html.page_script() == "2;"


def test_a_changed_script_is_not_taken(kept: Path) -> None:
    script, *rest = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps([f"{script} steal();", *rest]), encoding="utf-8")
    assert html.page_script() == "2;"


def test_a_script_that_is_no_text_is_not_taken(kept: Path) -> None:
    _, *rest = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps(["\ud800", *rest]), encoding="utf-8")
    assert html.page_script() == "2;"


def test_a_script_that_would_end_its_element_is_refused_each_time(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.unlink()
    monkeypatch.setattr(html.vl_convert, "javascript_bundle", lambda *_: "'</script>'")
    for _ in range(2):
        with pytest.raises(ValueError, match="script"):
            html.page_script()
