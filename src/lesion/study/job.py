"""The base of job specifications: what one job of one rule is told, as one validated value.

A stage's package defines the specifications of its jobs (`lesion.<stage>.jobs`), `lesion.plan`
builds them from the study, a rule passes one as JSON, and its script validates it. Nothing here
or there imports torch.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Dtype = Literal["auto", "float32", "bfloat16"]


class Job(BaseModel):
    """What decides the outputs of a job, beside the content of its input files."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    code: str = ""
    """Digest of the code that the job runs. Snakemake compares specifications, so a job is stale
    when its code has changed; the job itself does not read it."""


class Device(BaseModel):
    """In what precision, with how many threads, and where a model is run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dtype: Dtype
    threads: int
    device_map: Literal["auto"] | None
    """`auto` spreads the model over all GPUs of the job (accelerate's); one device if None."""
