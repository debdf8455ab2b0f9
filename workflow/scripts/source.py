from pathlib import Path

from lesion.io.addresses import parse
from lesion.io.logs import logged
from lesion.sources.fetch import fetch

with logged(snakemake.log[0]):
    fetch(
        [parse(text) for text in snakemake.params.job["study"]["addresses"]],
        Path(snakemake.params.folder),
        Path(snakemake.output.record),
    )
