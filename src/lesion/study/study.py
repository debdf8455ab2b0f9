"""The whole config as one checked value."""

from typing import Self

from pydantic import model_validator

from lesion.study.checks import check_consistent
from lesion.study.config import StudyConfig


class Study(StudyConfig):
    """A whole study; see `config.yaml` for the default one with a comment on every key."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_consistent(self)
        return self
