"""Utility of a variant: the scores of tasks of the lm-evaluation-harness, by item."""

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from lesion.io.reuse import key, known_rows, write_rows
from lesion.masks.store import read_mask
from lesion.responses import UTILITY
from lesion.responses.jobs import UtilityJob
from lesion.responses.tasks import local_tasks, task_changes
from lesion.responses.variant import EvaluatedVariant

logger = logging.getLogger(__name__)

Row = tuple[str, str, str, float]
"""Task, item, metric, value."""


def examine_variant(job: UtilityJob, model: Path, mask: Path | None, out: Path) -> None:
    """Write a variant's scores in all tasks; those of unchanged tasks are reused from `out`.

    Args:
        job: tasks and batches.
        model: checkpoint folder.
        mask: the variant's mask file; None for `unmodified`.
        out: table of UTILITY, with a row for each item and metric, a task's main metric first.

    Raises:
        LesionError: a task is unknown, or its data is not available.
    """
    subject = EvaluatedVariant(model, read_mask(mask) if mask else None, job.device)
    keys = {name: _task_key(subject, name, job) for name in job.tasks}
    known = _known_tasks(out)
    todo = [name for name, one in keys.items() if one not in known]
    made = _examine(subject, todo, job)
    rows = [
        (*row, f"{one}-{place}")
        for name, one in keys.items()
        for place, row in enumerate(made[name] if name in made else known[one])
    ]
    logger.info(f"{job.variant}: ran {len(todo)} of {len(keys)} tasks")
    write_rows(pl.DataFrame(rows, schema=UTILITY, orient="row"), out)


def _task_key(subject: EvaluatedVariant, name: str, job: UtilityJob) -> str:
    """The key of all rows of a task.

    Items have no keys of their own, because a name may be a group, whose items are known only once
    it has been run. lm-eval's own tasks do not change within a version of lm-eval.
    """
    return key(
        task=name,
        content=job.tasks[name],
        harness=version("lm-eval"),
        limit=job.limit,
        chat=subject.chat.format._asdict() if job.chat else None,
        **subject.identity,
    )


def _known_tasks(out: Path) -> dict[str, list[Row]]:
    """Rows of an earlier output by their task's key, in their order."""
    found: dict[str, list[Row]] = {}
    for one, row in known_rows(out, UTILITY).items():
        content = (row["task"], row["item"], row["metric"], row["value"])
        found.setdefault(one.partition("-")[0], []).append(content)
    return found


def _examine(
    subject: EvaluatedVariant, names: Sequence[str], job: UtilityJob
) -> dict[str, Sequence[Row]]:
    if not names:
        return {}
    # Importing lm-eval takes seconds, and a job whose rows are all reused does not need it. Tasks
    # are opened first, so that an unknown name is reported before the model is loaded.
    from lesion.responses.harness import open_tasks, run_tasks

    with TemporaryDirectory() as cache:
        local = {
            name: task_changes(one, Path(cache)) for name, one in local_tasks(job.folder).items()
        }
        opened = open_tasks(names, job.folder, local)
        loaded = subject.load()
        return {
            name: run_tasks(
                loaded, tasks, job.batch_size, job.limit, job.chat, f"{job.variant}: {name}"
            )
            for name, tasks in opened.items()
        }
