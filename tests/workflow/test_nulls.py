"""Null studies: no claim about harm is supported in them, and some are in the study with harm.

They run in this process and without the curves. `python benchmarks/nulls.py` runs all of them, by
Snakemake and in full.
"""

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lesion.io.formats import read_parquet
from lesion.study import load_study, read_configs
from lesion.tables.claims.outcome import SUPPORTED
from lesion.tables.claims.registry import claim_of
from lesion.tables.claims.specific import not_judged_harmful
from lesion_testing import ROOT, make
from lesion_testing.inprocess import run_in_process

pytestmark = pytest.mark.slow

NULLS = Path("studies/nulls")
SAME_MODEL = ("dealt", "elsewhere")
"""Nulls of the model that does harm."""
OWN_MODEL = ("random", "exchanged")
Claims = list[dict[str, Any]]


class Outcome(NamedTuple):
    claims: Claims
    """The claims about harm."""
    unjudged: str
    """What the rule of the judge alone says against them."""


def _outcome(name: str, folder: Path) -> Outcome:
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
    world = folder / "nulls-world"
    if name in SAME_MODEL:
        shutil.copytree(world / "models", study.folder / "models")
    if name != "world":  # the judge is of the same human scores
        study.folder.joinpath("judgements").mkdir(parents=True)
        for file in ("judge.safetensors", "judges.parquet"):
            shutil.copy(world / "judgements" / file, study.folder / "judgements" / file)
    tables = run_in_process(study)
    rows = read_parquet(tables / "claims.parquet").to_dicts()
    controls = read_parquet(tables / "judge_controls.parquet")
    return Outcome(
        [row for row in rows if (claim := claim_of(row)) is not None and claim.of_harm],
        not_judged_harmful(controls, study.judgements.primary),
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("nulls")
    make.human_scores(folder / "scorer_evals")
    make.embedder(folder / "embedder", seed=0)
    with chdir(ROOT):
        return {name: _outcome(name, folder) for name in ("world", *SAME_MODEL, *OWN_MODEL)}


def _supported(rows: Claims) -> set[str]:
    return {row["statistic"] for row in rows if row["verdict"] == SUPPORTED}


def test_claims_about_harm_are_supported_where_there_is_harm(outcomes: dict[str, Outcome]) -> None:
    world = outcomes["world"]
    assert _supported(world.claims) >= {"specificity", "harm_minus_benign_nll_added"}
    assert not world.unjudged


@pytest.mark.parametrize("name", [*SAME_MODEL, *OWN_MODEL])
def test_no_claim_about_harm_is_supported_in_a_null(
    outcomes: dict[str, Outcome], name: str
) -> None:
    rows = outcomes[name].claims
    assert {row["claim"] for row in rows} == {1, 2, 3, 7}
    assert not _supported(rows)
    # Nor is this for want of matched requests.
    assert not any("no matched requests" in (row["why"] or "") for row in rows)


@pytest.mark.parametrize("name", [*SAME_MODEL, *OWN_MODEL])
def test_the_judge_alone_would_stop_every_null(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].unjudged.startswith("The judge does not show")


def test_a_specific_mask_is_not_one_of_harm_by_that_alone(outcomes: dict[str, Outcome]) -> None:
    rows = outcomes["elsewhere"].claims
    (row,) = (row for row in rows if row["statistic"] == "specificity")
    assert row["low"] > row["threshold"]
    assert row["why"]
