"""Utility of a variant: the scores of tasks of the lm-evaluation-harness, by item."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from lesion.io.reuse import key, known_rows, write_rows
from lesion.responses import UTILITY
from lesion.responses.jobs import UtilityJob
from lesion.responses.tasks import local_tasks, task_changes
from lesion.responses.variant import EvaluatedVariant

if TYPE_CHECKING:
    from lesion.responses.harness import Score

logger = logging.getLogger(__name__)


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
    subject = EvaluatedVariant(model, mask, job.device, job.ablation)
    keys = {name: _task_key(subject, name, job) for name in job.tasks}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in known_rows(out, UTILITY).values():
        rows[row["key"].partition("-")[0]].append(row)
    todo = [name for name, task in keys.items() if task not in rows]
    for name, scores in _examine(subject, todo, job).items():
        rows[keys[name]] = [
            {**score._asdict(), "key": f"{keys[name]}-{index}"}
            for index, score in enumerate(scores)
        ]
    logger.info(f"{job.variant}: ran {len(todo)} of {len(keys)} tasks")
    table = [row for task in keys.values() for row in rows[task]]
    write_rows(pl.DataFrame(table, schema=UTILITY), out)


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


def _examine(
    subject: EvaluatedVariant, names: Sequence[str], job: UtilityJob
) -> "dict[str, list[Score]]":
    if not names:
        return {}
    # Importing lm-eval takes seconds, and a job whose rows are all reused does not need it. Tasks
    # are opened first, so that an unknown name is reported before the model is loaded.
    from lesion.responses.harness import open_tasks, run_tasks

    with TemporaryDirectory() as cache:
        files = local_tasks(job.folder)
        local = {name: task_changes(file, Path(cache)) for name, file in files.items()}
        opened = open_tasks(names, job.folder, local)
        loaded, settings = subject.load(), (job.batch_size, job.limit, job.chat)
        return {
            name: run_tasks(loaded, tasks, *settings, f"{job.variant}: {name}")
            for name, tasks in opened.items()
        }
