"""Rows on likelihood: NLL, added NLL, and the divergence from the unmodified model."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from lesion.tables.intervals import Bootstrap, Estimate, Values
from lesion.tables.rows import SHARED, UNMODIFIED, Row, RowKey, groups, pairs, row, with_total

ROLES = ("harm", "benign", "refusal")


def likelihood_rows(nll: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """NLL, added NLL and divergence of every variant, with the ratios and shares of these.

    Args:
        nll: variant, behaviour, role, prompt, nll, kl (nats per token; kl null if not measured).
        boot: the bootstrap.
    """
    paired = _paired(nll)
    for (variant,), table in paired.group_by("variant", maintain_order=True):
        for role in ROLES:
            place = RowKey(str(variant), role)
            mine = table.filter(role=role)
            for name, one in with_total(groups(mine, "nll"), boot.mean):
                yield row(place, name, "nll", one)
            # The unmodified model has no added NLL, and nothing to test.
            added = {} if variant == UNMODIFIED else groups(mine, "added")
            for name, change in with_total(added, boot.change):
                yield row(place, name, "nll_added", change)
            for name, one in with_total(groups(mine, "kl"), boot.mean):
                yield row(place, name, "kl", one)
        if variant != UNMODIFIED:
            yield from _ratio(str(variant), table, boot)
            yield from _share_of_effect(str(variant), paired, boot)
    yield from _transfer(paired, boot)


def _paired(nll: pl.DataFrame) -> pl.DataFrame:
    """The table with `added`, since prompts differ far more from each other than variants do.

    Rows are sorted by prompt, so that a resample uses the same prompts for every variant.
    """
    place = ["role", "behaviour", "prompt"]
    unmodified = nll.filter(variant=UNMODIFIED).select(*place, before="nll")
    both = nll.join(unmodified, on=place, how="left", maintain_order="left")
    return both.select(
        *("variant", *place, "nll", "kl"), added=pl.col("nll") - pl.col("before")
    ).sort(place, maintain_order=True)


def _ratio(variant: str, table: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """The ratio of harmful to benign added NLL, if the benign one is above zero."""
    harm, benign = (
        list(groups(table.filter(role=role), "added").values()) for role in ("harm", "benign")
    )
    if harm and benign and boot.mean(benign).low > 0:
        one = boot.ratio(harm, benign)
        yield row(RowKey(variant, "harm"), None, "nll_ratio", one)


def _share_of_effect(variant: str, paired: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """A variant's added NLL of harmful responses, relative to that of the shared mask."""
    harm = paired.filter(role="harm")
    both = pairs(harm.filter(variant=variant), harm.filter(variant=SHARED), "added")
    if both and variant != SHARED:
        own, shared = [one.after for one in both.values()], [one.before for one in both.values()]
        one = boot.share(own, shared)
        yield row(RowKey(variant, "harm"), None, "share_of_effect", one)


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
    place = RowKey(None, "harm")
    added = {mask: groups(harm.filter(variant=mask), "added") for mask in types}
    yield row(place, None, "nll_added", boot.change([added[one][one] for one in types]))
    yield row(place, None, "transfer_share", transfer_share(added, types, boot))


def transfer_share(
    added: Mapping[str, Mapping[str, Values]], types: Sequence[str], boot: Bootstrap
) -> Estimate:
    """The mean effect of masks on other types, divided by their mean effect on their own types.

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
