"""`lesion apply`: a base checkpoint and a mask of kilobytes make a pruned checkpoint."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.app import app, path_of
from lesion.io.formats import LesionError


@app.command()
def apply(
    base: Annotated[
        Path,
        typer.Argument(
            parser=path_of, help="The base checkpoint's folder: safetensors and config.json."
        ),
    ],
    mask: Annotated[
        Path,
        typer.Argument(
            parser=path_of, help="A mask of a harm: results/STUDY/masks/MODEL/NAME.safetensors."
        ),
    ],
    out: Annotated[Path, typer.Argument(parser=path_of, help="The new folder.")],
    name: Annotated[
        str, typer.Option(help="The base's name on its model card, such as org/model.")
    ] = "",
    license_: Annotated[
        str, typer.Option("--license", help="The base's licence, such as apache-2.0.")
    ] = "",
) -> None:
    """Write a pruned checkpoint: the base's own files with the mask's weights zeroed.

    No tensor is loaded, and every byte written is compared with the base's. BASE has to be the
    very checkpoint the mask was made from: the mask knows its digest.

    Example: lesion apply SmolLM2-135M-Instruct shared.safetensors pruned/
    """
    from lesion.checkpoints import write_checkpoint
    from lesion.models.record import RECORD, read_record

    if out.exists():
        raise LesionError(f"{out}: is there already. Give a new folder, or remove it first.")
    if not base.is_dir():
        raise LesionError(f"{base}: is not a folder. Give the folder of the base checkpoint.")
    known = read_record(base) if (base / RECORD).is_file() else {}
    write_checkpoint(
        base,
        mask,
        out,
        base=name or base.resolve().name,
        license_=license_ or known.get("license") or "unknown",
        command=shlex.join(["lesion", "apply", base.name, mask.name, out.name]),
    )
    typer.echo(f"{out}: written, and every byte compared with {base}")
