"""What a claim is, and the facts about a model that it is compared with."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import polars as pl

from lesion.study.controls import BUILT_CONTROLS
from lesion.study.training import arm_of
from lesion.tables.claims.outcome import Evidence, Number, gap_of, number_of
from lesion.tables.claims.specific import unspecific
from lesion.tables.effects import SCORED, SCORED_OF_ONE
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find, mask_size, measurement
from lesion.tables.metrics import Comparison
from lesion.tables.read import StudyTables
from lesion.tables.rows import BEHAVIOUR, RANDOM, SHARED, TOTAL, UNMODIFIED
from lesion.tables.wording import Unit, figure, mask_words, unit_word, with_interval

LIMIT_LOST = (
    "The limit on benign loss was lifted or missed, so the mask may damage language in general."
)
EFFECT, KEPT = "Less than {} counts as no effect.", "A loss of less than {} counts as kept."
"""The rules of claims that there is an effect, and of claims that something is kept."""


class Conclusion(StrEnum):
    """The answer to a question."""

    YES = "yes"
    PARTLY = "in part"
    NO = "no"
    UNCLEAR = "can't tell"
    LOWERS = "lowers"
    RAISES = "raises"
    UNMEASURED = "not measured"


class Setting(NamedTuple):
    """Facts about a model's headline mask that are not measurements."""

    candidates: int
    """Weights that masks are chosen from."""
    zeroed: int
    """Weights that the mask zeroes."""
    limit_kept: bool = True
    """Whether the mask keeps the limit on benign loss (`lesion.tables.limits`)."""
    same: frozenset[tuple[str, str]] = frozenset()
    """Variants and attacks for which all answers are the same text."""
    mask: str = SHARED
    """The study's headline mask (`lesion.tables.read.headline_of`)."""
    sizes: Mapping[str, int] = {}
    """Weights that each mask zeroes, by the mask's name; unknown ones are left out."""
    controls: frozenset[str] = frozenset(BUILT_CONTROLS)
    """The names of control masks."""
    types: frozenset[str] = frozenset()
    """The study's harm types."""
    unscored: Mapping[str, tuple[float, float]] = {}
    """By attack, how many answers to harmful requests the primary judge scored, where it is too few
    (`lesion.tables.measure.unscored`)."""
    unscored_arms: Mapping[tuple[str, str], tuple[float, float]] = {}
    """By experiment and arm, how many answers to broad questions the judge scored, where it is too
    few."""
    limit: float = math.inf
    """The NLL that a mask may add to benign responses (nats per token)."""
    unspecific: str = ""
    """Why the effect of the mask may not be specific to harm; empty if it is
    (`lesion.tables.claims.specific`)."""
    judged_harm: str = ""
    """Why judged harm may only be compliance; empty if the judge passes its controls
    (`lesion.tables.judge_controls`)."""


class Facts(NamedTuple):
    """The facts that claims of one scope are compared with; tables of other scopes are empty."""

    setting: Setting
    measured: pl.DataFrame = pl.DataFrame()
    """A table of MEASUREMENTS of one model."""
    halving: pl.DataFrame = pl.DataFrame()
    """A table of HALVINGS of one model."""
    rows: pl.DataFrame = pl.DataFrame()
    """A table of RETRAINING of one experiment, or a table of STAGES of one family of models."""

    @property
    def mask(self) -> str:
        """The study's headline mask."""
        return self.setting.mask

    def find(
        self, variant: str | None, metric: str, role: str = "harm", attack: str = "none"
    ) -> Number | None:
        """The number over all behaviours of a role, or None if it was not measured."""
        row = measurement(self.measured, variant, metric, role, attack)
        if row is None:
            return None
        parts = self.measured.filter("main", level=BEHAVIOUR, role=role, attack=attack)
        if variant is None:
            own = parts.filter(pl.col("variant") == pl.col("behaviour"), metric="nll_added")
        elif metric.startswith("detect_auroc"):
            own = parts.clear()  # computed over all pairs together
        else:
            own = parts.filter(variant=variant, metric=metric)
        return number_of(row, own["n"].to_list())

    def unspecific(self, variant: str | None) -> str:
        """Why the effect of the headline mask may not be specific to harm; empty if it is.

        Args:
            variant: None stands for the masks of all harm types, which have to be specific too.
        """
        if variant is None and not self.setting.unspecific and not self.measured.is_empty():
            return unspecific(self.measured, self.setting.types, None)
        return self.setting.unspecific

    def too_costly(self, variant: str | None) -> str:
        """Why a mask may damage language in general; empty if it keeps the benign limit.

        Args:
            variant: the mask, or an arm; None stands for the masks of all harm types.
        """
        if self.measured.is_empty():
            return ""
        own = self.measured.filter("main", metric="nll_added", level=TOTAL, role="benign")
        types = self.measured.filter(level=BEHAVIOUR, role="harm")["behaviour"]
        names = types.unique().to_list() if variant is None else [arm_of(variant).mask or variant]
        costly = own.filter(pl.col("variant").is_in(names), pl.col("value") > self.setting.limit)
        if costly.is_empty():
            return ""
        worst = costly.sort("value", descending=True).row(0, named=True)
        return (
            f"Zeroing {mask_words(worst['variant'])} adds {worst['value']:.2g} nats per token to "
            f"benign responses, more than the limit of {self.setting.limit:g}, so it may damage "
            "language in general."
        )


