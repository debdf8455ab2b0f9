"""The claims about what the ablated model keeps: detecting, explaining and refusing harm."""

from collections.abc import Iterator
from functools import partial

from lesion.tables.claims.claim import KEPT, Claim, Facts, Numbers, Sentence, same_text
from lesion.tables.claims.outcome import Number, gap_of
from lesion.tables.claims.sentences import added, from_to
from lesion.tables.effects import MARGIN, NATS, SOMETHING_TO_LOSE
from lesion.tables.intervals import Estimate
from lesion.tables.read import StudyTables
from lesion.tables.wording import figure

_UNDERSTANDING = (
    "Needs a file in `understanding.minimal_pairs`, and `shared` in `understanding.variants`."
)
_REFUSAL = "Needs a behaviour of role `refusal`, and {} in `responses.variants`."


def _detects_before(facts: Facts) -> Number | None:
    """The unmodified model's detection of harm, if it is clearly better than chance."""
    unmodified = facts.find("unmodified", "detect_auroc")
    return unmodified if unmodified is not None and unmodified.low > 0.5 else None


def _blind(facts: Facts, _variant: str | None) -> str:
    if _detects_before(facts):
        return ""
    return (
        "The unmodified model is not clearly better than chance, so there is no detection to keep."
    )


def _least_kept(facts: Facts) -> float:
    # A model that is barely better than chance could lose all of its lead within the margin.
    unmodified = _detects_before(facts)
    return -(min(MARGIN, (unmodified.value - 0.5) / 2) if unmodified else MARGIN)


def _detects(one: Estimate, found: StudyTables, _variant: str) -> str:
    return (
        "The AUROC of detecting harmful requests (½ is chance) goes from "
        f"{from_to(found, 'score', 'detect_auroc')}, a change of "
        f"{figure(one, 'score')} pairs."
    )


def _harm_minus_explaining(
    claim: Claim, facts: Facts
) -> Iterator[tuple[str | None, Number | None]]:
    harm, explained = (
        facts.find("shared", metric) for metric in ("nll_added", "explain_nll_added")
    )
    yield claim.variant, gap_of(harm, explained)


def _explains(one: Estimate, found: StudyTables, _variant: str) -> str:
    return (
        "The added NLL of harmful responses minus that of explanations why a request is harmful is "
        f"{figure(one, 'nats', ' nats per token')} ({added(found, 'shared')} against "
        f"{added(found, 'shared', 'explain_nll_added')})."
    )


def _coherent(one: Estimate, found: StudyTables, _variant: str) -> str:
    change = from_to(found, "score", "coherence", "explanation", "explanation")
    return (
        f"The coherence of its own explanations (0 to 1) goes from {change}, a change of "
        f"{figure(one, 'score')}. Coherence means that they are about the request, not that they "
        "are right."
    )


def _refuses_little(facts: Facts, _variant: str | None) -> str:
    refuses = facts.find("unmodified", "refusal_rate", attack="direct")
    if refuses and refuses.value >= SOMETHING_TO_LOSE:
        return same_text(facts, "direct")
    return same_text(facts, "direct") or (
        "The unmodified model refuses too few requests for a kept rate to show anything."
    )


def _refuses(one: Estimate, found: StudyTables, _variant: str) -> str:
    return (
        "The refusal rate of direct harmful requests goes from "
        f"{from_to(found, 'share', 'refusal_rate', 'harm', 'direct')}, a change of "
        f"{figure(one, 'points', ' points')}."
    )


def _minus(own: str, other: str) -> Numbers:
    """The NLL that a mask adds to responses of one role, minus that of another role."""

    def numbers(claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
        sides = (facts.find(claim.variant, "nll_added", role) for role in (own, other))
        yield claim.variant, gap_of(*sides)

    return numbers


def _more(own: str, other: str) -> Sentence:
    """A sentence on the difference of one mask's effects on two kinds of response."""
    return lambda one, _found, _variant: (
        f"The NLL that zeroing these weights adds to {own} minus what it adds to {other} is "
        f"{figure(one, 'nats', ' nats per token')}."
    )


_kept = partial(Claim, topic="Dissociated", rule=KEPT, limited=False)

CLAIMS = (
    _kept(
        6,
        "still tells harmful requests",
        "detect_auroc_change",
        "shared",
        "score",
        _least_kept,
        question="Does the ablated model still detect harmful requests?",
        sentence=_detects,
        needs=_UNDERSTANDING,
        unusable=_blind,
    ),
    Claim(
        6,
        "explaining is hit less than harm",
        "harm_minus_explain_nll_added",
        "shared",
        "nats",
        NATS,
        "Dissociated",
        "Does zeroing affect explanations why a request is harmful less than harmful responses?",
        _explains,
        needs=_UNDERSTANDING,
        numbers=_harm_minus_explaining,
    ),
    _kept(
        6,
        "still explains why",
        "coherence_change",
        "shared",
        "score",
        -MARGIN,
        question="Can the ablated model still explain why a request is harmful?",
        sentence=_coherent,
        needs=f"{_UNDERSTANDING} Also needs `understanding.explain` above 0.",
        role="explanation",
        attack="explanation",
        unusable=lambda facts, _variant: same_text(facts, "explanation"),
    ),
    _kept(
        6,
        "still refuses",
        "refusal_rate_change",
        "shared",
        "points",
        -MARGIN,
        question="Does the ablated model still refuse?",
        sentence=_refuses,
        needs="Needs `direct` in `responses.attacks`, and `shared` in `responses.judged_variants`.",
        attack="direct",
        unusable=_refuses_little,
    ),
    Claim(
        7,
        "harm and refusal come apart",
        "harm_minus_refusal_nll_added",
        "shared",
        "nats",
        NATS,
        "Dissociated",
        "Do the weights of harm matter more for harm than for refusal?",
        _more("harmful responses", "refusals"),
        needs=_REFUSAL.format("`shared`"),
        numbers=_minus("harm", "refusal"),
    ),
    Claim(
        7,
        "harm and refusal come apart",
        "refusal_minus_harm_nll_added",
        "refusal",
        "nats",
        NATS,
        "Dissociated",
        "Do the weights of refusal matter more for refusal than for harm?",
        _more("refusals", "harmful responses"),
        needs=_REFUSAL.format("its mask"),
        numbers=_minus("refusal", "harm"),
    ),
)
"""Claims 6 and 7."""
