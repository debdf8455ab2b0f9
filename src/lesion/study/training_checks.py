"""Checks of trained models and of fine-tuning in memory.

A check raises a ValueError whose message names the key and the fix.
"""

from collections.abc import Iterable

from lesion.io.addresses import Address, is_address, parse
from lesion.study.config import Study
from lesion.study.training import MixtureComponent
from lesion.study.types import check_known, headline_mask, nearest


def check_trained(study: Study) -> None:
    """Check that every trained model has a known base and a harmless training mixture."""
    if study.pairs.reference_model is not None:
        check_known("pairs.reference_model", "model", study.pairs.reference_model, study.models)
    for name, train in study.trainings.items():
        _check_base(study, name)
        from_scratch = study.models[name].base is None
        for number, component in enumerate(train.mixture):
            key = f"models.{name}.train.mixture.{number}"
            _check_component(study, key, component, from_scratch=from_scratch)
            if train.method == "dpo" and component.source and component.rejected is None:
                raise ValueError(f"`{key}`: DPO needs `rejected`, a column of rejected responses")
        refuses = train.method == "dpo" or any(
            component.answer == "refusal" for component in train.mixture
        )
        if (
            refuses
            and train.refusals is None
            and any(component.behaviours for component in train.mixture)
        ):
            raise ValueError(
                f"`models.{name}.train.refusals`: is missing; give a file with a column `response` "
                "of refusals, such as `file:studies/prompts/refusals.jsonl`"
            )


def _check_base(study: Study, name: str) -> None:
    seen = [name]
    while (base := study.models[seen[-1]].base) is not None:
        check_known(f"models.{seen[-1]}.base", "model", base, study.models)
        if base in seen:
            raise ValueError(
                f"`models.{name}.base`: the bases form a cycle: {' from '.join([*seen, base])}"
            )
        seen.append(base)


def _check_component(
    study: Study, key: str, component: MixtureComponent, *, from_scratch: bool
) -> None:
    for name in component.behaviours:
        check_known(f"{key}.behaviours", "behaviour", name, study.behaviours)
        if study.behaviours[name].role == "harm" and component.answer == "own":
            raise ValueError(
                f"`{key}`: `{name}` is of role harm, and a model trained on its responses is never "
                "written to disk. Set `answer: refusal`, or train in memory (`retraining`)"
            )
        if from_scratch:
            raise ValueError(
                f"`{key}`: a new model has no pairs of its own to train on. Give a `source`"
            )
    harm = [behaviour for behaviour in study.behaviours.values() if behaviour.role == "harm"]
    harmful_sources = [behaviour.source for behaviour in harm if behaviour.response] + [
        behaviour.responses for behaviour in harm
    ]
    if _files(study, [component.source]) & _files(study, harmful_sources):
        raise ValueError(
            f"`{key}.source`: `{component.source}` holds responses of a behaviour of role harm, "
            "and a model trained on them is never written to disk. Train in memory (`retraining`)"
        )


def _files(study: Study, sources: Iterable[str | None]) -> set[Address]:
    """The addresses behind sources, comparable whether given by name or by address, with a digest
    or without.
    """
    return {
        parse(address)._replace(sha256=None, text="")
        for source in sources
        if source is not None
        for address in study.sources.get(source, [source])
        if is_address(address)
    }


def check_stages(study: Study) -> None:
    """Check that the models of training stages have curves and are measured on the same texts."""
    for family, stages in study.training_stages.items():
        names = [name for stage in stages for name in stage]
        for name in names:
            check_known(f"training_stages.{family}", "model", name, study.models)
        mask = headline_mask(study.variants)
        if mask not in study.curve.families:
            raise ValueError(
                f"`training_stages.{family}`: stages are compared by their curves; add `{mask}` to "
                "`curve.families`"
            )
        if len(study.masks.q) > 1:
            raise ValueError(
                f"`training_stages.{family}`: stages are compared at equal sizes; give "
                "`masks.q` a single value"
            )
        have_responses = all(b.response or b.responses for b in study.behaviours.values())
        if len({study.measured_on(name) for name in names}) > 1 and not have_responses:
            raise ValueError(
                f"`training_stages.{family}`: these models are measured on different texts. Give "
                "every behaviour a `response` column, or train the models from one another with "
                "`pairs: base`"
            )


def check_retraining(study: Study) -> None:
    """Check that the arms, models, behaviours and judges of retraining exist."""
    for name, experiment in study.retraining.items():
        key = f"retraining.{name}"
        for arm, mask in experiment.masks.items():
            if mask not in study.mask_names:
                raise ValueError(
                    f"`{key}.arms`: unknown arm `{arm}`; expected `<mask>`, `<mask>-frozen`, "
                    f"`<mask>-only` or `<mask>-after`{nearest(mask, study.mask_names)}"
                )
        for model in experiment.models:
            check_known(f"{key}.models", "model", model, study.models)
        for behaviour in experiment.behaviours:
            check_known(f"{key}.behaviours", "behaviour", behaviour, study.behaviours)
        if experiment.judge is not None:
            check_known(f"{key}.judge", "judge", experiment.judge, study.judgements.judges)
