"""A plan is quick: it imports no framework; and a run loads a model once a variant."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from lesion_testing.workflow import BIN, MASKS, Finished, run

pytestmark = pytest.mark.slow

HEAVY = {"torch", "transformers", "sklearn", "scipy", "accelerate", "altair"}

# Python imports a module of this name by itself as it starts.
LISTS_MODULES = """
import atexit, json, os, sys

def write():
    with open(os.environ["LESION_MODULES"], "a") as file:
        file.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})) + "\\n")

atexit.register(write)
"""


def test_a_plan_of_the_default_study_imports_no_framework(code: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(code, checkout)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(LISTS_MODULES, encoding="utf-8")
    modules = tmp_path / "modules.jsonl"
    snakemake = [str(BIN / "snakemake"), "-n", "--cores", "2"]
    done = run(snakemake, checkout, PYTHONPATH=str(tmp_path / "site"), LESION_MODULES=str(modules))
    assert done.code == 0, done.text
    # The sources are not here yet: everything is planned without them.
    assert "generate_pairs" in done.text
    processes = [set(json.loads(line)) for line in modules.read_text("utf-8").splitlines()]
    assert any({"snakemake", "lesion", "polars"} <= one for one in processes)
    assert not [found for one in processes if (found := one & HEAVY)]
    assert not (checkout / "results").exists()


def test_a_model_is_loaded_once_a_variant(finished: Finished) -> None:
    count = Counter(job.split()[0] for job in finished.jobs)
    # One job a variant, for all behaviours, attacks and measures; one a behaviour before that.
    assert count["variant_responses"] == 1 + len(MASKS)
    assert count["generate_pairs"] == count["signed_scores"] == 6
    logs = finished.place.made / "logs" / "responses" / "llama"
    for variant in ("unmodified", *MASKS):
        text = (logs / f"{variant}.log").read_text(encoding="utf-8")
        assert "completions" in text
        assert "NLLs" in text
