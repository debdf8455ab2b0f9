"""Checks across sections: whether the parts of a config fit each other.

A check raises a ValueError whose message names the key and the fix.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from lesion.io.addresses import is_address, parse
from lesion.study.config import Study
from lesion.study.controls import (
    CONTROL_PLUGINS,
    GROWN_MASKS,
    SHARED_MASKS,
    needing_all_scores,
)
from lesion.study.judges import ContrastSection
from lesion.study.plugins import PluginError
from lesion.study.reserved import check_names
from lesion.study.sections import Tail
from lesion.study.sources import uses
from lesion.study.training_checks import check_retraining, check_stages, check_trained
from lesion.study.types import check_known, nearest

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_PATH = re.compile(r"[/\\~$]")
"""Characters that occur in paths, but not in names of sources."""


def check_consistent(study: Study) -> None:
    """Check that names are known and not reserved, and that settings are compatible."""
    for check in (
        _check_roles,
        check_names,
        _check_sources,
        _check_judges,
        _check_masks,
        check_trained,
        check_stages,
        check_retraining,
    ):
        check(study)


def _check_roles(study: Study) -> None:
    for role in ("harm", "benign"):
        if not study.of_role(role):
            raise ValueError(f"`behaviours`: at least one behaviour of role `{role}` is needed")
    matched: dict[str | None, str] = {}
    for name in study.of_role("matched"):
        of = study.behaviours[name].of
        check_known(f"behaviours.{name}.of", "harm type", str(of), study.of_role("harm"))
        if of in matched:
            raise ValueError(
                f"`behaviours.{name}.of`: `{matched[of]}` holds the matched requests of `{of}` "
                "already. Put all of them into one file"
            )
        matched[of] = name
        harm = study.behaviours[str(of)]
        if harm.response is not None or harm.responses is not None:
            key = "response" if harm.response is not None else "responses"
            raise ValueError(
                f"`behaviours.{of}.{key}`: the answers to `{of}` are given and those to its "
                f"matched requests, `{name}`, are the model's own, so that they differ in who "
                f"wrote them, and not in harm alone. Remove `{key}`, or `{name}`"
            )
    harms = len(study.of_role("harm"))
    if study.at_least > harms:
        raise ValueError(
            f"`masks.shared.at_least`: {study.at_least} exceeds the number of harm "
            f"types, {harms}. Lower it, or add behaviours of role `harm`"
        )


def _check_sources(study: Study) -> None:
    for use in uses(study):
        if not is_address(use.text) and use.text not in study.sources:
            path = _PATH.search(use.text) or Path(use.text).exists()
            near = f". A path is written `file:{use.text}`" if path else ""
            if use.reader == "model" and _HUB.fullmatch(use.text) and not Path(use.text).exists():
                near += f", and a model of the hub `hf:{use.text}@main`"
            near = near or nearest(use.text, study.sources)
            raise ValueError(f"`{use.key}`: no source is named `{use.text}`{near}")


def _check_judges(study: Study) -> None:
    for use in uses(study):
        if not use.key.startswith("judgements.judges."):
            continue
        for text in [use.text] if is_address(use.text) else study.sources[use.text]:
            address = parse(text)
            # A branch can change, and other weights would then pass for the same judge.
            if address.kind == "hf" and not _COMMIT.fullmatch(address.version):
                raise ValueError(
                    f"`{use.key}`: `{address.version}` is not a commit of {address.name}. Give the "
                    "40 hexadecimal digits of a commit, so that the judge's weights cannot change"
                )

    _check_primary(study)


def _check_primary(study: Study) -> None:
    """Refuse a judge of harm that learns what the study calls harmful, which it has to test."""
    primary = study.judgements.judges.get(study.judgements.primary)
    if not isinstance(primary, ContrastSection):
        return

    def files(text: str | None) -> set[str]:
        """The addresses of a source; of local files their paths, whatever their spelling."""
        if text is None:
            return set()
        texts = [text] if is_address(text) else study.sources[text]
        return {
            str(Path(name).resolve()) if kind == "file" else f"{kind}:{name}@{version}/{member}"
            for kind, name, version, member, *_ in map(parse, texts)
        }

    learned = files(primary.source)
    for name, behaviour in study.behaviours.items():
        own = files(behaviour.source) | files(behaviour.responses)
        if behaviour.role in ("harm", "matched") and learned & own:
            raise ValueError(
                f"`judgements.primary`: the judge `{study.judgements.primary}` is trained on the "
                f"source of `{name}`, whose labels it has to test: it would tell harmful requests "
                "from matched ones by having seen them. Train it on other prompts, or take another "
                "judge"
            )


def _check_masks(study: Study) -> None:
    for key, names in (
        ("checkpoints", study.checkpoints),
        ("responses.variants", study.variants[1:]),
        ("utility.variants", study.utility.variants or []),
        ("understanding.variants", study.understanding.variants or []),
    ):
        for name in names:
            check_known(key, "mask", name, study.mask_names)
    for name in study.judged_variants:
        if name not in study.variants:
            raise ValueError(
                f"`responses.judged_variants`: `{name}` is not evaluated"
                f"{nearest(name, study.variants)} Add it to `responses.variants`"
            )
    _check_curve(study)
    _check_equal_cost(study)
    _check_tail(study)
    if study.checkpoints and study.responses.ablation != "zero":
        raise ValueError(
            "`checkpoints`: checkpoints have zeros, and `responses.ablation` evaluates other "
            "weights. Set `checkpoints: []`, or `responses.ablation: zero`"
        )
    harms = {*study.of_role("harm"), "shared", "shared-all"}
    for name in study.checkpoints:
        if name not in harms:
            raise ValueError(
                f"`checkpoints`: `{name}` is not a mask of role harm. Checkpoints from which "
                "refusals or skills are pruned are not written; list the mask in "
                "`responses.variants` to evaluate it in memory"
            )


def _check_tail(study: Study) -> None:
    tail = study.scores.tail
    if isinstance(tail, Tail):
        for problem in tail_problems(study, tail):
            raise ValueError(problem)


def needed_tail(study: Study) -> Tail:
    """The largest p and q of the study's masks."""
    masks, curve = study.masks, study.curve
    fractions = [*masks.q, masks.own_q or 0.0]
    if curve.families:
        fractions.append(max(masks.q) * max(curve.sizes))
    if study.equal_cost.masks:
        fractions.append(study.equal_cost.largest)
    return Tail(p=max(masks.p), q=max(fractions))


