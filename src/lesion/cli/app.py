"""The command itself, to which the other modules add theirs."""

from pathlib import Path

import typer

from lesion.io.addresses import expanded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which weights does a behaviour depend on, and what is left when they are zeroed?",
    epilog="A study is run by Snakemake: `snakemake --cores all` runs config.yaml, "
    "`snakemake --cores all --configfile studies/mine.yaml` another. "
    "`snakemake -n` shows which jobs are stale.",
)


def path_of(text: str | Path) -> Path:
    """A path of the command line, with what a shell leaves as it is in quotes or after `=`.

    Raises:
        AddressError: there is no such file, and the path cannot be expanded.
    """
    path = Path(text)
    return path if path.exists() else Path(expanded(str(text)))
