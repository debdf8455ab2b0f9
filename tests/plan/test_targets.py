"""Every job of a study that uses everything has an output among the targets of `all`."""

import re
from collections import defaultdict
from pathlib import Path

import yaml

from lesion.plan import outputs
from lesion.study import load_study
from lesion_testing import ROOT
from lesion_testing.rich_study import STUDY
from lesion_testing.rules import rule_files
from lesion_testing.workflow import BIN, run


def _planned(folder: Path) -> dict[tuple[str, str], set[str]]:
    """The outputs of every job; a job is its rule and its log."""
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    snakefile = str(ROOT / "Snakefile")
    command = [str(BIN / "snakemake"), "--snakefile", snakefile, "--configfile", "study.yaml"]
    done = run([*command, "--summary"], folder)
    assert done.code == 0, done.text
    rows = [line.split("\t") for line in done.text.splitlines() if line.count("\t") == 5]
    jobs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for output, _, rule, log, *_ in rows[1:]:
        jobs[rule, log].add(output)
    return jobs


def test_every_job_of_every_rule_is_asked_for(tmp_path: Path) -> None:
    jobs, study = _planned(tmp_path), load_study(STUDY)
    text = "\n".join(rule_files().values())
    rules = set(re.findall(r"^(?:use rule \w+ as|rule) (\w+)", text, re.M))
    assert {rule for rule, _ in jobs} == rules, "the rich study has no job of a rule"
    targets = {str(study.folder / path) for path in outputs.of_every_job(study)}
    missing = {rule for (rule, _), made in jobs.items() if not made & targets}
    # The rule `all` names the report itself.
    assert missing == {"report"}, "a failed job of these rules would not be noticed"
