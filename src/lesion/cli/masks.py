"""Commands about masks: describe one, count the weights that several share, apply one."""

import math
import shlex
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.app import app, path_of
from lesion.io.formats import LesionError

if TYPE_CHECKING:
    from rich.table import Table

    from lesion.masks.store import Mask

MaskFile = Annotated[
    Path, typer.Argument(parser=path_of, help="A mask: results/STUDY/masks/MODEL/NAME.safetensors.")
]
MaskFiles = Annotated[
    list[Path], typer.Argument(parser=path_of, help="Two or more masks of one model.")
]


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


@app.command()
def show(mask: MaskFile) -> None:
    """Describe a mask: how it was made, how many weights it has, and where they lie.

    Example: lesion show results/default/masks/smollm2-135m-instruct/shared.safetensors
    """
    from rich.console import Console

    from lesion.masks.store import read_mask

    read = read_mask(mask)
    console = Console(highlight=False)
    facts = _table("", "", title=str(mask))
    for key, value in sorted(read.metadata.items()):
        if key not in ("shapes", "weights", "candidates"):
            facts.add_row(key, value)
    total = sum(math.prod(shape) for shape in read.shapes.values())
    facts.add_row("weights", f"{read.size:,} of {total:,} candidates")
    facts.add_row("sparsity", f"{read.size / max(1, total):.3g} of the candidates are zeroed")
    console.print(facts)
    if read.size:
        console.print(_where(read))


def _where(mask: "Mask") -> "Table":
    """Counts of weights by layer (rows) and kind of matrix (columns), without empty layers."""
    import polars as pl

    from lesion.masks.where import where_table
    from lesion.models.layout import Layout

    located = where_table({"": mask.flat()}, Layout.of(mask.shapes)).filter(pl.col("weights") > 0)
    # All experts of a block share one column.
    kinds = located.with_columns(pl.col("module").str.split(".").list.last())
    counts = (
        kinds.pivot(
            "module", index="layer", values="weights", aggregate_function="sum", sort_columns=True
        )
        .sort("layer")
        .fill_null(0)
        .with_columns(all=pl.sum_horizontal(pl.exclude("layer")))
    )
    # Names break after underscores, so that seven columns fit a terminal.
    table = _table(*(name.replace("_", "_\n") for name in counts.columns))
    for layer, *numbers in counts.iter_rows():
        table.add_row(str(layer), *map(_count, numbers))
    table.add_section()
    table.add_row("all", *map(_count, counts.drop("layer").sum().row(0)))
    return table


@app.command()
def overlap(masks: MaskFiles) -> None:
    """Count the weights that each pair of masks shares, and compare the count with chance.

    The null model `strict` fixes both masks' row and column counts in each matrix, since a row that
    matters at all matters for everything; its brackets are a 95% interval over matrices. The null
    model `matrix` fixes only each matrix's count, and `any` only the sizes of the masks.

    Example: lesion overlap masks/m/privacy.safetensors masks/m/physical.safetensors
    """
    from rich.console import Console

    from lesion.masks.overlap import overlaps
    from lesion.masks.store import read_mask
    from lesion.models.layout import Layout

    if len(masks) < 2 or len(set(masks)) < len(masks):
        raise LesionError("give two or more different masks: lesion overlap A B ...")
    read = {path: read_mask(path) for path in masks}
    (first, base), *others = read.items()
    for path, other in others:
        digests = [mask.metadata.get("model_digest") for mask in (base, other)]
        if digests[0] != digests[1] or base.shapes != other.shapes:
            raise LesionError(
                f"{path}: made from the model with digest {digests[1]}, but {first} from "
                f"{digests[0]}. Only masks of one model can be compared."
            )
    # The masks' own names, or the names of their files if two masks have the same name.
    names = [mask.metadata.get("mask", str(path)) for path, mask in read.items()]
    if len(set(names)) < len(names):
        names = [str(path) for path in masks]
    named = dict(zip(names, read.values(), strict=True))
    comparisons = overlaps(
        {name: mask.flat() for name, mask in named.items()}, Layout.of(base.shapes)
    )
    sizes = _table("mask", "weights")
    for name, mask in named.items():
        sizes.add_row(name, _count(mask.size))
    table = _table("masks", "shared", "Jaccard", "strict [95%]", "p", "matrix", "any")
    # Names are not broken, unless they are paths, which are folded.
    table.columns[0].min_width = min(20, max(map(len, chain.from_iterable(comparisons))))
    for (a, b), comparison in comparisons.items():
        bounds = (comparison.enrichment_low, comparison.enrichment_high)
        interval = f" [{bounds[0]:.1f}, {bounds[1]:.1f}]" if all(map(math.isfinite, bounds)) else ""
        table.add_row(
            *(f"{a}\n{b}", _count(comparison.shared), f"{comparison.jaccard:.3f}"),
            f"{_times(comparison.enrichment_rows_columns)}{interval}",
            f"{comparison.p_rows_columns:.1g}" if comparison.p_rows_columns else "<1e-300",
            *(_times(comparison.enrichment_matrix), _times(comparison.enrichment_uniform)),
        )
    console = Console(highlight=False)
    console.print(sizes)
    console.print(
        "\nShared weights as a multiple of chance, under three null models; p is of strict"
    )
    console.print(table)


def _table(*columns: str, title: str | None = None) -> "Table":
    """A plain table; columns after the first are numbers if there is a header, text otherwise."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        show_header=any(columns),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    for index, column in enumerate(columns):
        number = index > 0 and any(columns)
        table.add_column(
            column, justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else "·"


def _times(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x"
