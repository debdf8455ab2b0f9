"""The SLURM profile and docs/how-to/cluster.md name the rules as the rule files do."""

import re

from lesion_testing import ROOT
from lesion_testing.rules import local_rules, rule_files

_RULE = re.compile(
    r"^(?:use rule (?P<base>\w+) as (?P<copy>\w+) with|rule (?P<name>\w+)):\n"
    r"(?P<body>(?:[ #\n].*\n?|\n)*)",
    re.MULTILINE,
)


def _rules_with_gpus() -> set[str]:
    asking: set[str] = set()
    for rule in _RULE.finditer("".join(rule_files().values())):
        if "        gpu=" in rule["body"] or rule["base"] in asking:
            asking.add(rule["name"] or rule["copy"])
    assert "signed_scores" in asking
    return asking


def test_a_site_without_gpus_overrides_every_request_for_one() -> None:
    profile = (ROOT / "workflow/profiles/slurm/profile.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"(\w+): \{gpu: 0\}", profile)) == _rules_with_gpus()


def test_the_local_rules_are_documented() -> None:
    text = (ROOT / "docs/how-to/cluster.md").read_text(encoding="utf-8")
    listed = text.split("**Small rules** (")[1].split(")")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == local_rules()


def test_every_rule_is_in_the_table_of_resources() -> None:
    text = (ROOT / "docs/how-to/cluster.md").read_text(encoding="utf-8")
    table = text.split("## What a job asks for")[1].split("\n\n## ")[0]
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }
    rules = {
        rule["name"] or rule["copy"] for rule in _RULE.finditer("".join(rule_files().values()))
    }
    assert listed == rules
