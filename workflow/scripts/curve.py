from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.curve import respond_family
from lesion.responses.jobs import CurveJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    completions = snakemake.output.get("completions")
    respond_family(
        CurveJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        masks=Path(snakemake.input.masks),
        pairs=[Path(path) for path in snakemake.input.pairs],
        nll=Path(snakemake.output.nll),
        completions=Path(completions) if completions else None,
    )
