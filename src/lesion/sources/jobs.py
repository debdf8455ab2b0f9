"""The specification of a job that fetches a source, and the location of sources for other jobs."""

from pathlib import Path

from lesion.io.bundle import PortablePath
from lesion.study.job import Job, Specification


class SourceJob(Job):
    """A source to fetch."""

    addresses: list[str]
    """Alternative addresses, in order of preference."""
    content: str | None = None
    """The digest of a local file that is copied."""


class SourceLocation(Specification):
    """Where a job finds a source; `lesion.sources.fetch.locate` gives its file or folder."""

    path: PortablePath
    """A local file or folder, or the folder that a source was fetched into."""
    record: Path | None = None
    """The record of a fetched source, which its files are checked against."""
    content: str | None = None
    """The digest of what the job uses of a local file that is not one of its inputs, so that the
    job becomes stale when this changes, but not when the file is touched."""