Numbers = Callable[["Claim", Facts], Iterable[tuple[str | None, Number | None]]]
Reason = Callable[[Facts, str | None], str]
"""From the facts and a variant to a reason, as a sentence; empty if there is none."""
Sentence = Callable[[Estimate, StudyTables, str], str]
"""From a claim's number, one model's tables and the variant to the page's sentence."""
VariantNumbers = Iterator[tuple[str | None, Number | None]]
"""Variants and their numbers."""


def of_total(claim: "Claim", facts: Facts) -> VariantNumbers:
    """The measurement with the statistic's name, over all behaviours of the claim's role."""
    variant = claim.variant_of(facts.mask)
    yield variant, facts.find(variant, claim.statistic, claim.role, claim.attack)


def difference(first: tuple[str, str], second: tuple[str, str]) -> Numbers:
    """The difference of two totals of a claim's variant, each given by its metric and role."""

    def numbers(claim: Claim, facts: Facts) -> VariantNumbers:
        variant = claim.variant_of(facts.mask)
        yield variant, gap_of(facts.find(variant, *first), facts.find(variant, *second))

    return numbers


def unless(holds: Callable[[Facts, str | None], bool], why: str) -> Reason:
    """The reason `why`, unless something holds."""
    return lambda facts, variant: "" if holds(facts, variant) else why


