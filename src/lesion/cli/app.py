"""The command itself, to which the other modules add theirs."""

import typer

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
