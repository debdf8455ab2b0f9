"""What a study takes: jobs, processor time, memory and disk, before anything runs.

The times are those of `lesion.plan.resources`, which were measured on one machine: another one may
take half or twice as long.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from lesion.io.addresses import parse
from lesion.plan import outputs, places
from lesion.plan.resources import (
    LARGE,
    UNKNOWN,
    Size,
    judge_formula,
    mem_mb,
    model_size,
    named_size,
    seconds,
    work,
)
from lesion.study import Study

FORMULAS = {
    "matched_prompts": "prompts",
    "same_pairs": "prompts",
    "control_answers": "prompts",
    "harmless_scores": "signed_scores",
    "refusal_mask": "select_masks",
    "curve_masks": "select_masks",
    "equal_cost": "equal_cost_masks",
    "understanding": "variant_responses",
    "utility": "variant_responses",
    "retrain": "train",
    "card": "compute_tables",
    "study": "compute_tables",
    "report": "compute_tables",
}
"""The formulas of rules that have that of another one; the rules' files say the same."""

MEMORY = {"equal_cost": "curve"}
"""The formulas of the memory of rules whose time has that of another one: measuring masks takes as
long as growing them, and reads no scores."""

_BYTES = 4
"""Of a score, which is stored in fp32, and of its place, which a tail stores beside it."""


class JobNames(NamedTuple):
    """A job: its rule and its wildcards."""

    rule: str
    wildcards: dict[str, str]


class StageCost(NamedTuple):
    """What the jobs of one stage take together."""

    rule: str
    jobs: int
    seconds: float
    """Processor seconds, or those of a GPU if the model is large."""
    memory: int
    """MB of the largest job."""


def every_job(study: Study) -> Iterator[JobNames]:
    """The jobs of a study, done or not."""
    for name in places.sources(study):
        yield JobNames("source", {"name": name})
    for name in study.behaviours:
        matched = name in study.of_role("matched")
        yield JobNames("matched_prompts" if matched else "prompts", {"behaviour": name})
    yield JobNames("train_judge", {})
    for model in study.models:
        for rule, wildcards in _of_model(study, model):
            yield JobNames(rule, {"model": model, **wildcards})
    yield from _judgings(study)
    for rule in ("compute_tables", "study", "report"):
        yield JobNames(rule, {})


def _judgings(study: Study) -> Iterator[JobNames]:
    """The answers that each judge scores: those whose scores the tables read."""
    read = {path for _, path in outputs.tables_inputs(study)}
    for answers in outputs.judged_answers(study):
        for judge in ("learned", *study.judgements.judges):
            if f"judgements/{outputs.judge_scores_path(judge, answers)}" not in read:
                continue
            if judge == "learned":
                yield JobNames("judge_responses", {"answers": answers})
            else:
                yield JobNames("judge_responses_extra", {"answers": answers, "judge": judge})


def _of_model(study: Study, model: str) -> Iterator[tuple[str, dict[str, str]]]:
    yield ("train" if model in study.trained else "model"), {}
    own = study.measured_on(model) == model
    important = outputs.with_importance(study)
    for name in study.behaviours:
        yield ("generate_pairs" if own else "same_pairs"), {"behaviour": name}
        yield ("harmless_scores" if name in important else "signed_scores"), {"behaviour": name}
    yield from ((rule, {}) for rule in ("sweep", "choose", "select_masks", "continuations"))
    if outputs.ablates_refusal(study):
        yield "refusal_mask", {}
    if outputs.judge_controls(study):
        yield "control_answers", {}
    if study.equal_cost_masks:
        yield "equal_cost_masks", {}
        yield "equal_cost", {}
    families = outputs.curve_families(study)
    if families:
        yield "curve_masks", {}
    yield from (("curve", {"family": name}) for name in families)
    yield from (("variant_responses", {"variant": name}) for name in study.variants)
    yield from (("understanding", {"variant": name}) for name in outputs.understood(study))
    yield from (("utility", {"variant": name}) for name in study.utility_variants)
    for name, arm in outputs.retraining_arms(study, model):
        yield "retrain", {"experiment": name, "arm": arm}
    for mask in study.checkpoints:
        yield "checkpoint", {"mask": mask}
        yield "card", {"mask": mask}


