"""Jobs of the stage `sources`."""

from collections.abc import Mapping

from lesion.plan.jobs.rule import Rule
from lesion.plan.places import sources
from lesion.sources.jobs import SourceJob
from lesion.study import Study


def source_job(study: Study, wildcards: Mapping[str, str]) -> SourceJob:
    """The specification of a fetched source."""
    return SourceJob(addresses=sources(study)[wildcards["name"]])


RULES = {"source": Rule(source_job, ("lesion.sources.fetch",))}
