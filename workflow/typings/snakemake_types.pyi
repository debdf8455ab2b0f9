"""What Snakemake gives a rule's script, for the type checker alone."""

from collections.abc import Iterator, Mapping
from typing import Any

class Named:
    """Named inputs, outputs or wildcards: each a path, or a list of paths."""

    def __getattr__(self, name: str) -> Any: ...
    def __getitem__(self, number: int) -> str: ...
    def __iter__(self) -> Iterator[str]: ...
    def get(self, name: str, default: Any = None) -> Any: ...

class Params:
    job: str
    """The specification of the job, as JSON."""

class Snakemake:
    input: Named
    output: Named
    wildcards: Named
    params: Params
    threads: int
    log: list[str]
    config: Mapping[str, Any]
    """For `load_study`: settings that decide no result, and so are not of the job."""

snakemake: Snakemake
