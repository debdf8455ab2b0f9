"""What no single key can check: whether a config's parts fit each other."""

from typing import TYPE_CHECKING

from lesion.addresses import AddressError, is_address, parse
from lesion.study.names import BUILT_MASKS, nearest

if TYPE_CHECKING:
    from lesion.study.whole import Study


def check_consistent(study: "Study") -> None:
    """Look whether names are known and free, and settings go together.

    Raises:
        ValueError: they don't; the message names the key and the fix.
    """
    for check in (_check_roles, _check_names, _check_sources, _check_masks):
        check(study)


def _check_roles(study: "Study") -> None:
    for role in ("harm", "benign"):
        if not study.of_role(role):
            raise ValueError(f"`behaviours`: at least one behaviour of role `{role}` is needed")
    harms = len(study.of_role("harm"))
    if study.masks.shared.at_least > harms:
        raise ValueError(
            f"`masks.shared.at_least`: {study.masks.shared.at_least} is more than the {harms} harm "
            "types there are"
        )


def _check_names(study: "Study") -> None:
    for name in study.behaviours:
        if name in (*BUILT_MASKS, "intact"):
            raise ValueError(
                f"`behaviours.{name}`: this name is taken by a built-in mask; rename it"
            )


def _check_sources(study: "Study") -> None:
    used = {f"models.{name}.source": model.source for name, model in study.models.items()}
    used |= {f"behaviours.{name}.source": b.source for name, b in study.behaviours.items()}
    used |= {
        f"behaviours.{name}.responses": b.responses
        for name, b in study.behaviours.items()
        if b.responses is not None
    }
    used["judgements.human_scores"] = study.judgements.human_scores
    used["judgements.embedder"] = study.judgements.embedder
    for key, text in used.items():
        if is_address(text):
            _explained(key, text)
        elif text not in study.sources:
            raise ValueError(f"`{key}`: no source is named `{text}`{nearest(text, study.sources)}")


def _explained(key: str, text: str) -> None:
    try:
        parse(text)
    except AddressError as error:
        raise ValueError(f"`{key}`: {error}") from error


def _check_masks(study: "Study") -> None:
    for key, names in (
        ("checkpoints", study.checkpoints),
        ("responses.variants", study.variants[1:]),
    ):
        for name in names:
            if name not in study.masks_made:
                raise ValueError(
                    f"`{key}`: no mask is named `{name}`{nearest(name, study.masks_made)}"
                )
    _check_tail(study)
    harms = {*study.of_role("harm"), "shared", "shared-all"}
    for name in study.checkpoints:
        if name not in harms:
            raise ValueError(
                f"`checkpoints`: `{name}` is not a mask of role harm. A checkpoint without its "
                "refusals or skills is not written; evaluate it under `responses.variants`"
            )


def _check_tail(study: "Study") -> None:
    tail, masks = study.scores.tail, study.masks
    if tail is None:
        return
    if max(masks.p) > tail.p or max(masks.q) > tail.q:
        raise ValueError(
            f"`scores.tail`: serves p up to {tail.p} and q up to {tail.q}; `masks` asks for "
            f"{max(masks.p)} and {max(masks.q)}. Raise it"
        )
    if masks.pool == "mean" and len(study.of_role("benign")) > 1:
        raise ValueError(
            "`scores.tail`: the mean over several capabilities can't be taken from tails, because "
            "a weight's place in it depends on scores that they lack. Set `masks.pool: max`"
        )
    whole = sorted({"unsigned", "unimportant", "benign-signed"} & set(masks.controls))
    if whole:
        raise ValueError(
            f"`scores.tail`: the controls {', '.join(whole)} need every score. Take them from "
            "`masks.controls`, or leave `scores.tail` out"
        )
