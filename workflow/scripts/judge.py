from pathlib import Path

from lesion.io.logs import logged
from lesion.judgements.contrast import Files, columns_of
from lesion.judgements.run import train_judge
from lesion.sources.fetch import locate
from lesion.sources.jobs import Place

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    contrasts = {
        name: Files(
            locate(Place(**places["source"])),
            locate(Place(**places["elsewhere"])) if "elsewhere" in places else None,
            columns_of(study["contrasts"][name]["settings"]),
        )
        for name, places in snakemake.params.contrasts.items()
    }
    train_judge(
        locate(Place(**snakemake.params.human_scores)),
        locate(Place(**snakemake.params.embedder)),
        Path(snakemake.output.judge),
        Path(snakemake.output.table),
        seed=study["seed"],
        tokens=study["tokens"],
        contrasts=contrasts,
    )
