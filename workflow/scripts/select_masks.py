from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.masks.jobs import MasksJob
from lesion.masks.run import write_masks

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    job = MasksJob.model_validate_json(snakemake.params.job)
    names, indices = job.behaviours.names, map(Path, snakemake.input.indices)
    write_masks(
        Path(snakemake.input.model).parent,
        {name: index.parent for name, index in zip(names, indices, strict=True)},
        Path(snakemake.input.chosen),
        Path(snakemake.output.masks[0]).parent,
        job,
        snakemake.threads,
    )
