from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.judgements.extra import judge_more
from lesion.judgements.jobs import JudgeResponsesExtraJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    judge_more(
        JudgeResponsesExtraJob.model_validate_json(snakemake.params.job),
        answers=[Path(path) for path in snakemake.input.answers],
        out=Path(snakemake.output.judge_scores),
    )
