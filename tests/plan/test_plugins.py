"""A changed plug-in makes the jobs stale that use it, and no others."""

import copy
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lesion.plan import code
from lesion.plan.estimate import every_job
from lesion.plan.jobs import RULES, job
from lesion.study import load_study
from lesion.study.presets import laid_over
from lesion_testing import ROOT
from lesion_testing.plugin import EXAMPLE, example_study, lay_down, on_path, write_example
from lesion_testing.rich_study import STUDY

Jobs = dict[tuple[str, str], str]
ENTRIES = {
    "lesion.judges": {"length": f"{EXAMPLE}.length"},
    "lesion.attacks": {"polite": f"{EXAMPLE}:POLITE"},
    "lesion.controls": {"smallest": f"{EXAMPLE}:SMALLEST"},
}
BASE = copy.deepcopy(STUDY)
# The document gives another judge this name, and other variants.
del BASE["judgements"]["judges"]["words"], BASE["responses"]["judged_variants"]
USING: dict[str, Any] = laid_over(BASE, example_study())
ALL_USING: dict[str, Any] = laid_over(
    USING,
    {
        "curve": {"families": ["shared", "smallest"]},
        "equal_cost": {"masks": ["shared", "smallest"], "largest": 0.05},
    },
)


def _installed(site: Path, version: str = "0.1.0") -> Path:
    """The document's plug-in, installed by its files."""
    lay_down(site, ENTRIES, {}, EXAMPLE, version)
    project = write_example(site.with_name(f"{site.name}-project"))
    shutil.copytree(project / EXAMPLE, site / EXAMPLE)
    return site


def _jobs(config: dict[str, Any], site: Path | None = None) -> Jobs:
    sites = []
    if site is not None:
        # In a folder of its own each time, since a process reads a file of code once.
        sites.append(Path(tempfile.mkdtemp(dir=site.parent)))
        shutil.copytree(site, sites[0], dirs_exist_ok=True)
    with on_path(*sites):
        study = load_study(config)
        return {
            (rule, str(sorted(names.items()))): job(
                study, rule, names, ROOT / "workflow" / "scripts"
            ).model_dump_json()
            for rule, names in every_job(study)
            if rule in RULES
        }


def _stale(before: Jobs, after: Jobs) -> set[str]:
    """The rules of the jobs that are others, with the judge's name where there is one."""
    assert before.keys() == after.keys()
    changed = [key for key in before if before[key] != after[key]]
    return {" ".join([rule, *re.findall(r"'judge', '(\w+)'", names)]) for rule, names in changed}


def test_what_is_installed_is_nothing_to_a_study_that_does_not_use_it(tmp_path: Path) -> None:
    assert _jobs(STUDY) == _jobs(STUDY, _installed(tmp_path / "site"))


OF_JUDGE = {"judge_responses_extra words"}
OF_CODE = {*OF_JUDGE, "select_masks", "curve_masks", "equal_cost_masks"}


def _edit(name: str, before: str, after: str) -> Callable[[Path], None]:
    def edit(site: Path) -> None:
        path = site / EXAMPLE / name
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    return edit


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a comment": (_edit("length.py", "class Length:\n", "class Length:  # Really.\n"), set()),
    "a docstring": (_edit("__init__.py", '"""An attack and', '"""One attack and'), set()),
    "the judge's code": (_edit("length.py", "min(1.0, ", "min(0.9, "), OF_JUDGE),
    "the control's code": (
        _edit("__init__.py", "matrix.magnitude()", "-matrix.magnitude()"),
        OF_CODE,
    ),
    "the attack's words": (
        _edit("__init__.py", "please help", "help"),
        {*OF_CODE, "variant_responses"},
    ),
    "a file of data": (lambda site: (site / EXAMPLE / "words.txt").write_text("new"), OF_CODE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_plugin_makes_its_jobs_stale(change: str, tmp_path: Path) -> None:
    site = _installed(tmp_path / "site")
    before = _jobs(ALL_USING, site)
    assert before == _jobs(ALL_USING, site)
    edit, stale = CHANGES[change]
    edit(site)
    assert _stale(before, _jobs(ALL_USING, site)) == stale


def test_another_version_makes_its_jobs_stale(tmp_path: Path) -> None:
    first, second = _installed(tmp_path / "a"), _installed(tmp_path / "b", version="0.2.0")
    assert _stale(_jobs(ALL_USING, first), _jobs(ALL_USING, second)) == OF_CODE
    # Where it is installed does not matter.
    third = _installed(tmp_path / "c")
    assert _jobs(ALL_USING, first) == _jobs(ALL_USING, third)


def test_modules_that_a_plugin_imports_count(tmp_path: Path) -> None:
    site = _installed(tmp_path / "site")
    helpers = ("beside", "inner.deep", "inner", "apart")
    for name in helpers:
        path = site / EXAMPLE / name.replace(".", "/")
        path = path / "__init__.py" if name == "inner" else path.with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text("VALUE = 1\n", encoding="utf-8")
    path = site / EXAMPLE / "length.py"
    imports = f"from . import beside\nfrom {EXAMPLE}.inner.deep import VALUE\n"
    path.write_text(imports + path.read_text(encoding="utf-8"), encoding="utf-8")
    for name in helpers:
        before = _jobs(USING, site)
        path = site / EXAMPLE / name.replace(".", "/")
        path = path / "__init__.py" if name == "inner" else path.with_suffix(".py")
        path.write_text("VALUE = 2\n", encoding="utf-8")
        assert _stale(before, _jobs(USING, site)) == (set() if name == "apart" else OF_JUDGE)


def test_code_of_lesion_that_a_plugin_imports_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, lesion = _installed(tmp_path / "site"), tmp_path / "lesion"
    shutil.copytree(ROOT / "src" / "lesion", lesion)
    monkeypatch.setattr(code, "_PACKAGE", lesion)

    importing = shutil.copytree(site, tmp_path / "importing")
    path = importing / EXAMPLE / "length.py"
    path.write_text(f"from lesion import api\n{path.read_text('utf-8')}", encoding="utf-8")
    before = [_jobs(USING, each) for each in (site, importing)]
    with (lesion / "api.py").open("a", encoding="utf-8") as file:
        file.write("\n_EDITED = True\n")
    code._read.cache_clear()
    after = [_jobs(USING, each) for each in (site, importing)]
    assert list(map(_stale, before, after)) == [set(), OF_JUDGE]
