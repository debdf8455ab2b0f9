"""What a claim is, and the facts about a model that it is compared with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import polars as pl

from lesion.tables.claims.outcome import Evidence, Number, number_of
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import measurement
from lesion.tables.read import StudyTables
from lesion.tables.rows import BEHAVIOUR
from lesion.tables.wording import Unit

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
    """Facts about a model's shared mask that are not measurements."""

    candidates: int
    """Weights that masks are chosen from."""
    zeroed: int
    """Weights that the mask zeroes."""
    limit_kept: bool = True
    """Whether the mask keeps the limit on benign loss (`lesion.tables.limits`)."""
    same: frozenset[tuple[str, str]] = frozenset()
    """Variants and attacks for which all answers are the same text."""


class Facts(NamedTuple):
    """The facts that claims of one scope are compared with; tables of other scopes are empty."""

    setting: Setting
    measured: pl.DataFrame = pl.DataFrame()
    """A table of MEASUREMENTS of one model."""
    halving: pl.DataFrame = pl.DataFrame()
    """A table of HALVINGS of one model."""
    rows: pl.DataFrame = pl.DataFrame()
    """A table of RETRAINING of one experiment, or a table of STAGES of one family of models."""

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
        # The number of prompts of each behaviour in the total, if it is known.
        return number_of(row, own["n"].to_list() or [row["n"]])


Numbers = Callable[["Claim", Facts], Iterable[tuple[str | None, Number | None]]]
Reason = Callable[[Facts, str | None], str]
"""From the facts and a variant to a reason, as a sentence; empty if there is none."""
Sentence = Callable[[Estimate, StudyTables, str], str]
"""From a claim's number, one model's tables and the variant to the page's sentence."""


def _no_reason(_facts: Facts, _variant: str | None) -> str:
    return ""


def of_total(claim: "Claim", facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    """The measurement with the statistic's name, over all behaviours of the claim's role."""
    yield claim.variant, facts.find(claim.variant, claim.statistic, claim.role, claim.attack)


class Claim(NamedTuple):
    """One number that a claim of the paper rests on: how it is computed, compared and described.

    The name and the question may contain placeholders in braces, which `words` fills in.
    """

    number: int
    """The number of the paper's claim (`lesion.tables.claims.registry.PAPER`)."""
    name: str
    statistic: str
    variant: str | None
    """None if it is about each harm type's own mask, empty if it is about several variants."""
    unit: Unit
    threshold: float | Callable[[Facts], float]
    """The smallest effect that counts."""
    topic: str
    question: str
    sentence: Sentence
    needs: str = ""
    """What the config must request; empty if the page omits the claim when it is not measured."""
    rule: str = EFFECT
    """The rule of comparison, with a placeholder for the threshold."""
    role: str = "harm"
    """The role of the behaviours that a measurement is the mean of."""
    attack: str = "none"
    above: bool = True
    """Whether it is supported above the threshold, or below."""
    limited: bool = True
    """Whether it assumes the limit on benign loss, since general damage would support it too."""
    numbers: Numbers = of_total
    """The numbers of the variants; None for a variant that was not measured."""
    unusable: Reason = _no_reason
    """Why a number is unusable, wherever its interval lies."""
    doubt: Reason = _no_reason
    """Why a number cannot support the claim, although it may refute it."""
    scale: float = 1.0
    """The magnitude of the numbers that it is computed from."""
    scope: Literal["model", "experiment", "family"] = "model"
    supported: Conclusion = Conclusion.YES
    opposite: Conclusion = Conclusion.NO
    """The answer if the effect has the opposite sign and counts."""
    words: Callable[[str | None], Mapping[str, str]] = lambda _variant: {}

    def evidence(self, facts: Facts) -> Iterator[tuple[str | None, Evidence]]:
        """Every variant that was measured, with the evidence that its number gives."""
        limit_lost = self.limited and not facts.setting.limit_kept
        threshold = self.threshold if isinstance(self.threshold, float) else self.threshold(facts)
        for variant, number in self.numbers(self, facts):
            if number is not None:
                doubt = f"{self.doubt(facts, variant)} {LIMIT_LOST if limit_lost else ''}".strip()
                why = self.unusable(facts, variant)
                yield variant, Evidence(number, threshold, self.above, why, doubt, self.scale)

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of CLAIMS belongs to this claim."""
        own = (row["claim"], row["statistic"]) == (self.number, self.statistic)
        if not own or self.variant != "":
            return own and row["variant"] == self.variant
        return bool(row["name"] == self.name.format(**self.words(row["variant"])))


def same_text(facts: Facts, attack: str) -> str:
    """Why answers under an attack are unusable: all answers of a model are the same text."""
    for variant, named in (("unmodified", "unmodified model"), ("shared", "ablated model")):
        if (variant, attack) in facts.setting.same:
            return f"All answers of the {named} are the same text, which counts as one observation."
    return ""


def counts(added: Number | None, smallest: float) -> bool:
    """Whether an added NLL is clearly an effect that counts, of which a share can be taken."""
    return added is not None and added.low > smallest
