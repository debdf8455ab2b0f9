from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.jobs import UtilityJob
from lesion.responses.utility import examine_variant

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake) as here:
    job = UtilityJob.model_validate_json(snakemake.params.job)
    mask = snakemake.input.get("mask")
    examine_variant(
        job.model_copy(update={"folder": here / job.folder}),
        model=Path(snakemake.input.model).parent,
        mask=Path(mask) if mask else None,
        out=Path(snakemake.output.utility),
    )
