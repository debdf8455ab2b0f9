from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.masks.jobs import SweepJob
from lesion.masks.sweep import sweep

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    job = SweepJob.model_validate_json(snakemake.params.job)
    names, indices = job.behaviours.names, map(Path, snakemake.input.indices)
    sweep(
        Path(snakemake.input.model).parent,
        {name: index.parent for name, index in zip(names, indices, strict=True)},
        dict(zip(names, map(Path, snakemake.input.pairs), strict=True)),
        Path(snakemake.output.sweep),
        job,
    )
