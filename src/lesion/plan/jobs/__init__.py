"""The specification of every rule's jobs, built from the study and the wildcards.

A job is stale exactly when its specification changes, or the content of an input file.
"""

from collections.abc import Mapping
from pathlib import Path

from lesion.plan.code import code
from lesion.plan.jobs import (
    checkpoints,
    judgements,
    masks,
    models,
    pairs,
    responses,
    scores,
    sources,
    tables,
)
from lesion.plan.jobs.rule import Rule
from lesion.study import Study
from lesion.study.job import Job

RULES: dict[str, Rule] = {
    **sources.RULES,
    **models.RULES,
    **pairs.RULES,
    **scores.RULES,
    **masks.RULES,
    **checkpoints.RULES,
    **responses.RULES,
    **judgements.RULES,
    **tables.RULES,
}
"""The rules, by their names in the Snakefile."""


def job(study: Study, rule: str, wildcards: Mapping[str, str], scripts: Path) -> Job:
    """The specification of one job.

    Args:
        study: the study.
        rule: name of the rule, one of RULES.
        wildcards: values of the rule's wildcards.
        scripts: folder of the rules' scripts, whose code counts as well.

    Raises:
        LesionError: a local file that the job reads is missing or unusable.
    """
    made = RULES[rule]
    specification = made.build(study, wildcards)
    digest = code(scripts / f"{made.script or rule}.py", *made.modules)
    return specification.model_copy(update={"code": digest})
