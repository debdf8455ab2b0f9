"""`make check` leaves slow tests out, and still runs tests of every package."""

import re

import pytest

from lesion_testing import ROOT

SLOW = re.compile(r"^pytestmark = .*\bslow\b", re.M)
SOURCE = ROOT / "src" / "lesion"
PACKAGES = sorted(
    path.stem
    for path in SOURCE.iterdir()
    if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.stem != "__init__")
)


def test_the_packages_are_found() -> None:
    assert {"io", "models", "scores", "tables"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_quick_tests_of_its_own(package: str) -> None:
    files = sorted((ROOT / "tests" / package).glob("test_*.py"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    quick = [text for text in texts if not SLOW.search(text)]
    imported = re.compile(
        rf"^(?:from|import) lesion(?:\.{package}\b| import .*\b{package}\b)", re.M
    )
    assert any(imported.search(text) for text in quick), files
