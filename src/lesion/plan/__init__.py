"""The plan of a study: its jobs, their specifications, inputs and cluster resources.

A job is stale exactly when its specification (`lesion.plan.jobs`) or the content of an input file
changes.
"""

from lesion.plan.checks import (
    check_chat,
    check_data,
    check_fractions,
    check_prepared,
    check_study,
    check_tasks,
    warnings,
)
from lesion.plan.code import code
from lesion.plan.jobs import job
from lesion.plan.jobs.judgements import formula as judge_formula
from lesion.plan.outputs import (
    answering_families,
    curve_families,
    evaluated,
    figures,
    judge_scores_path,
    judged_answers,
    judged_sizes,
    mixture_behaviours,
    nll_behaviours,
    outputs_of_every_job,
    retrain_masks,
    retraining_arms,
    retraining_judges,
    tables_inputs,
    understood,
)
from lesion.plan.places import (
    contents,
    inputs,
    is_local,
    local_files_of,
    local_path,
    source_name,
    source_place,
    sources,
)

__all__ = [
    "answering_families",
    "check_chat",
    "check_data",
    "check_fractions",
    "check_prepared",
    "check_study",
    "check_tasks",
    "code",
    "contents",
    "curve_families",
    "evaluated",
    "figures",
    "inputs",
    "is_local",
    "job",
    "judge_formula",
    "judge_scores_path",
    "judged_answers",
    "judged_sizes",
    "local_files_of",
    "local_path",
    "mixture_behaviours",
    "nll_behaviours",
    "outputs_of_every_job",
    "retrain_masks",
    "retraining_arms",
    "retraining_judges",
    "source_name",
    "source_place",
    "sources",
    "tables_inputs",
    "understood",
    "warnings",
]
