"""The base of job specifications: the parameters of one job, as one validated value.

A stage's package defines the specifications of its jobs (`lesion.<stage>.jobs`), `lesion.plan`
builds them from the study, a rule passes one as JSON, and its script validates it. Nothing here
or there imports torch.
"""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from lesion.study.types import Dtype, Role


class Specification(BaseModel):
    """A part of a specification that several stages use."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def specify(kind: type[Model], *sections: BaseModel, **own: Any) -> Model:
    """A specification: its fields are `own`, and those of the sections that have the same names.

    Raises:
        TypeError: a section gives no field, or two sections give the same one.
    """
    fields = dict(own)
    for section in sections:
        given = {n: v for n, v in section if n in kind.model_fields and n not in own}
        if not given:
            raise TypeError(f"{type(section).__name__} gives {kind.__name__} no field")
        if twice := fields.keys() & given.keys():
            raise TypeError(f"two sections give {kind.__name__} the fields {sorted(twice)}")
        fields |= given
    return kind(**fields)


class Job(Specification):
    """Everything that determines a job's outputs, apart from the content of its input files."""

    code: str = ""
    """Digest of the code that the job runs. Snakemake compares specifications, so a job is stale
    when its code has changed; the job itself does not read it."""


class Device(Specification):
    """The precision, the number of threads and the devices that a model runs with."""

    dtype: Dtype
    threads: int = 1
    device_map: Literal["auto"] | None = None
    """`auto` spreads the model over all GPUs of the job (accelerate's); one device if None."""


class Behaviours(Specification):
    """The study's behaviours by role."""

    harm: list[str]
    benign: list[str]
    refusal: list[str] = []
    matched: dict[str, str] = {}
    """Behaviours of role `matched`, and the harm type of each."""

    def role(self, name: str) -> Role:
        """The role of a behaviour."""
        if name in self.harm:
            return "harm"
        if name in self.matched:
            return "matched"
        return "benign" if name in self.benign else "refusal"

    @property
    def names(self) -> list[str]:
        """All of them, harm first."""
        return [*self.harm, *self.matched, *self.benign, *self.refusal]
