from pathlib import Path

from lesion.io.logs import logged
from lesion.judgements.extra import Machine, build_judge, judge_with

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    judge = build_judge(
        study["judge"], study["settings"], snakemake.params.places, Machine(**study["machine"])
    )
    judge_with(
        judge,
        list(zip(snakemake.params.variants, map(Path, snakemake.input.answers), strict=True)),
        Path(snakemake.output[0]),
    )
