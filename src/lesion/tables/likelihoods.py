"""Rows about likelihood: NLL, what a variant adds to it, divergence from the intact model."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from lesion.tables.intervals import Bootstrap, Estimate, Values
from lesion.tables.rows import INTACT, Place, Row, groups, pairs, row, with_total

ROLES = ("harm", "benign", "refusal")


def likelihood_rows(nll: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """NLL, added NLL and divergence of every variant, and the ratios and shares made of them.

    Args:
        nll: variant, behaviour, role, prompt, nll, kl (nats per token; kl null if not measured).
        boot: the bootstrap.
    """
    for (variant,), table in nll.group_by("variant", maintain_order=True):
        for role in ROLES:
            place = Place(str(variant), role)
            mine = table.filter(role=role)
            whole = nll.filter(variant=INTACT, role=role)
            for name, one in with_total(groups(mine, "nll"), role, boot.mean):
                yield row(place, name, "nll", one)
            # Paired by prompt: prompts differ far more from each other than variants do.
            for name, change in with_total(_added(mine, whole), role, boot.change):
                yield row(place, name, "nll_added", change)
            for name, one in with_total(groups(mine, "kl"), role, boot.mean):
                yield row(place, name, "kl", one)
        if variant != INTACT:
            yield from _ratio(str(variant), table, nll, boot)
    yield from _transfer(nll, boot)


def _added(table: pl.DataFrame, intact: pl.DataFrame) -> dict[str, Values]:
    return {name: one.after - one.before for name, one in pairs(table, intact, "nll").items()}


def _ratio(variant: str, table: pl.DataFrame, nll: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """How many times as much harmful responses lose as benign ones."""
    harm, benign = (
        list(_added(table.filter(role=role), nll.filter(variant=INTACT, role=role)).values())
        for role in ("harm", "benign")
    )
    if harm and benign:
        one = boot.ratio(harm, benign)
        yield row(Place(variant, "harm"), "all-harm", "nll_ratio", one)


def _transfer(nll: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """The share of the own-type effect that reaches other types: one number for the matrix.

    The mean added NLL of every type's mask on every other type, over the mean of every mask on its
    own type; prompts are resampled once for both, since each type's count in both.
    """
    harm = nll.filter(role="harm")
    types = sorted(set(harm["behaviour"]) & set(harm["variant"]))
    if len(types) < 2:
        return
    intact = harm.filter(variant=INTACT)
    added = {mask: _added(harm.filter(variant=mask), intact) for mask in types}
    yield row(
        Place("own-masks", "harm"), "all-harm", "transfer_share", transfer_share(added, types, boot)
    )


def transfer_share(
    added: Mapping[str, Mapping[str, Values]], types: Sequence[str], boot: Bootstrap
) -> Estimate:
    """Mean effect of masks on other types over their mean effect on their own.

    Args:
        added: by mask and harm type, each test prompt's added NLL; the same prompts, in the same
            order, for every mask.
        types: the harm types, each with a mask of its name.
        boot: the bootstrap.
    """
    generator = np.random.default_rng(boot.seed)
    own, other = np.zeros(boot.resamples + 1), np.zeros(boot.resamples + 1)
    for type_ in types:
        size = added[type_][type_].size
        drawn = generator.integers(0, size, (boot.resamples, size))
        for mask in types:
            values = added[mask][type_]
            means = np.append(values[drawn].mean(1), values.mean())
            if mask == type_:
                own += means
            else:
                other += means / (len(types) - 1)
    shares = other / own
    tail = (1 - boot.confidence) / 2
    low, high = np.quantile(shares[:-1], [tail, 1 - tail])
    count = sum(added[type_][type_].size for type_ in types)
    return Estimate(float(shares[-1]), float(low), float(high), count)
