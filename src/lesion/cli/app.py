"""The main command; the other modules add their subcommands to it."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from lesion.io.addresses import expanded

_PATH = ("init", "check", "plan", "run", "open", "summary", "verdicts", "compare", "export")
"""The commands in the order in which a study needs them; the others follow."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _PATH.index(name) if name in _PATH else len(_PATH))


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which weights does a behaviour depend on, and what is left when they are zeroed?",
    epilog="A study of your own: `lesion init mine --harm prompts.jsonl`, `lesion check mine`, "
    "`lesion run mine`, `lesion open mine`. Snakemake runs it; `lesion run mine -- -n` shows which "
    "jobs are stale. Results are in `results/mine`.",
)


def path_of(text: str | Path) -> Path:
    """A path of the command line, expanded where a shell does not, as in quotes or after `=`.

    Raises:
        AddressError: there is no such file, and the path cannot be expanded.
    """
    path = Path(text)
    return path if path.exists() else Path(expanded(str(text)))
