"""The command `lesion`: look at a study before it runs and at its results after."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.formats import LesionError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which weights does a behaviour depend on, and what is left when they are zeroed?",
    epilog="A study is run by Snakemake: `snakemake --cores` runs config.yaml, "
    "`snakemake --cores --configfile studies/mine.yaml` another. "
    "`snakemake -n` shows which jobs are stale.",
)

ConfigFile = Annotated[Path, typer.Argument(help="The study's YAML file.")]


@app.command()
def check(config: ConfigFile = Path("config.yaml")) -> None:
    """Check a study and the local files it names, without running anything.

    Prints what it would make; on an error, the keys to mend.
    """
    from lesion import plan
    from lesion.study import load_study, read_config

    study = load_study(read_config(config), str(config))
    plan.check(study)
    for role in ("harm", "benign", "refusal"):
        typer.echo(f"{role:8} {', '.join(study.of_role(role)) or '-'}")
    typer.echo(f"models   {', '.join(study.models)}")
    typer.echo(f"variants {', '.join(study.variants)}")
    typer.echo(f"{config}: the study `{study.study}` can run")


@app.command()
def summary(config: ConfigFile = Path("config.yaml")) -> None:
    """Print the headline table of a finished study, and where its page is."""
    from lesion.study import load_study, read_config
    from lesion.summary import print_summary

    study = load_study(read_config(config), str(config))
    made = Path(study.results) / study.study
    print_summary(made / "tables", made / "report" / "index.html")


@app.command()
def reference(
    write: Annotated[bool, typer.Option(help="Write docs/config.md and the JSON schema.")] = False,
) -> None:
    """Explain every key of a study."""
    from lesion import reference as made

    if write:
        for path in made.write(Path()):
            typer.echo(f"wrote {path}")
    else:
        typer.echo(made.page())


def main() -> None:
    """Run the command; a LesionError is a message and exit code 2, not a traceback."""
    try:
        app()
    except LesionError as error:
        typer.echo(f"lesion: {error}", err=True)
        raise SystemExit(2) from None
