"""The command that says what a study takes."""

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.app import app
from lesion.cli.studies import ConfigFiles, read_study, say_next, typed

if TYPE_CHECKING:
    from lesion.study import Study


@app.command()
def plan(
    config: ConfigFiles = None,
    quick: Annotated[bool, typer.Option(help="The plan of `lesion run --quick`.")] = False,
) -> None:
    """Say what a study takes before it runs: jobs, time, memory and disk.

    The times were measured on one machine; yours may take half or twice as long, and a processor
    without bf16 longer. Nothing is fetched: the Hugging Face hub is asked for the size of a model
    that is not here yet; where that is impossible, its name may say it (such as 8B), and otherwise
    it counts as one of a billion weights.
    """
    import psutil
    from rich.console import Console
    from rich.table import Table

    from lesion.plan import checks, estimate

    study = read_study(config, quick=quick)
    checks.check_study(study)
    rows = estimate.estimates(study)
    table = Table("stage", "jobs", "hours", "memory (GB)", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.rule, str(row.jobs), _hours(row.seconds), f"{row.memory / 1000:.1f}")
    hours, memory = sum(row.seconds for row in rows), max(row.memory for row in rows)
    what = "GPU" if estimate.on_gpu(study) else "core"
    jobs = sum(row.jobs for row in rows)
    table.add_row("all", str(jobs), _hours(hours), f"{memory / 1000:.1f}")
    Console(file=sys.stdout, width=80, highlight=False).print(table)
    disk = estimate.disk_bytes(study)
    typer.echo(
        f"{', '.join(study.models)}: {jobs} jobs, about {_hours(hours)} {what} hours, "
        f"{memory / 1000:.1f} GB of memory for the largest job, {disk / 10**9:.1f} GB of disk in "
        f"{study.folder}"
    )
    assumed = estimate.assumed_sizes(study)
    if not assumed:
        for problem in _too_large(study, disk, memory, psutil.virtual_memory().total):
            typer.echo(f"warning: {problem}", err=True)
    for model, size in assumed.items():
        typer.echo(
            f"warning: `{model}` is not here yet, and the hub did not say its size; {size}. All "
            "numbers are in proportion to them.",
            err=True,
        )
    say_next(f"lesion run {typed(config or [])}{' --quick' if quick else ''}")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds < 36000 else f"{seconds / 3600:.0f}"


def _too_large(study: "Study", disk: int, memory: int, total: int) -> list[str]:
    """What this machine does not have."""
    from lesion.plan.outputs import score_tail

    problems = []
    place = next(path for path in (study.folder, *study.folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if disk > free:
        advice = (
            ""
            if score_tail(study)
            else " Most of it are scores: `scores.tail` stores the needed "
            "ones alone (docs/explanation/scoring.md)."
        )
        problems.append(
            f"{study.folder} has {free / 10**9:.0f} GB of free disk. Set `results` to a larger "
            f"disk.{advice}"
        )
    if memory * 10**6 > total:
        problems.append(
            f"this machine has {total / 10**9:.0f} GB of memory. Run on a larger one, or on a "
            "cluster (docs/how-to/cluster.md)."
        )
    return problems
