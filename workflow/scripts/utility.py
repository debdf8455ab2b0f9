from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.jobs import UtilityJob
from lesion.responses.utility import examine_variant

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    mask = snakemake.input.get("mask")
    examine_variant(
        UtilityJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        mask=Path(mask) if mask else None,
        out=Path(snakemake.output.utility),
    )
