"""What a storage provider asks of the rules and of the config; tests/workflow/test_everything.py
runs a study with one, and tests/cluster/test_storage.py on machines that share nothing else.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lesion.io.formats import read_json, sha256_file
from lesion_testing import ROOT
from lesion_testing.workflow import Place, with_rsync

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


def test_a_prefix_does_not_name_the_results(fresh: Place) -> None:
    done = fresh.snakemake(*FLAGS[:-1], "store/results/tiny")
    assert done.code != 0
    assert "--default-storage-prefix: store/results/tiny has results/tiny in it" in done.text


@with_rsync
@pytest.mark.slow
def test_local_files_are_read_wherever_they_lie(fresh: Place, tmp_path: Path) -> None:
    """Beside the study's folder, by a path with a digest, in a list, and beside the results."""
    beside = tmp_path / "beside"
    beside.mkdir()
    for name in ("letters", "sums", "denials"):
        shutil.move(fresh.inputs / f"{name}.jsonl", beside / f"{name}.jsonl")
    # What the same path would be from the folder of a job.
    decoy = fresh.folder / "beside" / "sums.jsonl"
    decoy.parent.mkdir()
    decoy.write_text('{"prompt": "another file"}\n', encoding="utf-8")
    sums = sha256_file(beside / "sums.jsonl")

    def change(study: dict[str, Any]) -> None:
        study["results"] = "inputs/results"
        study["behaviours"]["letters"]["source"] = "file:../beside/letters.jsonl"
        study["behaviours"]["sums"]["source"] = f"file:../beside/sums.jsonl#sha256={sums}"
        study["sources"]["denials"] = ["file:nowhere.jsonl", "file:../beside/denials.jsonl"]
        study["behaviours"]["denials"]["source"] = "denials"

    fresh.configure(change)
    flags = (
        "--default-storage-provider",
        "fs",
        "--default-storage-prefix",
        str(tmp_path / "store"),
    )
    done = fresh.snakemake(*flags, "--until", "prompts")
    assert done.code == 0, done.text
    folder = tmp_path / "store" / "inputs" / "results" / "tiny"
    records = [read_json(path)["files"] for path in (folder / "sources").glob("*.json")]
    read = {name: facts["sha256"] for record in records for name, facts in record.items()}
    for name in ("letters", "sums", "denials"):
        assert read[f"{name}.jsonl"] == sha256_file(beside / f"{name}.jsonl")
        assert (folder / "pairs" / "prompts" / f"{name}.parquet").is_file()
    # Another file under the same name, with an older date.
    rows = (beside / "letters.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (beside / "letters.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    os.utime(beside / "letters.jsonl", (1, 1))
    stale = [job for job in fresh.jobs("-n", *flags, "--until", "prompts") if "letters" in job]
    assert len(stale) == 2, "the source and its prompts"


def test_a_file_that_is_missing_here_is_named(fresh: Place) -> None:
    (fresh.inputs / "letters.jsonl").unlink()
    done = fresh.snakemake(*FLAGS)
    assert done.code != 0
    assert "`behaviours.letters.source`: inputs/letters.jsonl: there is no such file" in done.text
