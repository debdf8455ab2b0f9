"""`lesion compare` and `lesion verdicts`: compare two studies, and gate a release."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from lesion.cli.app import app, path_of
from lesion.cli.studies import ConfigFiles, Quick, check_finished, read_study
from lesion.io.formats import LesionError

Side = Annotated[
    str,
    typer.Argument(help="A results folder, results/STUDY, or a model of it, results/STUDY:MODEL."),
]


@app.command()
def compare(
    a: Side,
    b: Side,
    out: Annotated[
        Path, typer.Option(parser=path_of, metavar="<path>", help="The HTML file to write.")
    ] = Path("compare.html"),
) -> None:
    """Write a page that compares two studies, or two models.

    Is B safer than A once the mask's weights are zeroed? Every difference is B − A, with its
    interval.

    Example: lesion compare results/release-1 results/release-2 --out compare.html
    """
    from lesion.report.compare import side, write_comparison

    write_comparison(side(a), side(b), out)
    typer.echo(f"{out}: written")


@app.command()
def verdicts(
    config: ConfigFiles = None,
    form: Annotated[
        Literal["text", "json"],
        typer.Option("--format", help="Text for people, or JSON for a program."),
    ] = "text",
    require: Annotated[
        str,
        typer.Option(
            help="Numbers of the required claims, such as 3,6; all measured claims if empty."
        ),
    ] = "",
    model: Annotated[str, typer.Option(help="The only model that counts.")] = "",
    quick: Quick = False,
) -> None:
    """Report whether a finished study supports the paper's claims, also by the exit code.

    0: every required claim is supported. 1: a required claim is not supported. 3: the study can't
    tell. 2: an error.

    Example: lesion verdicts studies/release.yaml --require 3,6 --format json
    """
    from rich.console import Console
    from rich.text import Text

    from lesion.report.gate import gate, notice_text, verdict_table, verdict_text

    parts = [part.strip() for part in require.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise LesionError(f"--require: {require!r} must be numbers of claims, such as 3,6.")
    study = read_study(config, quick=quick)
    check_finished(study, config)
    outcome = gate(study.folder / "tables", [*map(int, parts)], model or None)
    if form == "json":
        typer.echo(json.dumps(outcome.model_dump(), indent=1, ensure_ascii=False))
        raise typer.Exit(outcome.exit_code)
    console = Console(file=sys.stdout, width=80, highlight=False)
    for notice in outcome.notices:
        console.print(notice_text(**notice))
    for judged in outcome.models:
        console.print(verdict_table(judged, outcome.confidence))
    if any(not claim.required for judged in outcome.models for claim in judged.claims):
        console.print(Text("* not required"))
    required = ", ".join(map(str, outcome.required)) or "none was measured"
    console.print(
        Text.assemble(
            (outcome.study, "bold"), f", claims {required}: ", verdict_text(outcome.verdict)
        )
    )
    raise typer.Exit(outcome.exit_code)
