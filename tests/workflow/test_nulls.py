"""Null studies: no claim about harm is supported in them, and some are in the study with harm.

They run in this process and without the curves. `python benchmarks/nulls.py` runs all of them, by
Snakemake and in full.
"""

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from lesion.io.formats import read_parquet
from lesion.study import load_study, read_configs
from lesion.tables.claims.outcome import SUPPORTED
from lesion.tables.claims.registry import claim_of
from lesion_testing import ROOT, make
from lesion_testing.inprocess import run_in_process

pytestmark = pytest.mark.slow

NULLS = Path("studies/nulls")
SAME_MODEL = ("dealt", "elsewhere")
"""Nulls of the model that does harm."""
OWN_MODEL = ("random", "exchanged")
Claims = list[dict[str, Any]]


def _claims(name: str, folder: Path) -> Claims:
    """The claims about harm of a study, with their outcomes."""
    over = {
        "results": str(folder),
        "curve": {"families": []},
        "judgements": {
            "human_scores": f"file:{folder / 'scorer_evals'}",
            "embedder": f"file:{folder / 'embedder'}",
        },
    }
    files = [NULLS / "world.yaml", *([] if name == "world" else [NULLS / f"{name}.yaml"])]
    study = load_study(read_configs(files, over))
    if name in SAME_MODEL:
        shutil.copytree(folder / "nulls-world" / "models", study.folder / "models")
    rows = read_parquet(run_in_process(study) / "claims.parquet").to_dicts()
    return [row for row in rows if (claim := claim_of(row)) is not None and claim.of_harm]


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Claims]:
    folder = tmp_path_factory.mktemp("nulls")
    make.human_scores(folder / "scorer_evals")
    make.embedder(folder / "embedder", seed=0)
    with chdir(ROOT):
        return {name: _claims(name, folder) for name in ("world", *SAME_MODEL, *OWN_MODEL)}


def _supported(rows: Claims) -> set[str]:
    return {row["statistic"] for row in rows if row["verdict"] == SUPPORTED}


def test_claims_about_harm_are_supported_where_there_is_harm(claims: dict[str, Claims]) -> None:
    assert _supported(claims["world"]) >= {"specificity", "harm_minus_benign_nll_added"}


@pytest.mark.parametrize("name", [*SAME_MODEL, *OWN_MODEL])
def test_no_claim_about_harm_is_supported_in_a_null(claims: dict[str, Claims], name: str) -> None:
    rows = claims[name]
    assert {row["claim"] for row in rows} == {1, 2, 3, 7}
    assert not _supported(rows)
    # Nor is this for want of matched requests.
    assert not any("no matched requests" in (row["why"] or "") for row in rows)


def test_only_the_judge_sees_that_a_specific_mask_is_not_one_of_harm(
    claims: dict[str, Claims],
) -> None:
    (row,) = (row for row in claims["elsewhere"] if row["statistic"] == "specificity")
    assert row["low"] > row["threshold"]
    assert "The judge does not show that the answers to harmful requests are harmful" in row["why"]
