"""The study: one validated, normalised config, and what each job may know of it.

A YAML file becomes a `Study` or one clear message. Every job is specified by a part of
it (`lesion.plan.jobs`), so that a job is stale exactly when its own part has changed. Nothing
here imports torch or transformers: the Snakefile reads this for every plan.
"""

from lesion.study.load import load_study, read_config, read_configs
from lesion.study.sections import Behaviour, Template
from lesion.study.study import Study
from lesion.study.types import BUILT_MASKS, MIN_PROMPTS, NAME, Role, StudyError

__all__ = [
    "BUILT_MASKS",
    "MIN_PROMPTS",
    "NAME",
    "Behaviour",
    "Role",
    "Study",
    "StudyError",
    "Template",
    "load_study",
    "read_config",
    "read_configs",
]
