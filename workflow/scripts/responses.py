from pathlib import Path

from lesion.io.logs import logged
from lesion.responses.ask import Asking, respond_variant
from lesion.responses.attacks import PLACEHOLDER, Attack, read_wording
from lesion.sources.fetch import locate
from lesion.study.job import Device

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    mask = snakemake.input.get("mask")
    wordings = {
        name: read_wording(locate(place)) for name, place in snakemake.params.templates.items()
    }
    attacks = {
        name: Attack(wordings.get(name, PLACEHOLDER), prefill)
        for name, prefill in study["attacks"].items()
    }
    respond_variant(
        Path(snakemake.input.model).parent,
        Path(mask) if mask else None,
        dict(zip(study["roles"], map(Path, snakemake.input.pairs), strict=True)),
        study["roles"],
        Path(snakemake.output.completions),
        Path(snakemake.output.nll),
        study["variant"],
        Asking(
            attacks,
            **{name: study[name] for name in Asking._fields if name not in ("attacks", "device")},
            device=Device(**study["device"]),
        ),
    )