def tail_problems(study: Study, tail: Tail) -> Iterator[str]:
    """Why truncated scores can't serve a study, with the fix; nothing if its masks are exact."""
    masks, curve, equal = study.masks, study.curve, study.equal_cost
    if max(masks.p) > tail.p or max(*masks.q, masks.own_q or 0) > tail.q:
        yield (
            f"`scores.tail`: serves p up to {tail.p} and q up to {tail.q}, but `masks` needs "
            f"{max(masks.p)} and {max(*masks.q, masks.own_q or 0)}. Raise `scores.tail`"
        )
    if masks.preservation_pooling == "mean" and len(study.of_role("benign")) > 1:
        yield (
            "`scores.tail`: the mean over several capabilities can't be computed from truncated "
            "scores, because it depends on scores that are not stored. Set "
            "`masks.preservation_pooling: max`"
        )
    if study.of_role("matched") and max(masks.contrast) > 0:
        yield (
            "`scores.tail`: a contrast with matched requests can't be computed from truncated "
            "scores, which lack most of theirs. Set `masks.contrast: 0`, or remove `scores.tail`"
        )
    if curve.families and (largest := max(masks.q) * max(curve.sizes)) > tail.q:
        yield (
            f"`curve.sizes`: {max(curve.sizes):g} times q={max(masks.q):g} exceeds the "
            f"truncated scores, which serve q up to {tail.q:g}. Raise `scores.tail.q` to "
            f"{largest:.3g}, or give smaller sizes"
        )
    if equal.masks and equal.largest > tail.q:
        yield (
            f"`equal_cost.largest`: {equal.largest:g} exceeds the truncated scores, "
            f"which serve q up to {tail.q:g}. Lower it, or raise `scores.tail.q`"
        )
    named = {
        "masks.controls": masks.controls,
        "curve.families": curve.families,
        "equal_cost.masks": equal.masks,
    }
    for key, names in named.items():
        if needing := needing_all_scores(names, study.behaviours):
            yield (
                f"`{key}`: the controls {', '.join(needing)} need every score. Remove them, or "
                "remove `scores.tail`"
            )


def _check_mask_or_control(key: str, names: Iterable[str], masks: Collection[str]) -> None:
    """Check that each name is one of the masks, or a control's."""
    for name in names:
        try:
            if name not in masks:
                CONTROL_PLUGINS.check(name, "mask", masks)
        except PluginError as error:
            raise ValueError(f"`{key}`: {error}") from error


def _check_curve(study: Study) -> None:
    curve = study.curve
    _check_mask_or_control("curve.families", curve.families, [*SHARED_MASKS, *study.behaviours])
    if curve.families and max(study.masks.q) * max(curve.sizes) >= 1:
        raise ValueError(
            f"`curve.sizes`: {max(curve.sizes):g} times q={max(study.masks.q):g} is more than all "
            "weights. Give smaller sizes"
        )


def _check_equal_cost(study: Study) -> None:
    masks = study.equal_cost.masks
    if masks and "shared" not in masks:
        raise ValueError("`equal_cost.masks`: add `shared`, with which the others are compared")
    _check_mask_or_control("equal_cost.masks", masks, ["shared", *GROWN_MASKS, *study.behaviours])
