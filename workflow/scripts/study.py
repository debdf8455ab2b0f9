from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.tables.jobs import StudyJob
from lesion.tables.run import write_study

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    write_study(
        StudyJob.model_validate_json(snakemake.params.job),
        models=Path(snakemake.input.models),
        out=Path(snakemake.output.study),
    )
