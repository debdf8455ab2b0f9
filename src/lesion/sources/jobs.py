"""The specification of a fetching job, and where other jobs find what it fetched."""

from pathlib import Path

from lesion.study.job import Job, Specification


class SourceJob(Job):
    """What is fetched."""

    addresses: list[str]
    """Alternatives, in order of preference."""


class Place(Specification):
    """Where a job finds a source; `lesion.sources.fetch.locate` gives its file or folder."""

    path: Path
    """A local file or folder, or the folder that a source was fetched into."""
    record: Path | None = None
    """Of a fetched source: its record, which its files are checked against."""
    content: str | None = None
    """Of a local file that is no input of the job: the digest of what the job uses of it, so that
    editing this makes the job stale, and touching the file does not."""
