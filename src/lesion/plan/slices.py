"""What each job gets of the study; plain dicts with sorted keys."""

from typing import Any

from lesion.plan.outputs import (
    answering_families,
    curve_families,
    retraining_judges,
    understood,
)
from lesion.study import Study


def _behaviours(study: Study) -> dict[str, list[str]]:
    return {role: study.of_role(role) for role in ("harm", "benign", "refusal")}


def tables_slice(study: Study) -> dict[str, Any]:
    """What decides the tables, given everything measured."""
    return {
        "answering": answering_families(study),
        "behaviours": _behaviours(study),
        "confidence": study.tables.confidence,
        "config": study.model_dump(exclude={"report"}),
        "families": curve_families(study),
        "judges": list(study.judgements.judges),
        "near_duplicate": study.pairs.near_duplicate,
        "main": study.judgements.main,
        "limit": study.masks.max_benign_increase,
        "resamples": study.tables.resamples,
        "retraining": {
            name: {
                "arms": one.trained,
                "judge": one.judge,
                "models": study.retrained(name),
                "narrow": one.narrow,
                "verdicts": retraining_judges(study, name),
            }
            for name, one in study.retraining.items()
        },
        "seed": study.seed,
        "stages": study.stages,
        "tasked": study.utility_variants,
        "threshold": study.judgements.threshold,
        "trained": {name: _origin(study, name) for name in study.trained},
        "understood": understood(study),
        "variants": study.variants,
    }


def _origin(study: Study, model: str) -> dict[str, Any]:
    one = study.models[model]
    assert one.train is not None
    return {"base": one.base or "new", "method": one.train.method, "seed": one.train.seeds[0]}
