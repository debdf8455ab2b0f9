"""The command `lesion`: inspect a study and its masks, and apply a mask to a checkpoint."""

import sys

import typer

from lesion.cli import init, masks, plan, reference, report, run, studies
from lesion.cli.app import app
from lesion.io.formats import LesionError
from lesion.io.logs import Terminal, messages_to

__all__ = ["app", "init", "main", "masks", "plan", "reference", "report", "run", "studies"]


def main() -> None:
    """Run the command; a LesionError becomes a message and exit code 2, not a traceback."""
    own, snakemakes = sys.argv[1:], list[str]()
    if own[:1] == ["run"] and "--" in own:
        end = own.index("--")
        own, snakemakes = own[:end], own[end + 1 :]
    try:
        with messages_to(Terminal()):
            app(own, obj=snakemakes)
    except LesionError as error:
        typer.echo(f"lesion: {error}", err=True)
        raise SystemExit(2) from None
