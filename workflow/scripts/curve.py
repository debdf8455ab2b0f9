from pathlib import Path

from lesion.io.logs import logged
from lesion.responses.curve import Completing, Measuring, respond_family
from lesion.study.job import Device

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    completing, completions = study["completing"], snakemake.output.get("completions")
    respond_family(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.masks),
        dict(zip(study["roles"], map(Path, snakemake.input.pairs), strict=True)),
        study["roles"],
        Path(snakemake.output.nll),
        Path(completions) if completions else None,
        study["family"],
        Measuring(
            pairs=study["pairs"],
            batch_tokens=study["batch_tokens"],
            device=Device(**study["device"]),
            completing=Completing(**completing) if completing else None,
        ),
    )
