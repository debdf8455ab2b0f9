from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.judgements.jobs import TrainJudgeJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    # Importing torch may fail too, and the log should say why.
    from lesion.judgements.run import train_judge

    train_judge(
        TrainJudgeJob.model_validate_json(snakemake.params.job),
        judge=Path(snakemake.output.judge),
        table=Path(snakemake.output.table),
    )
