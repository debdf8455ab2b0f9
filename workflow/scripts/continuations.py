from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.judgements.continuations import write_continuations
from lesion.judgements.jobs import ContinuationsJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    write_continuations(
        ContinuationsJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        pairs=[Path(path) for path in snakemake.input.pairs],
        answers=[Path(path) for path in snakemake.input.answers],
        fluency=Path(snakemake.output.fluency),
        continuations=Path(snakemake.output.continuations),
    )
