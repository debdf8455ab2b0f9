"""The claims about what the ablated model keeps: detecting, explaining and refusing harm."""

from functools import partial

from lesion.tables.claims.claim import (
    KEPT,
    Claim,
    Facts,
    VariantNumbers,
    difference,
    same_text,
    unless,
)
from lesion.tables.claims.outcome import Number, gap_of
from lesion.tables.effects import MARGIN, NATS, SOMETHING_TO_LOSE
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find, refusal_masks
from lesion.tables.read import StudyTables
from lesion.tables.rows import SHARED, UNMODIFIED
from lesion.tables.wording import figure, with_interval

_UNDERSTANDING = (
    "Needs a file in `understanding.minimal_pairs`, and `{headline}` in `understanding.variants`."
)
_REFUSAL = "Needs a behaviour of role `refusal`, and {} in `responses.variants`."


def _more_for_refusal(_claim: Claim, facts: Facts) -> VariantNumbers:
    for mask in refusal_masks(facts.measured):
        refusal, harm = (facts.find(mask, "nll_added", role) for role in ("refusal", "harm"))
        yield mask, gap_of(refusal, harm)


def _detects_before(facts: Facts) -> Number | None:
    """The unmodified model's detection of harm, if it is clearly better than chance."""
    unmodified = facts.find(UNMODIFIED, "detect_auroc")
    return unmodified if unmodified is not None and unmodified.low > 0.5 else None


def _least_kept(facts: Facts) -> float:
    # A model that is barely better than chance could lose all of its lead within the margin.
    unmodified = _detects_before(facts)
    return -(min(MARGIN, (unmodified.value - 0.5) / 2) if unmodified else MARGIN)


def _explains(number: Estimate, tables: StudyTables, _variant: str) -> str:
    metrics = ("nll_added", "explain_nll_added")
    sides = (find(tables.measurements, tables.headline.mask, metric) for metric in metrics)
    return (
        "The added NLL of harmful responses minus that of explanations why a request is harmful is "
        f"{figure(number, 'nats', ' nats per token')} "
        f"({' against '.join(with_interval(side, 'nats') for side in sides)})."
    )


def _refuses_little(facts: Facts, _variant: str | None) -> str:
    why = "The unmodified model refuses too few requests to show that refusal is kept."
    refuses = facts.find(UNMODIFIED, "refusal_rate", attack="direct")
    enough = refuses and refuses.low >= SOMETHING_TO_LOSE
    return same_text(facts, "direct") or ("" if enough else why)


def _explains_little(facts: Facts, _variant: str | None) -> str:
    explains = facts.find(UNMODIFIED, "coherence", "explanation", "explanation")
    why = "Hardly an explanation of the unmodified model is coherent, so there is little to keep."
    enough = explains is None or explains.low >= SOMETHING_TO_LOSE
    return same_text(facts, "explanation") or ("" if enough else why)


_MORE = "The NLL that zeroing these weights adds to {} minus what it adds to {} is {{figure}}."
_kept = partial(Claim, topic="Dissociated", rule=KEPT, of_harm=False)

CLAIMS = (
    _kept(
        6,
        "still tells harmful requests",
        "detect_auroc_change",
        SHARED,
        "score",
        _least_kept,
        question="Does the ablated model still detect harmful requests?",
        sentence="The AUROC of detecting harmful requests (½ is chance) goes from {change}, a "
        "change of {figure} pairs.",
        needs=_UNDERSTANDING,
        unusable=unless(
            lambda facts, _variant: _detects_before(facts) is not None,
            "The unmodified model is not clearly better than chance, so there is no detection to "
            "keep.",
        ),
    ),
    Claim(
        6,
        "explaining is hit less than harm",
        "harm_minus_explain_nll_added",
        SHARED,
        "nats",
        NATS,
        "Dissociated",
        "Does zeroing affect explanations why a request is harmful less than harmful responses?",
        _explains,
        needs=_UNDERSTANDING,
        numbers=difference(("nll_added", "harm"), ("explain_nll_added", "harm")),
    ),
    _kept(
        6,
        "still explains why",
        "coherence_change",
        SHARED,
        "score",
        -MARGIN,
        question="Can the ablated model still explain why a request is harmful?",
        sentence="The coherence of its own explanations (0 to 1) goes from {change}, a change of "
        "{figure}. Coherence means that they are about the request, not that they are right.",
        needs=f"{_UNDERSTANDING} Also needs `understanding.explain` above 0.",
        role="explanation",
        attack="explanation",
        unusable=_explains_little,
    ),
    _kept(
        6,
        "still refuses",
        "refusal_rate_change",
        SHARED,
        "points",
        -MARGIN,
        question="Does the ablated model still refuse?",
        sentence="The refusal rate of direct harmful requests goes from {change}, a change of "
        "{figure}.",
        needs="Needs `direct` in `responses.attacks`, and `{headline}` in "
        "`responses.judged_variants`.",
        attack="direct",
        unusable=_refuses_little,
    ),
    Claim(
        7,
        "harm and refusal come apart",
        "harm_minus_refusal_nll_added",
        SHARED,
        "nats",
        NATS,
        "Dissociated",
        "Do the weights of harm matter more for harm than for refusal?",
        _MORE.format("harmful responses", "refusals"),
        needs=_REFUSAL.format("`{headline}`"),
        numbers=difference(("nll_added", "harm"), ("nll_added", "refusal")),
    ),
    Claim(
        7,
        "harm and refusal come apart",
        "refusal_minus_harm_nll_added",
        "",
        "nats",
        NATS,
        "Dissociated",
        "Do the weights of refusal matter more for refusal than for harm?",
        _MORE.format("refusals", "harmful responses"),
        needs=_REFUSAL.format("its mask"),
        numbers=_more_for_refusal,
    ),
)
"""Claims 6 and 7."""
