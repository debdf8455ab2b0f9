from pathlib import Path

from lesion.job import logged
from lesion.sources import locate

with logged(snakemake.log[0]):
    from lesion.models.prepare import prepare

    study = snakemake.params.job["study"]
    prepare(
        locate(snakemake.params.source),
        Path(snakemake.output.record).parent,
        dtype=study["dtype"],
        license_=study["license"],
    )
