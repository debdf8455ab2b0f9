from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.models.jobs import ModelJob
from lesion.plan.checks import check_prepared
from lesion.sources.fetch import locate
from lesion.study import load_study

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    from lesion.models.prepare import prepare

    job = ModelJob.model_validate_json(snakemake.params.job)
    prepare(
        locate(job.source),
        Path(snakemake.output.record).parent,
        dtype=job.dtype,
        license_=job.license,
        chat=job.chat,
    )
    # Before anything is computed with it. Not of the job: another q leaves the model alone.
    check_prepared(load_study(snakemake.config), snakemake.wildcards.model)
