"""Stages as targets: `snakemake masks` runs the jobs of that stage and of what it needs."""

import pytest

from lesion.io.logs import STAGE_FOLDERS
from lesion_testing.workflow import HARMS, MASKS, Place

pytestmark = pytest.mark.slow

BEHAVIOURS = (*HARMS, "letters", "sums", "denials")
PAIRED = {"model"} | {
    f"{rule} {name}" for rule in ("prompts", "generate_pairs") for name in BEHAVIOURS
}
SCORED = PAIRED | {f"signed_scores {name}" for name in BEHAVIOURS}
MASKED = SCORED | {"sweep", "choose", "select_masks"}
ANSWERED = MASKED | {f"variant_responses {name}" for name in ("unmodified", *MASKS)}
ANSWERED |= {"continuations"}
JUDGED = ANSWERED | {"train_judge", "judge_responses llama", "judge_responses llama/continuations"}
TABLED = JUDGED | {"compute_tables", "study"}
TARGETS = {
    "sources": set(),  # all are files of this machine, which are used in place
    "models": {"model"},
    "pairs": PAIRED,
    "scores": SCORED,
    "masks": MASKED,
    "checkpoints": MASKED | {"checkpoint shared"},
    "responses": ANSWERED,
    "judgements": JUDGED,
    "tables": TABLED,
    "report": TABLED | {"report"},
}


def test_every_stage_is_a_target() -> None:
    assert TARGETS.keys() == {*STAGE_FOLDERS, "report"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_stage_is_made_with_what_it_needs_and_no_more(fresh: Place, target: str) -> None:
    planned = set(fresh.jobs("-n", target))
    assert planned - ({target} - TARGETS[target]) == TARGETS[target]
