"""The specification of a job that prepares a model."""

from lesion.sources.jobs import SourceLocation
from lesion.study.job import Job
from lesion.study.sections import ChatSettings
from lesion.study.types import DATE, StoredDtype


class ResolvedChat(ChatSettings):
    """How prompts are put to a model, with what the study's template file says."""

    text: str | None = None
    """The template in the file that `template` names; None if it names none."""
    date: str = DATE
    """The date given to a template that asks for today's."""


class ModelJob(Job):
    """How a model's source becomes a checkpoint folder."""

    source: SourceLocation
    chat: ResolvedChat
    dtype: StoredDtype
    """Of the weights of a GGUF file."""
    license: str
