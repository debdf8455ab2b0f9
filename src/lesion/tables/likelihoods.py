"""Rows on likelihood: NLL, added NLL, and the divergence from the unmodified model."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl

from lesion.tables.intervals import Bootstrap, Estimate, Values
from lesion.tables.rows import (
    SHARED,
    UNMODIFIED,
    Row,
    groups,
    measurement_keys,
    pairs,
    row,
    rows_by_behaviour,
)

ROLES = ("harm", "matched", "benign", "refusal")


def likelihood_rows(nll: pl.DataFrame, boot: Bootstrap, mask: str = SHARED) -> Iterator[Row]:
    """NLL, added NLL and divergence of every variant, with the ratios and shares of these.

    Args:
        nll: variant, behaviour, role, prompt, nll, kl (nats per token; kl null if not measured).
        boot: the bootstrap.
        mask: the study's headline mask.
    """
    paired = _paired(nll)
    for (variant,), table in paired.group_by("variant", maintain_order=True):
        for role in ROLES:
            keys, own = measurement_keys(str(variant), role), table.filter(role=role)
            yield from rows_by_behaviour(keys, "nll", groups(own, "nll"), boot.mean)
            if variant != UNMODIFIED:
                yield from rows_by_behaviour(keys, "nll_added", groups(own, "added"), boot.change)
            yield from rows_by_behaviour(keys, "kl", groups(own, "kl"), boot.mean)
        if variant != UNMODIFIED:
            yield from _ratios(str(variant), paired, mask, boot)
    yield from _transfer(paired, boot)


def specificity_rows(nll: pl.DataFrame, matched: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """How much of a variant's effect on harmful answers is missing on matched harmless ones.

    `specificity` is 1 − (NLL added to the answers to matched requests) / (NLL added to those to
    their harmful counterparts), over the pairs of which both were measured. 1: only harmful answers
    lose; 0: harmless ones on the same topics lose as much. `counterpart_nll_added` is what is added
    over these pairs, by role: the numerator and the denominator. Pairs are resampled whole.

    Args:
        nll: as in `likelihood_rows`.
        matched: behaviour, prompt, of (the harm type) and counterpart (the harmful request).
        boot: the bootstrap.
    """
    on = ["variant", "of", "counterpart"]
    added = _paired(nll).select("variant", "behaviour", "prompt", "added").drop_nulls()
    harmful = added.rename({"behaviour": "of", "prompt": "counterpart", "added": "harmful"})
    answered = added.join(matched, on=["behaviour", "prompt"], maintain_order="left")
    both = answered.join(harmful, on=on, maintain_order="left").sort("of", "counterpart")
    both = both.with_columns(behaviour="of")
    types = both.filter(pl.col("variant").is_in(both["of"].unique().implode()))
    # The masks of all harm types on the pairs of the other types: what transfers is to be specific.
    types = types.filter(pl.col("variant") != pl.col("of"))
    of_types = types.group_by("behaviour", "counterpart", maintain_order=True).agg(
        pl.mean("added"), pl.mean("harmful")
    )
    parts: dict[str | None, pl.DataFrame] = {
        str(variant): table
        for (variant,), table in both.group_by("variant", maintain_order=True)
        if variant != UNMODIFIED
    }
    parts |= {None: of_types} if of_types.height else {}
    for variant, table in parts.items():
        keys = measurement_keys(variant, "harm")
        of_harmful, of_matched = groups(table, "harmful"), groups(table, "added")
        yield from rows_by_behaviour(keys, "counterpart_nll_added", of_harmful, boot.change)
        of_pairs = measurement_keys(variant, "matched")
        yield from rows_by_behaviour(of_pairs, "counterpart_nll_added", of_matched, boot.change)
        sides = {name: (of_matched[name], of_harmful[name]) for name in of_harmful}
        yield from rows_by_behaviour(keys, "specificity", sides, partial(_specificity, boot))


def _specificity(boot: Bootstrap, sides: Sequence[tuple[Values, Values]]) -> Estimate:
    """Of pairs of what was added to harmless and to harmful answers, for each harm type."""
    share = boot.share([harmless for harmless, _ in sides], [harmful for _, harmful in sides])
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.n)


def _paired(nll: pl.DataFrame) -> pl.DataFrame:
    """The table with `added`, since prompts differ far more from each other than variants do.

    Rows are sorted by prompt, so that a resample uses the same prompts for every variant.
    """
    on = ["role", "behaviour", "prompt"]
    unmodified = nll.filter(variant=UNMODIFIED).select(*on, before="nll")
    both = nll.join(unmodified, on=on, how="left", maintain_order="left")
    added = pl.col("nll") - pl.col("before")
    return both.select("variant", *on, "nll", "kl", added=added).sort(on, maintain_order=True)


def _ratios(variant: str, paired: pl.DataFrame, mask: str, boot: Bootstrap) -> Iterator[Row]:
    """A variant's added NLL of harmful responses, relative to two others.

    That of benign responses, if it is above zero, and that of the headline mask.
    """
    table, keys = paired.filter(variant=variant), measurement_keys(variant, "harm")
    harm, benign = (
        list(groups(table.filter(role=role), "added").values()) for role in ("harm", "benign")
    )
    if harm and benign and boot.mean(benign).low > 0:
        yield row(keys, "nll_ratio", boot.ratio(harm, benign))
    headline = paired.filter(variant=mask, role="harm")
    both = pairs(table.filter(role="harm"), headline, "added").values()
    if both and variant != mask:
        share = boot.share([paired.after for paired in both], [paired.before for paired in both])
        yield row(keys, "share_of_effect", share)


def _transfer(paired: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """The share of the own-type effect that reaches other types, and that effect itself.

    The share is a single number: the mean added NLL of every type's mask on every other type,
    divided by the mean of every mask on its own type. Prompts are resampled once for both means,
    since each type's prompts occur in both.
    """
    harm = paired.filter(role="harm")
    types = sorted(set(harm["behaviour"]) & set(harm["variant"]))
    if len(types) < 2:
        return
    keys = measurement_keys(None, "harm")
    added = {mask: groups(harm.filter(variant=mask), "added") for mask in types}
    yield row(keys, "nll_added", boot.change([added[type_][type_] for type_ in types]))
    yield row(keys, "transfer_share", transfer_share(added, types, boot))


def transfer_share(
    added: Mapping[str, Mapping[str, Values]], types: Sequence[str], boot: Bootstrap
) -> Estimate:
    """The mean effect of masks on other types, divided by their mean effect on their own types.

    `added` has the added NLL of each type's prompts by mask, in the same order for every mask.
    """
    generator = np.random.default_rng(boot.seed)
    own, other = np.zeros(boot.resamples + 1), np.zeros(boot.resamples + 1)
    for type_ in types:
        size = added[type_][type_].size
        drawn = generator.integers(0, size, (boot.resamples, size))
        for mask in types:
            values = added[mask][type_]
            means = np.append(values.mean(), values[drawn].mean(1))
            if mask == type_:
                own += means
            else:
                other += means / (len(types) - 1)
    return boot.estimate(other / own, sum(added[type_][type_].size for type_ in types))
