from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.pairs.jobs import PairsJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    from lesion.pairs.respond import respond

    respond(
        Path(snakemake.input.prompts),
        Path(snakemake.input.model).parent,
        Path(snakemake.output.pairs),
        PairsJob.model_validate_json(snakemake.params.job),
    )
