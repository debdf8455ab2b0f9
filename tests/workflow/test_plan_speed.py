"""Checks and plans are quick: they import no framework; and a run loads a model once a variant."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lesion_testing.workflow import BIN, MASKS, Finished, Place, run

pytestmark = pytest.mark.slow

Listing = Callable[[list[str], Path], list[set[str]]]
HEAVY = {"torch", "transformers", "sklearn", "accelerate", "altair"}

# Python imports a module of this name by itself as it starts.
LISTS_MODULES = """
import atexit, json, os, sys

def write():
    with open(os.environ["LESION_MODULES"], "a") as file:
        file.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})) + "\\n")

atexit.register(write)
"""


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    """Runs a command, and gives the modules that each of its Python processes imported."""
    site, modules = tmp_path / "site", tmp_path / "modules.jsonl"
    site.mkdir()
    (site / "sitecustomize.py").write_text(LISTS_MODULES, encoding="utf-8")

    def listed(command: list[str], folder: Path) -> list[set[str]]:
        done = run(command, folder, PYTHONPATH=str(site), LESION_MODULES=str(modules))
        assert done.code == 0, done.text
        return [set(json.loads(line)) for line in modules.read_text("utf-8").splitlines()]

    return listed


def test_a_plan_of_the_default_study_imports_no_framework(
    code: Path, tmp_path: Path, listing: Listing
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(code, checkout)
    # The sources are not here yet: everything is planned without them.
    processes = listing([str(BIN / "snakemake"), "-n", "--cores", "2"], checkout)
    assert any({"snakemake", "lesion", "polars"} <= one for one in processes)
    assert not [found for one in processes if (found := one & {*HEAVY, "scipy"})]
    assert not (checkout / "results").exists()


def test_a_check_imports_no_framework(unrun: Place, listing: Listing) -> None:
    (modules,) = listing([str(BIN / "lesion"), "check", "study.yaml"], unrun.folder)
    # The splits are checked too, by the similarity of the prompts.
    assert {"lesion", "polars", "scipy"} <= modules
    assert not modules & {*HEAVY, "pandas"}


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
