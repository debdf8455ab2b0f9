from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.addresses import parse, seen_from
from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.sources.fetch import fetch
from lesion.sources.jobs import SourceJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake) as here:
    job = SourceJob.model_validate_json(snakemake.params.job)
    record = Path(snakemake.output.record)
    addresses = [seen_from(here, parse(text)) for text in job.addresses]
    fetch(addresses, record.with_suffix(""), record)
