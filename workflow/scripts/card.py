from pathlib import Path
from typing import TYPE_CHECKING

from lesion.checkpoints import write_card
from lesion.checkpoints.jobs import CardJob
from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.report.markdown import before_after

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    job = CardJob.model_validate_json(snakemake.params.job)
    table = before_after(Path(snakemake.input.study).parent, job.model, job.mask)
    write_card(Path(snakemake.input.record).parent, table)
