from pathlib import Path

from lesion.io.logs import logged
from lesion.judgements.contrast import Files, contrast_columns
from lesion.judgements.run import train_judge
from lesion.sources.fetch import locate

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    contrasts = {
        name: Files(
            locate(places["source"]),
            locate(places["elsewhere"]) if "elsewhere" in places else None,
            contrast_columns(study["contrasts"][name]["settings"]),
        )
        for name, places in snakemake.params.contrasts.items()
    }
    train_judge(
        locate(snakemake.params.human_scores),
        locate(snakemake.params.embedder),
        Path(snakemake.output.judge),
        Path(snakemake.output.table),
        seed=study["seed"],
        tokens=study["tokens"],
        contrasts=contrasts,
    )
