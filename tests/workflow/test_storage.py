"""What a storage provider asks of the rules and of the config; tests/workflow/test_everything.py
runs a study with one, and tests/cluster/test_storage.py on machines that share nothing else.
"""

import re

import pytest

from lesion_testing import ROOT
from lesion_testing.workflow import Place

RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
FLAGS = ("-n", "--default-storage-provider", "fs", "--default-storage-prefix", "store")


def test_who_reads_a_model_declares_its_files() -> None:
    rules = [
        rule
        for path in RULES
        for rule in re.split(r"^(?:use )?rule ", path.read_text(), flags=re.M)
    ]
    readers = [rule for rule in rules if "model=rules.model.output.record," in rule]
    assert len(readers) > 10
    assert [r for r in readers if "archive=rules.model.output.archive," not in r] == []


@pytest.mark.parametrize("results", ["/tmp/elsewhere", "../elsewhere", "."])
def test_results_lie_within_the_storage(fresh: Place, results: str) -> None:
    fresh.configure(lambda study: study.update(results=results))
    done = fresh.snakemake(*FLAGS)
    assert done.code != 0
    assert f"`results`: {results} is not below the current folder" in done.text


def test_a_file_that_is_missing_here_is_named(fresh: Place) -> None:
    (fresh.inputs / "letters.jsonl").unlink()
    done = fresh.snakemake(*FLAGS)
    assert done.code != 0
    assert "`behaviours.letters.source`: inputs/letters.jsonl: there is no such file" in done.text
