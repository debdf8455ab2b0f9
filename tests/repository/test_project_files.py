"""Files for people who join: what they name exists, and they agree with the code."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import lesion
from lesion_testing import ROOT

FORMS = sorted((ROOT / ".github").rglob("*.yml"))


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_commands_of_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)`", text))
    assert len(named) >= 5
    assert named <= targets
    assert "`.ci/run`" in text
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_are_yaml(path: Path) -> None:
    form = _yaml(path)
    if path.parent.name == "ISSUE_TEMPLATE" and path.name != "config.yml":
        assert {"name", "description", "body"} <= form.keys()
        assert all(part["type"] in ("textarea", "input") for part in form["body"])


def test_ci_runs_what_developers_run() -> None:
    (job,) = _yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert job["timeout-minutes"] == 90


def test_hooks_use_the_tools_of_the_environment() -> None:
    (local,) = _yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    pins = (ROOT / "envs" / "requirements.txt").read_text(encoding="utf-8")
    for hook in local["hooks"]:
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        name = Path(program).name
        assert name == "lesion" or re.search(rf"^{name}==", pins, re.MULTILINE)


def test_the_citation_is_of_this_version() -> None:
    citation = _yaml(ROOT / "CITATION.cff")
    assert citation["version"] == lesion.__version__
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {lesion.__version__}" in changes


def test_the_workflow_catalogue_is_told_what_is_true() -> None:
    usage = _yaml(ROOT / ".snakemake-workflow-catalog.yml")["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    profile = _yaml(ROOT / "workflow" / "profiles" / "default" / "profile.yaml")
    flags = ["--rerun-triggers", *profile["rerun-triggers"]]
    assert usage["mandatory-flags"]["flags"].split() == flags
    # What the catalogue asks of a repository beside that file.
    assert 'include: "rules/' in (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
    assert (ROOT / "config" / "README.md").is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    captions = (ROOT / "workflow" / "rules" / "report.smk").read_text(encoding="utf-8")
    assert usage["report"] == ("report(" in captions)
