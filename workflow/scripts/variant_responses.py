from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.ask import respond_variant
from lesion.responses.jobs import ResponsesJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    mask, ablation = (snakemake.input.get(name) for name in ("mask", "ablation"))
    respond_variant(
        ResponsesJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        mask=Path(mask) if mask else None,
        pairs=[Path(path) for path in snakemake.input.pairs],
        completions=Path(snakemake.output.completions),
        nll=Path(snakemake.output.nll),
        ablation=Path(ablation) if ablation else None,
    )
