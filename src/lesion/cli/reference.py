"""The command `reference`, and the documents that are generated from the code."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.app import app


def documents() -> dict[Path, Callable[[str], str]]:
    """The generated files, and what makes each of its present text (empty, if there is none)."""
    from lesion.report.glossary import glossary_page
    from lesion.study.reference import config_page, schema_json
    from lesion.tables.claims.registry import with_claims_list
    from lesion.tables.columns import tables_page

    return {
        Path("docs/reference/config.md"): lambda _: config_page(),
        Path("docs/reference/cli.md"): lambda _: commands_page(),
        Path("docs/reference/tables.md"): lambda _: tables_page(),
        Path("workflow/schemas/config.schema.json"): lambda _: schema_json(),
        Path("docs/explanation/glossary.md"): lambda _: glossary_page(),
        Path("docs/explanation/claims.md"): with_claims_list,
        Path("docs/how-to/gate.md"): with_claims_list,
    }


def commands_page() -> str:
    """The reference of the commands as Markdown: the text of each `--help`."""
    from typer.cli import get_docs_for_click

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lesion", title=_TITLE)
    head, _, rest = text.partition("\n\n")
    # Its list of commands cuts their sentences off; the sections have them whole.
    before, _, after = rest.partition("**Commands**:")
    sections = after.partition("## ")[2]
    return f"{head}\n\n{_NOTE}\n\n{before}## {sections}".rstrip() + "\n"


_TITLE = "Every command"
_NOTE = "This page is generated from the commands' `--help` by `lesion reference --write`."


@app.command()
def reference(
    write: Annotated[
        bool,
        typer.Option(
            help="Write the generated documents of a checkout: the reference pages, the JSON "
            "schema and the lists of claims."
        ),
    ] = False,
) -> None:
    """Explain every key of a study, and list the installed plug-ins."""
    from lesion.io.formats import LesionError, atomic
    from lesion.plan.plugins import plugins_page
    from lesion.study.reference import config_page

    if not write:
        typer.echo(config_page())
        typer.echo(plugins_page(), nl=False)
        return
    if not (Path("pyproject.toml").is_file() and Path("docs").is_dir()):
        raise LesionError("--write: run it in a checkout of lesion, whose documents it writes.")
    for path, made in documents().items():
        text = made(path.read_text(encoding="utf-8") if path.exists() else "")
        with atomic(path) as part:
            part.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {path}")
