from pathlib import Path
from typing import TYPE_CHECKING

from lesion.checkpoints import write_checkpoint
from lesion.checkpoints.jobs import CheckpointJob
from lesion.io.logs import logged
from lesion.io.staging import staged

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    job = CheckpointJob.model_validate_json(snakemake.params.job)
    write_checkpoint(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.mask),
        Path(snakemake.output.record).parent,
        base=job.base,
        license_=job.license,
        command="snakemake --cores all --configfile study.yaml",
        # Not of the job: for whoever wants to make the checkpoint again.
        study=snakemake.config,
        # The rule `card` writes it, when there are measurements to show.
        card=False,
    )
