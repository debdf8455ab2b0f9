"""The page of `lesion compare`, as a person opens it."""

from pathlib import Path

import pytest

from lesion.report.compare import side, write_comparison
from lesion_testing.browser import Opener, assert_accessible, assert_whole, hostile
from lesion_testing.invented import Shape, write_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    hostile(write_study(folder / "one" / "tables"))
    write_study(folder / "two" / "tables", Shape(models=["a", "b"]))
    page = folder / "compare.html"
    write_comparison(side(str(folder / "one")), side(f"{folder / 'two'}:b"), page)
    return page


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_opens_whole(opened: Opener, comparison: Path, width: int, scheme: str) -> None:
    found = opened(comparison, width, scheme)
    assert_whole(found, comparison)
    assert found.page.locator("figure").count() == 1
    assert_accessible(found)


def test_a_hostile_setting_does_nothing(opened: Opener, comparison: Path) -> None:
    found = opened(comparison)
    assert found.page.evaluate("window.taken") is None
    assert "<script>window.taken" in (found.page.locator("#made").text_content() or "")
    assert found.dialogs == []
