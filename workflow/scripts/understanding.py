from pathlib import Path

from lesion.io.logs import logged
from lesion.responses.understanding import Understanding, understand_variant
from lesion.sources.fetch import locate
from lesion.study.job import Device

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    mask, reference = snakemake.input.get("mask"), snakemake.input.get("reference")
    understand_variant(
        Path(snakemake.input.model).parent,
        Path(mask) if mask else None,
        locate(snakemake.params.twins),
        dict(zip(study["harms"], map(Path, snakemake.input.pairs), strict=True)),
        Path(reference) if reference else None,
        Path(snakemake.output.understanding),
        Path(snakemake.output.said),
        study["variant"],
        Understanding(
            **{name: study[name] for name in Understanding._fields if name != "device"},
            device=Device(**study["device"]),
        ),
    )
