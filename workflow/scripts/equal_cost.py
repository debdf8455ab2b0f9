from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.equal_cost import respond_equal_cost
from lesion.responses.jobs import EqualCostJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    respond_equal_cost(
        EqualCostJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        masks=Path(snakemake.input.masks),
        pairs=[Path(path) for path in snakemake.input.pairs],
        out=Path(snakemake.output.nll),
    )
