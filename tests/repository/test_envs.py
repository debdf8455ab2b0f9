"""Every way to install is made of one list of pins, and no other."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from lesion_testing import ROOT

ENVS = ROOT / "envs"
PIN = re.compile(r"([A-Za-z0-9._-]+)==[A-Za-z0-9._+!-]+")
PROFILES = sorted((ROOT / "workflow" / "profiles").glob("*/profile.yaml"))


def _pins() -> dict[str, str]:
    lines = (ENVS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {
        _plain(line.partition("==")[0]): line for line in lines if line and not line.startswith("#")
    }


def _plain(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_one_pin() -> None:
    pins = _pins()
    assert len(pins) > 50
    assert not [line for line in pins.values() if not PIN.fullmatch(line)]


def test_what_the_package_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["optional-dependencies"]
    # Libraries that few models' tokenizers take: an error names them, and the pins have none.
    assert {*groups.pop("sentencepiece"), *groups.pop("tiktoken")}.isdisjoint(_pins())
    extras = [one for group in groups.values() for one in group]
    named = [re.split(r"[<>=!~ \[]", one)[0] for one in [*project["dependencies"], *extras]]
    assert {_plain(one) for one in named} <= _pins().keys()


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_every_pin_installs_on_the_pythons_that_the_readme_promises(python: str) -> None:
    """A patch release counts: Debian 12 has Python 3.11.2, and a pin asked for 3.11.5."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert python in SpecifierSet(project["requires-python"])
    needs = {name: metadata(name)["Requires-Python"] for name in _pins()}
    assert not {
        name: need for name, need in needs.items() if need and python not in SpecifierSet(need)
    }


def test_the_conda_file_has_these_pins_and_no_other_package() -> None:
    found = yaml.safe_load((ENVS / "lesion.yaml").read_text(encoding="utf-8"))
    plain = [one for one in found["dependencies"] if isinstance(one, str)]
    (pip,) = [one["pip"] for one in found["dependencies"] if isinstance(one, dict)]
    assert [re.split(r"[ =]", one)[0] for one in plain] == ["python", "pip"]
    # pip reads the list itself, so that there is nothing to compare but this line.
    assert pip == ["-r requirements.txt"]
    assert found["channels"][-1] == "nodefaults"


@pytest.mark.parametrize("name", ["Dockerfile", "lesion.def"])
def test_a_container_is_built_of_these_pins(name: str) -> None:
    text = (ENVS / name).read_text(encoding="utf-8")
    assert re.findall(r"pip install .*", text) == [
        "pip install --no-cache-dir -r envs/requirements.txt",
        "pip install --no-cache-dir --no-deps --no-build-isolation .",
    ]
    conda = yaml.safe_load((ENVS / "lesion.yaml").read_text(encoding="utf-8"))
    (python,) = re.findall(r"(?:FROM|From:) python:([\d.]+)", text)
    assert f"python ={python}" in conda["dependencies"]
    # Nothing else is fetched.
    assert not re.search(r"\b(apt-get|curl|wget|git clone|conda)\b", text)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_profile_finds_the_same_jobs_stale(path: Path) -> None:
    default = yaml.safe_load((PROFILES[0].parents[1] / "default" / "profile.yaml").read_text())
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in ("rerun-triggers", "rerun-incomplete"):
        assert own[key] == default[key], key
