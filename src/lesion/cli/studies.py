"""Commands about a study: before it runs, and after."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.app import app

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
