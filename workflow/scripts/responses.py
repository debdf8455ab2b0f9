from pathlib import Path

from lesion.job import logged
from lesion.responses.ask import Asking, respond_variant
from lesion.responses.subject import Device

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    mask = snakemake.input.get("mask")
    respond_variant(
        Path(snakemake.input.model).parent,
        Path(mask) if mask else None,
        dict(zip(study["roles"], map(Path, snakemake.input.pairs), strict=True)),
        study["roles"],
        Path(snakemake.output.completions),
        Path(snakemake.output.nll),
        study["variant"],
        Asking(
            **{name: study[name] for name in Asking._fields if name != "device"},
            device=Device(**study["device"]),
        ),
    )
