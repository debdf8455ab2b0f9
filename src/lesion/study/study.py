"""A config as one validated value."""

from typing import Self

from pydantic import model_validator

from lesion.study.checks import check_consistent
from lesion.study.config import StudyConfig
from lesion.study.sources import Use, uses


class Study(StudyConfig):
    """A study; docs/config.md explains every key."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_consistent(self)
        return self

    def uses(self) -> list[Use]:
        """Every use of every address of the study."""
        return uses(self)
