from pathlib import Path

from lesion.job import logged

with logged(snakemake.log[0]):
    from lesion.scores.run import Scoring, run

    study = snakemake.params.job["study"]
    run(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.pairs),
        Path(snakemake.output.index).parent,
        study["behaviour"],
        Scoring(**{name: study[name] for name in Scoring._fields}),
    )
