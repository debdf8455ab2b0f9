from pathlib import Path

from lesion.io.logs import logged
from lesion.plan import check_prepared
from lesion.sources.fetch import locate
from lesion.sources.jobs import Place
from lesion.study import load_study

with logged(snakemake.log[0]):
    from lesion.training.fit import Recipe
    from lesion.training.run import Given, Making, train

    study, params = snakemake.params.job["study"], snakemake.params
    recipe = study["recipe"]
    lora = recipe.pop("lora")
    beta = recipe.pop("beta")
    base = snakemake.input.get("base")
    folder = Path(snakemake.output.record).parent
    train(
        Given(
            base=Path(base).parent if base else None,
            pairs=dict(zip(params.behaviours, map(Path, snakemake.input.pairs), strict=True)),
            files={part: locate(Place(**place)) for part, place in params.files.items()},
        ),
        folder,
        Making(
            recipe=Recipe(
                **recipe,
                lora=(lora["rank"], lora["alpha"]) if lora else None,
                seed=study["seed"],
                beta=beta if study["method"] == "dpo" else None,
            ),
            lessons=study["lessons"],
            new=study["new"],
            threads=study["threads"],
            device_map=study["device_map"],
            dtype=study["dtype"],
            license_=study["license"],
            # Not of the params, like the q below: how often it is saved leaves the model alone.
            save_minutes=snakemake.config["models"][snakemake.wildcards.model]["train"][
                "save_minutes"
            ],
        ),
    )
    check_prepared(load_study(dict(snakemake.config)), snakemake.wildcards.model)
