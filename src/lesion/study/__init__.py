"""The study: one validated and normalised config, from which the jobs' parameters are taken.

Loading a YAML file gives a `Study`, or one error that names every wrong key. Every job is specified
by a part of the study (`lesion.plan.jobs`), so that a job is stale exactly when its own part has
changed. Nothing here imports torch or transformers, because the Snakefile imports this package.
"""

from lesion.study.attacks import Template
from lesion.study.behaviours import Behaviour
from lesion.study.config import Study
from lesion.study.load import load_study, read_config, read_configs
from lesion.study.presets import with_preset
from lesion.study.types import MIN_PROMPTS, NAME, Role, StudyError

__all__ = [
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
    "with_preset",
]
