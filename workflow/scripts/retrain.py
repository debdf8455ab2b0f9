from pathlib import Path

from lesion.io.logs import logged
from lesion.masks.store import read_mask
from lesion.responses.questions import read_questions
from lesion.sources.fetch import locate

with logged(snakemake.log[0]):
    from lesion.responses.retrain import Arm, Asked, Machine, retrain
    from lesion.training.jobs import SeededRecipe

    study, params = snakemake.params.job["study"], snakemake.params
    masks = dict(zip(params.masks, map(Path, snakemake.input.masks), strict=True))
    own = study["mask"]
    asked = {name: study[name] for name in Asked._fields if name != "questions"}
    retrain(
        Path(snakemake.input.model).parent,
        dict(zip(study["roles"], map(Path, snakemake.input.pairs), strict=True)),
        study["roles"],
        study["taught"],
        Arm(
            name=study["arm"],
            mask=read_mask(masks[own]) if own else None,
            frozen=study["arm"].endswith("-frozen"),
            after={name: read_mask(masks[mask]) for name, mask in study["after"].items()},
        ),
        [SeededRecipe(**study["recipe"], seed=seed) for seed in study["seeds"]],
        Asked(
            **asked,
            questions=read_questions(locate(params.questions)) if params.questions else None,
        ),
        Machine(study["threads"], study["device_map"]),
        Path(snakemake.output.nll),
        Path(snakemake.output.completions),
    )
