"""The command `lesion`: inspect a study and its masks, and apply a mask to a checkpoint."""

import typer

from lesion.cli import masks, report, studies
from lesion.cli.app import app
from lesion.io.formats import LesionError
from lesion.io.logs import Terminal, messages_to

__all__ = ["app", "main", "masks", "report", "studies"]


def main() -> None:
    """Run the command; a LesionError becomes a message and exit code 2, not a traceback."""
    try:
        with messages_to(Terminal()):
            app()
    except LesionError as error:
        typer.echo(f"lesion: {error}", err=True)
        raise SystemExit(2) from None
