"""What each job gets: its slice of the study, and the digest of the code that its stage runs.

A job is stale exactly when something here that belongs to it changes. Slices are plain dicts
with sorted keys, because Snakemake stores params as a list of values without their names
(exchanging p and q would go unnoticed).
"""

from lesion.plan.checks import check, check_fractions
from lesion.plan.code import code
from lesion.plan.judged import OF_FILES, contrasts, judge_parts
from lesion.plan.places import (
    is_local,
    local_files_of,
    local_path,
    source_name,
    sources,
    template_key,
    templates,
)
from lesion.plan.slices import (
    answering_families,
    checkpoint_slice,
    curve_families,
    curve_masks_slice,
    curve_slice,
    device,
    evaluated,
    extra_judge_slice,
    judge_slice,
    masks_slice,
    measured,
    model_slice,
    pairs_slice,
    prompts_slice,
    responses_slice,
    scores_slice,
    source_slice,
    sweep_slice,
    tables_slice,
    understanding_slice,
    understood,
    utility_slice,
    wants_norms,
)
from lesion.plan.trained import (
    lesson_behaviours,
    retrain_masks,
    retrain_slice,
    retraining_arms,
    retraining_judges,
    train_slice,
    training_files,
)

__all__ = [
    "OF_FILES",
    "answering_families",
    "check",
    "check_fractions",
    "checkpoint_slice",
    "code",
    "contrasts",
    "curve_families",
    "curve_masks_slice",
    "curve_slice",
    "device",
    "evaluated",
    "extra_judge_slice",
    "is_local",
    "judge_parts",
    "judge_slice",
    "lesson_behaviours",
    "local_files_of",
    "local_path",
    "masks_slice",
    "measured",
    "model_slice",
    "pairs_slice",
    "prompts_slice",
    "responses_slice",
    "retrain_masks",
    "retrain_slice",
    "retraining_arms",
    "retraining_judges",
    "scores_slice",
    "source_name",
    "source_slice",
    "sources",
    "sweep_slice",
    "tables_slice",
    "template_key",
    "templates",
    "train_slice",
    "training_files",
    "understanding_slice",
    "understood",
    "utility_slice",
    "wants_norms",
]
