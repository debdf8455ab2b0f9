"""What each job gets: its slice of the study, and the digest of the code that its stage runs.

A job is stale exactly when something here that belongs to it changes. Slices are plain dicts
with sorted keys, because Snakemake stores params as a list of values without their names
(exchanging p and q would go unnoticed).
"""

from lesion.plan.checks import (
    check,
    check_chat,
    check_data,
    check_fractions,
    check_prepared,
    check_tasks,
    warnings,
)
from lesion.plan.code import code
from lesion.plan.jobs import job
from lesion.plan.judged import OF_FILES, contrasts, judge_parts
from lesion.plan.places import (
    contents,
    inputs,
    is_local,
    local_files_of,
    local_path,
    source_name,
    source_place,
    sources,
    template_key,
    templates,
)
from lesion.plan.slices import (
    answering_families,
    curve_families,
    curve_slice,
    evaluated,
    extra_judge_slice,
    judge_slice,
    judged_sizes,
    measured,
    responses_slice,
    tables_slice,
    understanding_slice,
    understood,
    utility_slice,
)
from lesion.plan.trained import (
    retrain_masks,
    retrain_slice,
    retraining_arms,
    retraining_judges,
)

__all__ = [
    "OF_FILES",
    "answering_families",
    "check",
    "check_chat",
    "check_data",
    "check_fractions",
    "check_prepared",
    "check_tasks",
    "code",
    "contents",
    "contrasts",
    "curve_families",
    "curve_slice",
    "evaluated",
    "extra_judge_slice",
    "inputs",
    "is_local",
    "job",
    "judge_parts",
    "judge_slice",
    "judged_sizes",
    "local_files_of",
    "local_path",
    "measured",
    "responses_slice",
    "retrain_masks",
    "retrain_slice",
    "retraining_arms",
    "retraining_judges",
    "source_name",
    "source_place",
    "sources",
    "tables_slice",
    "template_key",
    "templates",
    "understanding_slice",
    "understood",
    "utility_slice",
    "warnings",
]
