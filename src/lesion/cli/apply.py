"""`lesion apply`: make a pruned checkpoint from a base checkpoint and a mask."""

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
            parser=path_of,
            help="The folder of the base checkpoint, with safetensors files and config.json.",
        ),
    ],
    mask: Annotated[
        Path,
        typer.Argument(
            parser=path_of, help="A mask of harm: results/STUDY/masks/MODEL/NAME.safetensors."
        ),
    ],
    out: Annotated[Path, typer.Argument(parser=path_of, help="The folder to create.")],
    name: Annotated[
        str, typer.Option(help="The base model's name for the model card, such as org/model.")
    ] = "",
    license_: Annotated[
        str, typer.Option("--license", help="The base model's licence, such as apache-2.0.")
    ] = "",
) -> None:
    """Write a pruned checkpoint: a copy of the base's files with the mask's weights set to zero.

    No tensor is loaded, and every byte written is compared with the base. BASE must be the
    checkpoint that the mask was made from; the mask stores its digest.

    Example: lesion apply SmolLM2-135M-Instruct shared.safetensors pruned/
    """
    from lesion.checkpoints import write_checkpoint
    from lesion.models.record import RECORD, read_record

    if out.exists():
        raise LesionError(f"{out}: already exists. Give a new folder, or remove this one first.")
    if not base.is_dir():
        raise LesionError(f"{base}: not a folder. Give the folder of the base checkpoint.")
    known = read_record(base) if (base / RECORD).is_file() else {}
    write_checkpoint(
        base,
        mask,
        out,
        base=name or base.resolve().name,
        license_=license_ or known.get("license") or "unknown",
        command=shlex.join(["lesion", "apply", base.name, mask.name, out.name]),
    )
    typer.echo(f"{out}: written; every byte was compared with {base}")
