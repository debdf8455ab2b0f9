"""The mask of the weights of refusal, counted again by brute force."""

from pathlib import Path

import numpy as np
import pytest

from lesion.io.formats import LesionError
from lesion.masks.jobs import RefusalMaskJob
from lesion.masks.refusal import REFUSAL_MASK, write_refusal_mask
from lesion.masks.store import read_mask
from lesion.study.attacks import RefusalAblation
from lesion_testing import scored_study
from lesion_testing.scored import Held, brute
from lesion_testing.scored_study import BEHAVIOURS, EXAMPLES, Tiny

# The behaviour whose importance stands for that of refusals.
REFUSALS = BEHAVIOURS.benign[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return scored_study.made(tmp_path_factory.mktemp("study"))


def _job(**settings: object) -> RefusalMaskJob:
    selection = RefusalAblation.model_validate({"p": 0.1, "q": 0.05, **settings})
    return RefusalMaskJob(
        refusal=[REFUSALS], benign=BEHAVIOURS.benign, selection=selection, pool="mean"
    )


def _importance(study: Tiny) -> Held:
    weights = [EXAMPLES[name] for name in BEHAVIOURS.benign]
    each = [study.importances[name] for name in BEHAVIOURS.benign]
    return Held(np.average(each, axis=0, weights=weights), study.layout)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("scope", ["matrix", "global"])
def test_it_is_the_top_on_refusals_without_the_top_on_benign_pairs(
    study: Tiny, tmp_path: Path, *, signed: bool, scope: str
) -> None:
    out = tmp_path / "mask"
    write_refusal_mask(study.model, study.score_folders, out, _job(signed=signed, scope=scope))
    values = study.snips[REFUSALS] if signed else -study.importances[REFUSALS]
    held = Held(values, study.layout)
    wanted = brute(held, _importance(study), 0.1, 0.05, "difference", scope)
    mask = read_mask(out)
    assert mask.flat().tolist() == wanted
    assert wanted
    # By its role no checkpoint can be written of it.
    assert (mask.metadata["mask"], mask.metadata["role"]) == (REFUSAL_MASK, "refusal")


def test_a_q_that_selects_nothing_is_an_error(study: Tiny, tmp_path: Path) -> None:
    with pytest.raises(LesionError, match="selects no weight"):
        write_refusal_mask(study.model, study.score_folders, tmp_path / "m", _job(q=1e-9))
