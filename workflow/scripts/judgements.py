from pathlib import Path

from lesion.io.logs import logged
from lesion.judgements.run import judge_completions
from lesion.sources.fetch import locate

with logged(snakemake.log[0]):
    judge_completions(
        list(zip(snakemake.params.variants, map(Path, snakemake.input.answers), strict=True)),
        Path(snakemake.input.judge),
        locate(snakemake.params.embedder),
        Path(snakemake.output[0]),
        snakemake.params.threads,
    )
