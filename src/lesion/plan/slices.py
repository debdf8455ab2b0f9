"""What each job gets of the study; plain dicts with sorted keys."""

from typing import Any

from lesion.pairs.prompts import given_responses
from lesion.plan.places import (
    chat_template,
    contents,
    is_local,
    local_path,
    selection,
    sources,
)
from lesion.study import MIN_PROMPTS, Behaviour, Study


def source_slice(study: Study, name: str) -> dict[str, Any]:
    """What the job that fetches a source gets."""
    return {"addresses": sources(study)[name]}


def prompts_slice(study: Study, name: str) -> dict[str, Any]:
    """What decides a behaviour's prompts and their splits.

    For a local file that is the selected rows' content, so that touching, reformatting, or
    editing rows of another behaviour leaves this one alone.

    Raises:
        LesionError: the file is missing, has no such column, or gives too few prompts.
    """
    behaviour = study.behaviours[name]
    return {
        "behaviour": name,
        "content": contents(study, "prompts", name).get("source"),
        "near_duplicate": study.pairs.near_duplicate,
        "need": MIN_PROMPTS,
        "responses": _given_responses(study, name, behaviour),
        "seed": study.seed,
        "select": selection(behaviour),
        "shares": study.pairs.split.model_dump(),
    }


def _given_responses(study: Study, name: str, behaviour: Behaviour) -> list[str]:
    """Local given responses, so that editing their file is noticed."""
    if behaviour.responses is None or not is_local(study, behaviour.responses):
        return []
    path = local_path(study, behaviour.responses, f"behaviours.{name}.responses")
    return given_responses(path)


def pairs_slice(study: Study, name: str) -> dict[str, Any]:
    """What decides a behaviour's responses."""
    pairs = study.pairs
    return {
        "behaviour": name,
        "device_map": study.device_map,
        "dtype": study.responses.dtype,
        "max_new_tokens": pairs.max_new_tokens,
        "prefill": pairs.prefill,
        "role": study.behaviours[name].role,
        "batch_size": pairs.batch_size,
        "threads": study.threads,
    }


def scores_slice(study: Study, name: str) -> dict[str, Any]:
    """How a behaviour is scored: preservation importance is taken of benign ones."""
    scores, role = study.scores, study.behaviours[name].role
    tail = scores.tail and {**scores.tail.model_dump(), "scope": study.masks.scope}
    return {
        "behaviour": name,
        "batch_tokens": scores.batch_tokens,
        "device_map": study.device_map,
        "dtype": scores.dtype,
        "memory": scores.memory.model_dump(),
        "norms": role != "benign" and wants_norms(study),
        "preservation": scores.preservation if role == "benign" else None,
        "shards": scores.shards,
        "tail": tail,
        "threads": study.threads,
    }


def wants_norms(study: Study) -> bool:
    """Whether scoring notes the inputs' norms: Wanda's control is made of them."""
    return "wanda" in {*study.masks.controls, *study.curve.families}


def _behaviours(study: Study) -> dict[str, list[str]]:
    return {role: study.of_role(role) for role in ("harm", "benign", "refusal")}


def _cut(study: Study) -> dict[str, Any]:
    masks = study.masks
    return {
        "at_least": masks.shared.at_least,
        "pool": masks.pool,
        "rule": masks.rule,
        "scope": masks.scope,
    }


def sweep_slice(study: Study) -> dict[str, Any]:
    """What decides the trials of (p, q)."""
    return {
        "batch_tokens": study.responses.batch_tokens,
        "behaviours": {**_behaviours(study), "refusal": []},
        "cut": _cut(study),
        "device_map": study.device_map,
        "dtype": study.responses.dtype,
        "p": study.masks.p,
        "q": study.masks.q,
        "threads": study.threads,
    }


def masks_slice(study: Study) -> dict[str, Any]:
    """What decides the masks, given the scores and the sweep."""
    return {
        "behaviours": _behaviours(study),
        "controls": study.masks.controls,
        "cut": _cut(study),
        "max_benign_increase": study.masks.max_benign_increase,
        "seed": study.seed,
    }


def checkpoint_slice(study: Study, model: str) -> dict[str, Any]:
    """What decides a checkpoint beside model and mask."""
    return {"base": model, "license": study.models[model].license}


def model_slice(study: Study, model: str) -> dict[str, Any]:
    """What decides a checkpoint folder beside its source.

    Raises:
        StudyError: the file of a chat template is not there.
    """
    one = study.models[model]
    chat = {**one.chat.model_dump(), "text": chat_template(study, model), "date": study.date}
    return {"chat": chat, "dtype": one.dtype, "license": one.license}


def curve_masks_slice(study: Study) -> dict[str, Any]:
    """What decides the masks of every size, given the scores and the sweep."""
    curve = study.curve
    return {
        "behaviours": _behaviours(study),
        "cut": _cut(study),
        "families": curve.families,
        "max_benign_increase": study.masks.max_benign_increase,
        "seed": study.seed,
        "seeds": curve.seeds,
        "sizes": curve.sizes,
    }