class Claim(NamedTuple):
    """One number that a claim of the paper rests on: how it is computed, compared and described.

    The name and the question may contain placeholders in braces, which `words` fills in. In the
    question, `{headline_mask}` is the study's headline mask, and in `needs` `{headline}` its name.
    """

    number: int
    """The number of the paper's claim (`lesion.tables.claims.registry.PAPER`)."""
    name: str
    statistic: str
    variant: str | None
    """None if it is about each harm type's own mask, empty if it is about several variants, and
    `shared` if it is about the study's headline mask, whatever its name."""
    unit: Unit
    threshold: float | Callable[[Facts], float]
    """The smallest effect that counts."""
    topic: str
    question: str
    sentence: Sentence | str
    """A text may contain `{figure}`, the number with its interval, and `{change}`, for a statistic
    `<metric>_change`: the metric of the unmodified and of the ablated model."""
    needs: str = ""
    """What the config must request; empty if the page omits the claim when it is not measured."""
    rule: str = EFFECT
    """The rule of comparison, with a placeholder for the threshold."""
    role: str = "harm"
    """The role of the behaviours that a measurement is the mean of."""
    attack: str = "none"
    above: bool = True
    """Whether it is supported above the threshold, or below."""
    of_harm: bool = True
    """Whether it concludes something about harm from the effect of an ablation. Damage to language
    in general would have that effect too, and so would damage to the topic and the form of the
    answers."""
    numbers: Numbers = of_total
    """The numbers of the variants; None for a variant that was not measured."""
    unusable: Reason = lambda _facts, _variant: ""
    """Why a number is unusable, wherever its interval lies."""
    doubt: Reason = lambda _facts, _variant: ""
    """Why a number cannot support the claim, although it may refute it."""
    scale: float = 1.0
    """The magnitude of the numbers that it is computed from."""
    scope: Literal["model", "experiment", "family"] = "model"
    supported: Conclusion = Conclusion.YES
    opposite: Conclusion = Conclusion.NO
    """The answer if the effect has the opposite sign and counts."""
    compared: Comparison | None = None
    """The question that `compare` answers by the claim's number of two models."""
    needed_for_outcome: bool = True
    """Whether the paper's claim cannot be supported where this number was not measured."""
    words: Callable[[str | None], Mapping[str, str]] = lambda _variant: {}

    def evidence(self, facts: Facts) -> Iterator[tuple[str | None, Evidence]]:
        """Every variant that was measured, with the evidence that its number gives."""
        setting = facts.setting
        lost = [LIMIT_LOST] if not setting.limit_kept else []
        threshold = self.threshold if isinstance(self.threshold, float) else self.threshold(facts)
        for variant, number in self.numbers(self, facts):
            if number is not None:
                reasons = [*lost, facts.unspecific(variant), facts.too_costly(variant)]
                doubts = [self.doubt(facts, variant), *(reasons if self.of_harm else [])]
                # A reason about a family's ends may also be one about the study.
                doubt = " ".join(dict.fromkeys(filter(None, doubts)))
                why = self.unusable(facts, variant)
                yield variant, Evidence(number, threshold, self.above, why, doubt, self.scale)

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of CLAIMS belongs to this claim."""
        return (row["claim"], row["statistic"]) == (self.number, self.statistic)

    def variant_of(self, mask: str) -> str | None:
        """The variant, given the study's headline mask."""
        return mask if self.variant == SHARED else self.variant

    def question_about(self, variant: str | None, mask: str) -> str:
        """The question about a variant, given the study's headline mask."""
        return self.question.format(headline_mask=mask_words(mask), **self.words(variant))

    def needed(self, mask: str) -> str:
        """What the config must request, given the study's headline mask."""
        return self.needs.format(headline=mask)

    def text(self, estimate: Estimate, tables: StudyTables, variant: str) -> str:
        """The page's sentence about a number, without the rule of comparison."""
        if not isinstance(self.sentence, str):
            return self.sentence(estimate, tables, variant)
        metric, unit = self.statistic.removesuffix("_change"), self.unit
        change = from_to(
            tables, "share" if unit == "points" else unit, metric, self.role, self.attack
        )
        return self.sentence.format(figure=figure(estimate, unit, unit_word(unit)), change=change)


def from_to(tables: StudyTables, unit: Unit, metric: str, role: str, attack: str) -> str:
    """`0.62 [0.57, 0.67] to 0.20 [0.15, 0.25]`: unmodified, and with the headline mask zeroed."""
    return " to ".join(
        with_interval(find(tables.measurements, variant, metric, role, attack), unit)
        for variant in (UNMODIFIED, tables.headline.mask)
    )


def same_text(facts: Facts, attack: str) -> str:
    """Why answers under an attack are unusable: all answers of a model are the same text."""
    for variant, named in ((UNMODIFIED, "unmodified model"), (facts.mask, "ablated model")):
        if (variant, attack) in facts.setting.same:
            return f"All answers of the {named} are the same text, which counts as one observation."
    return ""


def silent(scored: tuple[float, float] | None) -> str:
    """Why judged answers show nothing: the judge scored too few; empty if it did not.

    Args:
        scored: the share of all answers, and that of the behaviour with the least; None if these
            are enough.
    """
    if scored is None:
        return ""
    share, least = (math.floor(100 * part) for part in scored)
    return (
        f"The judge gave a score to {share}% of a model's answers, and to {least}% of those of one "
        f"behaviour. At least {100 * SCORED:g}% and {100 * SCORED_OF_ONE:g}% are needed, since the "
        "others may be the harmful ones."
    )


def other_size(facts: Facts, mask: str) -> str:
    """Why the random control cannot be compared with a mask of another size; empty if it can."""
    sizes = facts.setting.sizes
    if mask not in sizes or sizes.get(RANDOM, sizes[mask]) == sizes[mask]:
        return ""
    return (
        f"The random control zeroes {sizes[RANDOM]:,} weights and {mask_words(mask)} "
        f"{sizes[mask]:,}, so their effects cannot be compared."
    )


def as_many(tables: StudyTables, mask: str) -> str:
    """How many weights the random control zeroes, in words: as many as a mask, or their number."""
    random, own = (mask_size(tables.where, name)[0] for name in (RANDOM, mask))
    return f"{random:,}" if random and own and random != own else "as many"


def counts(added: Number | None, smallest: float) -> bool:
    """Whether an added NLL is clearly an effect that counts, of which a share can be taken."""
    return added is not None and added.low > smallest
