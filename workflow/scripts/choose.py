from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.masks.choose import choose
from lesion.masks.jobs import ChooseJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    choose(
        Path(snakemake.input.sweep),
        Path(snakemake.output.chosen),
        ChooseJob.model_validate_json(snakemake.params.job),
    )
