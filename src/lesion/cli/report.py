"""`lesion compare` and `lesion verdicts`: what was found, beside another study and for a gate."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.app import app, path_of
from lesion.cli.studies import ConfigFiles, study_of
from lesion.io.formats import LesionError

if TYPE_CHECKING:
    from lesion.report.gate import Gate


class Format(StrEnum):
    """How `lesion verdicts` writes."""

    TEXT = "text"
    JSON = "json"


Side = Annotated[
    str, typer.Argument(help="A results folder, results/STUDY, or one of its models: STUDY:MODEL.")
]


@app.command()
def compare(
    a: Side,
    b: Side,
    out: Annotated[Path, typer.Option(parser=path_of, metavar="<path>", help="The page.")] = Path(
        "compare.html"
    ),
) -> None:
    """Write a page that holds two studies, or two models, against each other.

    Is B safer than A at the circuit? Every difference is B − A, with its interval.

    Example: lesion compare results/release-1 results/release-2 --out compare.html
    """
    from lesion.report.compare import side, write_comparison

    write_comparison(side(a), side(b), out)
    typer.echo(f"{out}: written")


@app.command()
def verdicts(
    config: ConfigFiles = None,
    form: Annotated[Format, typer.Option("--format", help="For people, or for a gate.")] = (
        Format.TEXT
    ),
    require: Annotated[
        str,
        typer.Option(help="Numbers of the claims that count, such as 3,6; all measured if empty."),
    ] = "",
    model: Annotated[str, typer.Option(help="The only model that counts.")] = "",
) -> None:
    """Say whether a finished study supports the paper's claims; the exit code does too.

    0: every required claim is supported. 1: one is not. 3: it can't tell. 2: an error.

    Example: lesion verdicts studies/release.yaml --require 3,6 --format json
    """
    from lesion.report.gate import document, gate

    study = study_of(config)
    found = gate(Path(study.results) / study.study / "tables", _numbers(require), model or None)
    if form is Format.JSON:
        typer.echo(json.dumps(document(found), indent=1, ensure_ascii=False))
    else:
        _print(found)
    raise typer.Exit(found.exit_code)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise LesionError(f"--require: {text!r} should be numbers of claims, such as 3,6.")
    return [int(part) for part in parts]


def _print(found: "Gate") -> None:
    from rich.console import Console
    from rich.text import Text

    from lesion.report.gate import noticed, said, verdict_table

    console = Console(file=sys.stdout, width=80, highlight=False)
    for model, notice in found.notices:
        console.print(noticed(model, notice))
    for judged in found.models:
        console.print(verdict_table(judged, found.confidence))
    if any(not claim.required for judged in found.models for claim in judged.claims):
        console.print(Text("* not required"))
    required = ", ".join(map(str, found.required)) or "none was measured"
    console.print(
        Text.assemble((found.study, "bold"), f", claims {required}: ", said(found.verdict))
    )
