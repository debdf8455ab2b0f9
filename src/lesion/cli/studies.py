"""Commands about a study: before it runs, and after."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from lesion.cli.app import app, path_of
from lesion.io.formats import LesionError

if TYPE_CHECKING:
    from lesion.study import Study


def config_of(text: str | Path) -> Path:
    """A study's file; its name without `.yaml` will do."""
    path = path_of(text)
    named = [path.with_name(f"{path.name}{ending}") for ending in (".yaml", ".yml")]
    there = [file for file in named if file.is_file() and not path.exists()]
    return there[0] if there else path


Quick = Annotated[bool, typer.Option(help="The results of `lesion run --quick`.")]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Argument(
        parser=config_of,
        help="The study's YAML file; of several files, each is laid over the one before.",
        show_default="config.yaml",
    ),
]


def read_study(files: Sequence[Path] | None, *, quick: bool = False) -> "Study":
    """The study of the files, read like the files of Snakemake's `--configfile`.

    Args:
        files: config.yaml, if there are none.
        quick: as `lesion run --quick` has it: with the preset `quick`, and a name of its own.
    """
    from lesion.study import load_study, read_configs
    from lesion.study.presets import NONE

    paths = files or [Path("config.yaml")]
    if not files and not paths[0].exists():
        raise LesionError(
            "there is no config.yaml in this folder. Give the study's file, or write one: "
            "lesion init NAME --harm prompts.jsonl"
        )
    given = read_configs(paths)
    if quick and given.get("preset") == NONE:
        raise LesionError(
            "the study says everything itself (`preset: none`), so there is no quick form of it"
        )
    if quick:
        given |= {"preset": "quick", "study": f"{given['study']}-quick"}
    return load_study(given, ", ".join(map(str, paths)))


def check_finished(study: "Study", files: Sequence[Path] | None) -> None:
    """Check that a study has results.

    Raises:
        LesionError: it has none; the message has the command that makes them.
    """
    if not (study.folder / "tables").is_dir():
        raise LesionError(
            f"the study `{study.study}` has no results yet in {study.folder}. Run it first: "
            f"lesion run {typed(files or [])}".rstrip()
            + (". For those of --quick, add it" if _quick_of(study).is_dir() else "")
        )


def _quick_of(study: "Study") -> Path:
    return study.folder.with_name(f"{study.study}-quick") / "tables"


def typed(files: Sequence[Path]) -> str:
    """Files as they are typed in a command."""
    return shlex.join(map(str, files))


def say_next(command: str) -> None:
    """Print the command to give next."""
    typer.echo(f"next: {command}".rstrip())


@app.command()
def check(config: ConfigFiles = None) -> None:
    """Check a study, its local files and its tasks without running anything.

    Prints the study's behaviours, models and variants, or an error with the keys to correct. Warns
    if this environment lacks something that jobs need. It contacts only the Hugging Face hub, and
    only for task data that is not in the cache.
    """
    from lesion.plan import checks
    from lesion.study import Role

    study = read_study(config)
    checks.check_study(study)
    checks.check_splits(study)
    tasks = checks.check_tasks(study)
    for problem in (*checks.check_data(tasks), *checks.warnings(study)):
        typer.echo(f"warning: {problem}", err=True)
    for role in get_args(Role):
        typer.echo(f"{role:8} {', '.join(study.of_role(role)) or '-'}")
    typer.echo(f"models   {', '.join(study.models)}")
    typer.echo(f"variants {', '.join(study.variants)}")
    typer.echo(f"the study `{study.study}` can run")
    say_next(f"lesion plan {typed(config or [])}")


@app.command()
def summary(config: ConfigFiles = None, quick: Quick = False) -> None:
    """Print the results of a finished study in one screen, and the path of its page."""
    from lesion.report.summary import print_summary

    study = read_study(config, quick=quick)
    check_finished(study, config)
    print_summary(study.folder / "tables", study.folder / "report" / "index.html")


@app.command()
def export(
    config: ConfigFiles = None,
    out: Annotated[
        Path, typer.Option(parser=path_of, metavar="<path>", help="Folder for the CSV files.")
    ] = Path("export"),
    quick: Quick = False,
) -> None:
    """Write a finished study's tables as CSV files.

    Answers to harmful requests are in `jailbreaks.csv`, with JailbreakBench's fields. In a
    notebook, `lesion.export.frames.pandas_tables(Path("results/default"))` returns the same tables
    as data frames.
    """
    from lesion.export.frames import write_csv

    study = read_study(config, quick=quick)
    check_finished(study, config)
    for path in write_csv(study.folder, out):
        typer.echo(f"wrote {path}")
