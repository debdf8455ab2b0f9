"""The main command; the other modules add their subcommands to it."""

from pathlib import Path

import typer

from lesion.io.addresses import expanded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which weights does a behaviour depend on, and what is left when they are zeroed?",
    epilog="Snakemake runs a study: `snakemake --cores all` runs config.yaml, and `snakemake "
    "--cores all --configfile config.yaml studies/mine.yaml` runs a study laid over it. "
    "`snakemake -n` shows which jobs are stale.",
)


def path_of(text: str | Path) -> Path:
    """A path of the command line, expanded where a shell does not, as in quotes or after `=`.

    Raises:
        AddressError: there is no such file, and the path cannot be expanded.
    """
    path = Path(text)
    return path if path.exists() else Path(expanded(str(text)))
