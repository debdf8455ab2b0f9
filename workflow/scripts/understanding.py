from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.jobs import UnderstandingJob
from lesion.responses.understanding import understand_variant

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    mask, reference = snakemake.input.get("mask"), snakemake.input.get("reference")
    understand_variant(
        UnderstandingJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        mask=Path(mask) if mask else None,
        pairs=[Path(path) for path in snakemake.input.pairs],
        reference=Path(reference) if reference else None,
        understanding=Path(snakemake.output.understanding),
        completions=Path(snakemake.output.completions),
    )
