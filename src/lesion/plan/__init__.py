"""The plan of a study: its jobs, their specifications, inputs and cluster resources.

A job is stale exactly when its specification (`lesion.plan.jobs`) or the content of an input file
changes.
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
from lesion.plan.jobs.judgements import law as judge_law
from lesion.plan.outputs import (
    answering_families,
    curve_families,
    evaluated,
    figures,
    judged_answers,
    judged_sizes,
    lesson_behaviours,
    measured,
    outputs_of_every_job,
    retrain_masks,
    retraining_arms,
    retraining_judges,
    tables_inputs,
    understood,
    verdicts,
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
    "check",
    "check_chat",
    "check_data",
    "check_fractions",
    "check_prepared",
    "check_tasks",
    "code",
    "contents",
    "curve_families",
    "evaluated",
    "figures",
    "inputs",
    "is_local",
    "job",
    "judge_law",
    "judged_answers",
    "judged_sizes",
    "lesson_behaviours",
    "local_files_of",
    "local_path",
    "measured",
    "outputs_of_every_job",
    "retrain_masks",
    "retraining_arms",
    "retraining_judges",
    "source_name",
    "source_place",
    "sources",
    "tables_inputs",
    "understood",
    "verdicts",
    "warnings",
]
