from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.masks.jobs import RefusalMaskJob
from lesion.masks.refusal import write_refusal_mask

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    job = RefusalMaskJob.model_validate_json(snakemake.params.job)
    names, indices = [*job.refusal, *job.benign], map(Path, snakemake.input.indices)
    write_refusal_mask(
        Path(snakemake.input.model).parent,
        {name: index.parent for name, index in zip(names, indices, strict=True)},
        Path(snakemake.output.mask),
        job,
        snakemake.threads,
    )
