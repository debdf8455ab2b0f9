"""The digest of a rule's code, and what is kept of parsing it."""

import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from lesion.plan import code as real
from lesion_testing import ROOT

MODULE = "lesion.masks.algebra"
SCRIPT = Path(__file__)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of lesion's code, of which nothing has been parsed."""
    skip = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(ROOT / "src" / "lesion", tmp_path / "lesion", ignore=skip))


@pytest.fixture(autouse=True)
def _kept_by_tests_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def _again() -> ModuleType:
    """The module that digests code, as a new process has it; other tests keep theirs."""
    spec = spec_from_file_location(real.__name__, real.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _digest(package: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest as a new process computes it."""
    module = _again()
    monkeypatch.setattr(module, "_PACKAGE", package)
    monkeypatch.setattr(module, "PARSED", package / "__pycache__" / "code.json")
    return str(module.code(SCRIPT, MODULE))


def test_what_was_parsed_is_used_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _digest(package, monkeypatch)
    assert json.loads((package / "__pycache__" / "code.json").read_text())
    monkeypatch.setattr("ast.parse", lambda text: pytest.fail("it was parsed again"))
    assert _digest(package, monkeypatch) == first


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}', '{"a": [1]}'])
def test_a_damaged_file_is_made_anew(
    package: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first = _digest(package, monkeypatch)
    kept = package / "__pycache__" / "code.json"
    kept.write_text(damage)
    assert _digest(package, monkeypatch) == first
    assert len(json.loads(kept.read_text())) > 3


def test_an_edited_module_is_parsed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _digest(package, monkeypatch)
    path = package / "masks" / "algebra.py"
    text = path.read_text()
    path.write_text(f"# A comment.\n{text}")
    assert _digest(package, monkeypatch) == first
    path.write_text(f"{text}\nUSED = 1\n")
    assert _digest(package, monkeypatch) != first


def test_another_version_of_the_digest_parses_again(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _digest(package, monkeypatch)
    before = json.loads((package / "__pycache__" / "code.json").read_text())
    module = _again()
    monkeypatch.setattr(module, "_own_text", lambda: "another version")
    monkeypatch.setattr(module, "_PACKAGE", package)
    monkeypatch.setattr(module, "PARSED", package / "__pycache__" / "code.json")
    module.code(SCRIPT, MODULE)
    assert len(json.loads((package / "__pycache__" / "code.json").read_text())) == 2 * len(before)


def test_a_folder_that_cannot_be_written_is_no_error(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _digest(package, monkeypatch)
    shutil.rmtree(package / "__pycache__")
    (package / "__pycache__").write_text("a file where the folder would be")
    assert _digest(package, monkeypatch) == first
