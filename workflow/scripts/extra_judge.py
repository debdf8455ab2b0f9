from pathlib import Path

from lesion.io.logs import logged
from lesion.judgements.extra import judge_more
from lesion.judgements.jobs import ExtraJudgeJob

with logged(snakemake.log[0]):
    judge_more(
        ExtraJudgeJob.model_validate_json(snakemake.params.job),
        answers=[Path(path) for path in snakemake.input.answers],
        out=Path(snakemake.output.verdicts),
    )
