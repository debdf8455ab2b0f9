"""The commands that run a study and open its page."""

import shlex
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.app import app
from lesion.cli.studies import ConfigFiles, read_study, say_next, typed
from lesion.io.formats import LesionError
from lesion.io.texts import read_yaml

_OF_STUDIES = ("--config", "-C", "--configfile", "--configfiles", "--snakefile", "-s")
"""Options of Snakemake that say which study is run."""


@app.command("run")
def run_study(
    context: typer.Context,
    config: ConfigFiles = None,
    quick: Annotated[
        bool,
        typer.Option(help="A first look in minutes: the preset `quick`, in results/NAME-quick."),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Run on a cluster: `slurm`, `kubernetes` or `cluster-generic` "
            "(docs/how-to/cluster.md).",
            show_default=False,
        ),
    ] = None,
    cores: Annotated[str, typer.Option(help="Cores of this machine to use.")] = "all",
) -> None:
    """Run what is stale of a study, and print its summary.

    Snakemake does the work: an interrupted run goes on where it stopped, and a changed study runs
    only what changed. What follows `--` goes to Snakemake, such as `-- -n` for what would run.
    """
    from lesion.plan import checks

    study = read_study(config, quick=quick)
    files = config or [Path("config.yaml")]
    checks.check_study(study)
    checks.check_splits(study)
    command = snakemake_command(files, study.study, quick=quick, cluster=cluster, cores=cores)
    given: list[str] = context.obj or []
    for option in _OF_STUDIES:
        if any(word == option or word.startswith(f"{option}=") for word in given):
            raise LesionError(
                f"{option} can't follow `--`, because lesion reads the study's files itself. Write "
                "the keys into a second file, which is laid over the first: lesion run A B"
            )
    command += given
    copied = _has_storage(cluster, given)
    typer.echo(shlex.join(["snakemake", *command[3:]]), err=True)
    process = subprocess.Popen(command)
    # Ctrl-C reaches Snakemake too, which ends its jobs and then itself.
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    signal.signal(signal.SIGINT, usual)
    if status:
        typer.echo(
            f"lesion: the run of `{study.study}` stopped; its message is above. The logs of its "
            f"jobs are in {study.folder}/logs{' of the storage' if copied else ''}. After a job's "
            "failure, the same command goes on.",
            err=True,
        )
        raise typer.Exit(status if status > 0 else 1)
    page = study.folder / "report" / "index.html"
    if page.exists() and not given and not copied:
        from lesion.report.summary import print_summary

        print_summary(study.folder / "tables", page)
        say_next(f"lesion open {typed(config or [])}{' --quick' if quick else ''}")


def _has_storage(cluster: str | None, given: Sequence[str]) -> bool:
    """Whether the results go to a storage provider, and not to a folder of this machine."""
    option = "default-storage-provider"
    profile = read_yaml(_profile(cluster)) if cluster else {}
    return option in profile or any(word.startswith(f"--{option}") for word in given)


def snakemake_command(
    files: Sequence[Path], study: str, *, quick: bool, cluster: str | None, cores: str
) -> list[str]:
    """The command that runs a study, from any folder."""
    from lesion.io.bundle import bundle

    command = [sys.executable, "-m", "snakemake", "--snakefile", str(bundle() / "Snakefile")]
    command += ["--configfile", *map(str, files)]
    if quick:
        command += ["--config", "preset=quick", f"study={study}"]
    if cluster is None:
        return [*command, "--cores", cores]
    return [*command, "--workflow-profile", str(_profile(cluster).parent)]


def _profile(cluster: str) -> Path:
    from lesion.io.bundle import bundle

    profiles = bundle() / "workflow" / "profiles"
    if not (profiles / cluster / "profile.yaml").is_file():
        known = sorted(path.parent.name for path in profiles.glob("*/profile.yaml"))
        raise LesionError(
            f"there is no cluster `{cluster}`. Known: "
            f"{', '.join(name for name in known if name != 'default')}."
        )
    return profiles / cluster / "profile.yaml"


@app.command("open")
def open_page(
    config: ConfigFiles = None,
    quick: Annotated[bool, typer.Option(help="The page of `lesion run --quick`.")] = False,
) -> None:
    """Open a finished study's page in the browser, and print its path."""
    study = read_study(config, quick=quick)
    page = study.folder / "report" / "index.html"
    if not page.exists():
        raise LesionError(
            f"{page}: is not there yet. Run the study first: lesion run {typed(config or [])}"
            f"{' --quick' if quick else ''}"
        )
    typer.echo(page)
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("No browser could be started here; open this file in one.")
