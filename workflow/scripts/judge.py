from pathlib import Path

from lesion.job import logged
from lesion.judgements.run import train_judge
from lesion.sources import locate

with logged(snakemake.log[0]):
    train_judge(
        locate(snakemake.params.human_scores),
        locate(snakemake.params.embedder),
        Path(snakemake.output.judge),
        Path(snakemake.output.table),
        **snakemake.params.job["study"],
    )
