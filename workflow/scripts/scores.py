from pathlib import Path

from lesion.io.logs import logged

with logged(snakemake.log[0]):
    from lesion.scores.memory import Memory
    from lesion.scores.run import Scoring, run
    from lesion.scores.store import Tail

    study = snakemake.params.job["study"]
    run(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.pairs),
        Path(snakemake.output.index).parent,
        study["behaviour"],
        Scoring(
            **{name: study[name] for name in Scoring._fields if name in study}
            | {
                # Not of the params: how often sums are saved leaves them alone.
                "save_minutes": snakemake.config["scores"]["save_minutes"],
                "memory": Memory(**study["memory"]),
                "tail": study["tail"] and Tail(**study["tail"]),
            }
        ),
    )
