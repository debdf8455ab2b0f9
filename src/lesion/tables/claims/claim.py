"""What a claim is, and what there is to know of a model that it is compared with."""

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
    "The limit on benign loss was lifted or missed, so the mask may have taken language at large."
)
EFFECT, KEPT = "Less than {} counts as no effect.", "Less than {} lost counts as kept."
"""Rules of claims of an effect, and of claims that something is kept."""


class Conclusion(StrEnum):
    """What the answer to a question comes to."""

    YES = "yes"
    PARTLY = "in part"
    NO = "no"
    UNCLEAR = "can't tell"
    LOWERS = "lowers"
    RAISES = "raises"
    UNMEASURED = "not measured"


class Setting(NamedTuple):
    """What there is to know of a model's shared mask beside the measurements."""

    candidates: int
    """Weights that masks are chosen from."""
    zeroed: int
    """Weights that the mask zeroes."""
    limit_kept: bool = True
    """Whether it keeps a limit on benign loss (`lesion.tables.limits`)."""
    same: frozenset[tuple[str, str]] = frozenset()
    """Variants and attacks whose answers are one and the same text."""


class Facts(NamedTuple):
    """What claims of one scope are compared with; tables of other scopes are empty."""

    setting: Setting
    measured: pl.DataFrame = pl.DataFrame()
    """Of one model: a table of MEASUREMENTS."""
    halving: pl.DataFrame = pl.DataFrame()
    """Of one model: a table of HALVINGS."""
    rows: pl.DataFrame = pl.DataFrame()
    """Of one experiment, a table of RETRAINING; or of one family of models, a table of STAGES."""

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
            own = parts.clear()  # of all pairs together
        else:
            own = parts.filter(variant=variant, metric=metric)
        # Prompts of each behaviour that the total is the mean of, if they are known.
        return number_of(row, own["n"].to_list() or [row["n"]])


Numbers = Callable[["Claim", Facts], Iterable[tuple[str | None, Number | None]]]
Reason = Callable[[Facts, str | None], str]
"""From the facts and a variant to a sentence; empty if there is none."""
Sentence = Callable[[Estimate, StudyTables, str], str]
"""From a claim's number, one model's tables and the variant to what the page says."""


def _no_reason(_facts: Facts, _variant: str | None) -> str:
    return ""


def of_total(claim: "Claim", facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    """The measurement that has the statistic's name, over all behaviours of the claim's role."""
    yield claim.variant, facts.find(claim.variant, claim.statistic, claim.role, claim.attack)


class Claim(NamedTuple):
    """One number that a claim of the paper rests on: how it is found, compared and put in words.

    Name and question may hold words in braces, which are filled in for a variant (`words`).
    """

    number: int
    """Of the paper's claim (`lesion.tables.claims.registry.PAPER`)."""
    name: str
    statistic: str
    variant: str | None
    """Null where each harm type's own mask is looked at, empty where several variants are."""
    unit: Unit
    threshold: float | Callable[[Facts], float]
    """The smallest effect that counts."""
    topic: str
    question: str
    sentence: Sentence
    needs: str = ""
    """What the config has to ask for; empty where nothing is said if nothing was measured."""
    rule: str = EFFECT
    """What the claim needs, with a place for the threshold."""
    role: str = "harm"
    """Of the behaviours that a statistic that is a measurement is the mean of."""
    attack: str = "none"
    above: bool = True
    """Whether it is supported above the threshold, or below."""
    limited: bool = True
    """Whether it rests on the limit on benign loss: damage at large would support it, too."""
    numbers: Numbers = of_total
    """The variants' numbers; None where one was not measured."""
    unusable: Reason = _no_reason
    """Why a number says nothing, wherever its interval lies."""
    doubt: Reason = _no_reason
    """Why it cannot support the claim, though it may speak against it."""
    scale: float = 1.0
    """The size of the numbers that it is made of."""
    scope: Literal["model", "experiment", "family"] = "model"
    supported: Conclusion = Conclusion.YES
    opposite: Conclusion = Conclusion.NO
    """The answer where the effect is the opposite one, and counts."""
    words: Callable[[str | None], Mapping[str, str]] = lambda _variant: {}

    def evidence(self, facts: Facts) -> Iterator[tuple[str | None, Evidence]]:
        """Every variant that was measured, and what its number is compared with."""
        limit_lost = self.limited and not facts.setting.limit_kept
        threshold = self.threshold if isinstance(self.threshold, float) else self.threshold(facts)
        for variant, number in self.numbers(self, facts):
            if number is not None:
                doubt = f"{self.doubt(facts, variant)} {LIMIT_LOST if limit_lost else ''}".strip()
                why = self.unusable(facts, variant)
                yield variant, Evidence(number, threshold, self.above, why, doubt, self.scale)

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of CLAIMS is of this claim."""
        own = (row["claim"], row["statistic"]) == (self.number, self.statistic)
        if not own or self.variant != "":
            return own and row["variant"] == self.variant
        return bool(row["name"] == self.name.format(**self.words(row["variant"])))


def same_text(facts: Facts, attack: str) -> str:
    """Why answers under an attack say nothing: all of a model's are the same text."""
    for variant, named in (("intact", "intact model"), ("shared", "model with the mask zeroed")):
        if (variant, attack) in facts.setting.same:
            return f"All answers of the {named} are one and the same text, which counts once."
    return ""


def counts(added: Number | None, smallest: float) -> bool:
    """Whether an added NLL is surely an effect that counts: there is no share of any other."""
    return added is not None and added.low > smallest
