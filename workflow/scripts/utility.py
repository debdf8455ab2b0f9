from pathlib import Path

from lesion.io.logs import logged
from lesion.responses.utility import Examining, examine_variant
from lesion.study.job import Device

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    mask = snakemake.input.get("mask")
    examine_variant(
        Path(snakemake.input.model).parent,
        Path(mask) if mask else None,
        Path(snakemake.output[0]),
        study["variant"],
        Examining(
            tasks=study["tasks"],
            folder=Path(study["folder"]),
            limit=study["limit"],
            batch_size=study["batch_size"],
            chat=study["chat"],
            device=Device(**study["device"]),
        ),
    )
