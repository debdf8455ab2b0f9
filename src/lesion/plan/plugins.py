"""The installed plug-ins: which of them a job runs, and what is wrong with those that none runs."""

from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

from lesion.judgements.jobs import JudgeResponsesExtraJob
from lesion.masks.jobs import CurveMasksJob, EqualCostMasksJob, MasksJob
from lesion.responses.attacks import ATTACK_PLUGINS
from lesion.study.controls import CONTROL_PLUGINS, controls_among
from lesion.study.job import Job
from lesion.study.judges import JUDGE_PLUGINS
from lesion.study.plugins import PluginError, Plugins, package_of
from lesion.study.reference import section_tables

PLUGINS: tuple[Plugins[Any], ...] = (JUDGE_PLUGINS, ATTACK_PLUGINS, CONTROL_PLUGINS)
"""The plug-ins of every group."""


def plugins_of(job: Job) -> tuple[EntryPoint, ...]:
    """The plug-ins whose code a job runs.

    An attack's is not among them: a job's specification has all of the attack.
    """
    match job:
        case JudgeResponsesExtraJob():
            entries: Iterable[EntryPoint | None] = [JUDGE_PLUGINS.entry(job.judge.kind)]
        case MasksJob():
            entries = map(CONTROL_PLUGINS.entry, job.controls)
        case CurveMasksJob():
            names = controls_among(job.families, job.behaviours.names)
            entries = map(CONTROL_PLUGINS.entry, names)
        case EqualCostMasksJob():
            names = controls_among(job.masks, job.behaviours.names)
            entries = map(CONTROL_PLUGINS.entry, names)
        case _:
            entries = []
    return tuple(entry for entry in entries if entry is not None)


def plugins_page() -> str:
    """The installed plug-ins as Markdown, with the keys of their judges; empty without any."""
    rows, tables = list[str](), list[str]()
    for plugins in PLUGINS:
        for name in plugins.names:
            try:
                entry, value = plugins.entry(name), plugins.get(name)
                package = package_of(entry) if entry else ""
            except PluginError as error:
                package, value = f"can't be used: {error}", None
            rows.append(f"| {plugins.what} | `{name}` | {package} |")
            if isinstance(value, type):
                title = f"judgements.judges.<name>` of kind `{name}"
                tables += section_tables(title, value)
    head = ["## Plug-ins that are installed here\n", "| what | name | package |", "|---|---|---|"]
    return "\n".join([*head, *rows, "", *tables]) if rows else ""


def plugin_problems() -> Iterator[str]:
    """What is wrong with installed plug-ins; a study that uses one of these can't be loaded."""
    for plugins in PLUGINS:
        yield from plugins.problems()
