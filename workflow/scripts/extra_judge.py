from pathlib import Path

from lesion.io.logs import logged
from lesion.judgements.extra import Machine, build, judge_with
from lesion.sources.jobs import Place

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    judge = build(
        study["judge"],
        study["settings"],
        {part: Place(**one) for part, one in snakemake.params.places.items()},
        Machine(**study["machine"]),
    )
    judge_with(
        judge,
        list(zip(snakemake.params.variants, map(Path, snakemake.input.answers), strict=True)),
        Path(snakemake.output[0]),
    )
