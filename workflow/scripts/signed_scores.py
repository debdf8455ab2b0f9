from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.scores.jobs import ScoresJob
from lesion.study import load_study

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    from lesion.scores.run import score_model

    score_model(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.pairs),
        Path(snakemake.output.index).parent,
        ScoresJob.model_validate_json(snakemake.params.job),
        # Not of the job: how often sums are saved leaves them alone.
        save_minutes=load_study(snakemake.config).scores.save_minutes,
    )