def estimates(study: Study) -> list[StageCost]:
    """What each rule's jobs take, in the order in which they run."""
    made: dict[str, StageCost] = {}
    for rule, wildcards in every_job(study):
        name = FORMULAS.get(rule, rule)
        if rule == "judge_responses_extra":
            name = judge_formula(study, wildcards["judge"])
        size = _size(study, wildcards.get("model"))
        took = seconds(name, size, work(study, name, wildcards))
        before = made.get(rule, StageCost(rule, 0, 0.0, 0))
        made[rule] = StageCost(
            rule,
            before.jobs + 1,
            before.seconds + took,
            max(before.memory, mem_mb(study, MEMORY.get(rule, name), size)),
        )
    return list(made.values())


_SECONDS = 5.0
"""The patience with the hub."""


@cache
def hub_size(address: str) -> Size | None:
    """The size of a model of the Hugging Face hub, by its count of the parameters of each dtype.

    All parameters count as candidates, as for the files of a model that is here. None if the hub
    can't be asked, or knows no safetensors of the model.
    """
    from huggingface_hub import HfApi

    place = parse(address)
    if place.kind != "hf":
        return None
    try:
        info = HfApi().model_info(
            place.name, revision=place.version, timeout=_SECONDS, expand=["safetensors"]
        )
    except Exception:  # whatever a proxy or a resolver raises
        return None
    counts: dict[str, int] = info.safetensors.parameters if info.safetensors else {}
    bits = {dtype: int(width[0]) if (width := re.search(r"\d+", dtype)) else 8 for dtype in counts}
    stored = sum(count * bits[dtype] // 8 for dtype, count in counts.items())
    return Size(stored, sum(counts.values())) if stored else None


def _size(study: Study, model: str | None) -> Size:
    """A model's size; of one that is not here yet, what the hub says, or else its name."""
    size = model_size(study, model)
    if model is None or size is not UNKNOWN:
        return size
    asked = (look(address) for look in (hub_size, named_size) for address in _places(study, model))
    return next((size for size in asked if size is not None), UNKNOWN)


def _places(study: Study, model: str) -> list[str]:
    """The addresses of a model, or of the one that it is trained from."""
    while (settings := study.models[model]).base is not None:
        model = settings.base
    assert settings.source is not None
    return places.addresses(study, settings.source)


def on_gpu(study: Study) -> bool:
    """Whether the times are those of a GPU, because a model is large."""
    return any(_size(study, model).candidates > LARGE for model in study.models)


def assumed_sizes(study: Study) -> dict[str, str]:
    """What is assumed of models that have not been fetched, if the hub does not say their size."""
    missing = [model for model in study.models if model_size(study, model) is UNKNOWN]
    assumed = {}
    for model in missing:
        size = _size(study, model)
        if size is UNKNOWN:
            assumed[model] = "a billion weights assumed"
        elif not any(map(hub_size, _places(study, model))):
            assumed[model] = f"{size.candidates / 10**6:,.0f} million weights assumed, by its name"
    return assumed


def disk_bytes(study: Study) -> int:
    """The bytes that the results take at most: scores, prepared models and checkpoints."""
    tail = outputs.score_tail(study)
    # A tail of importance has the p that are preserved, and one of signed scores q more; each score
    # of a tail has its place beside it.
    kept = (0.5, 0.5) if tail is None else (min(tail.p + tail.q, 1.0), min(tail.p, 1.0))
    signed, importance = (2 * _BYTES * share for share in kept)
    scores = len(study.behaviours) * signed + len(outputs.with_importance(study)) * importance
    total = 0.0
    for model in study.models:
        size = _size(study, model)
        total += scores * size.candidates
        total += size.weights * (1 + len(study.checkpoints))
    return int(total)
