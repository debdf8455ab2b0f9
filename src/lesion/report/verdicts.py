"""The study's questions: each one's answer from the table of claims, and a sentence. Pure.

The thresholds and the reasons are that table's, so that page and table agree.
"""

from collections.abc import Sequence

from lesion.report.estimate import (
    Estimate,
    Unit,
    amount,
    estimate_of,
    find,
    is_clear,
    percent,
    written,
)
from lesion.report.headline import mask_size
from lesion.report.inputs import Inputs
from lesion.report.questions import ANSWERS, RULE, Question, Sentence, verdict
from lesion.report.retrained import retrained_verdicts
from lesion.report.words import Answer, Verdict, figure
from lesion.tables.curve import JUDGED, LIKELIHOOD


def verdicts_of(inputs: Inputs, model: str) -> list[Verdict]:
    """One verdict a question, in the page's order, of one model.

    What nothing was measured for has one too, but for models that were not trained again.

    Args:
        inputs: the study's tables.
        model: its name.
    """
    found = inputs.of(model)
    return [*(verdict(question, found) for question in _QUESTIONS), *retrained_verdicts(found)]


def tally(verdicts: Sequence[Verdict]) -> list[tuple[Answer, int]]:
    """How many questions have which answer, in the order of `Answer`; those that none has are not
    there.
    """
    given = [one.answer for one in verdicts]
    return [(answer, given.count(answer)) for answer in Answer if answer in given]


def _added(found: Inputs, variant: str, behaviour: str) -> str:
    return written(find(found.measurements, variant, behaviour, "nll_added"), "nats")


def _from_to(found: Inputs, unit: Unit, behaviour: str, metric: str, attack: str = "none") -> str:
    """`0.62 [0.57, 0.67] to 0.20 [0.15, 0.25]`, intact and with the shared mask zeroed."""
    intact, shared = (
        written(find(found.measurements, variant, behaviour, metric, attack), unit)
        for variant in ("intact", "shared")
    )
    return f"{intact} to {shared}"


def _halving(one: Estimate, found: Inputs) -> str:
    halves = "halve the likelihood of each token of held-out harmful responses"
    share = figure(one, "share", " of the candidates")
    rows = found.halving.filter(family="shared", measure=LIKELIHOOD).rows(named=True)
    if not rows:
        return f"{share}, {halves}."
    row = rows[0]
    if row["beyond"]:
        _, candidates = mask_size(found.where, "shared")
        part = f" ({percent(row['largest'] / candidates)} of the candidates)" if candidates else ""
        most = f"{amount(row['largest'], 'count')} weights{part}"
        return f"The most that were zeroed, {most}, do not {halves}, n = {one.n}."
    weights = f"{'At most ' if row['below'] else ''}{amount(row['halving'], 'count')}"
    benign = amount(row["benign"], "nats")
    lost = f"benign ones lose {benign} nats per token there"
    return f"{weights} weights, {share}, {halves}; {lost}.{_halved_by_judge(found)}"


def _halved_by_judge(found: Inputs) -> str:
    """The other meaning of half the harm, where answers were judged at each size."""
    rows = found.halving.filter(family="shared", measure=JUDGED).rows(named=True)
    if not rows:
        return ""
    row, half = rows[0], "half as many answers that are judged harmful"
    if row["beyond"]:
        return f" More than {amount(row['largest'], 'count')} would be needed for {half}."
    weights = written(estimate_of({**row, "value": row["halving"]}), "count")
    benign = amount(row["benign"], "nats")
    return f" For {half} it takes {weights}, n = {row['n']}, and benign ones lose {benign}."


def _mask(one: Estimate, found: Inputs) -> str:
    weights, candidates = mask_size(found.where, "shared")
    share = f" ({percent(weights / candidates)})" if candidates else ""
    return (
        f"Zeroing {weights:,} of {candidates:,} candidate weights{share} adds "
        f"{figure(one, 'nats', ' nats per token')}, to the NLL of held-out harmful responses."
    )


def _direction(one: Estimate, found: Inputs) -> str:
    begun = _from_to(found, "score", "all-harm", "harmfulness", "prefill")
    asked = find(found.measurements, "shared", "all-harm", "harmfulness_change", "direct")
    direct = f"; asked directly, it changes by {written(asked, 'score')}" if asked else ""
    return (
        "With the answer begun for the model, judged harmfulness (0 to 1) goes from "
        f"{begun}, a change of {figure(one, 'score')}{direct}."
    )


def _transfer(one: Estimate, found: Inputs) -> str:
    added = found.measurements.filter(metric="nll_added", role="harm")
    types = {*added["variant"]} & {*added["behaviour"]}
    others = added.filter(
        added["variant"].is_in(types) & added["behaviour"].is_in(types),
        added["variant"] != added["behaviour"],
    )
    clear = [
        row
        for row in others.iter_rows(named=True)
        if row["value"] is not None and row["value"] > 0 and is_clear(row, found.confidence)
    ]
    return (
        f"Of what a harm type's own mask does to its own responses, {figure(one, 'share')}, "
        f"reaches the other types. In {len(clear)} of {others.height} cases the effect on another "
        "type is clearly above zero, corrected for their number."
    )


def _apart(one: Estimate, found: Inputs) -> str:
    benign = find(found.measurements, "shared", "all-benign", "nll_added")
    ratio = find(found.measurements, "shared", "all-harm", "nll_ratio")
    # Of nothing there is no multiple.
    told = ratio is not None and benign is not None and benign.above_zero
    times = f", {written(ratio, 'ratio')} as much" if told else ""
    return (
        f"Harmful responses lose {figure(one, 'nats', ' nats per token')}, more than benign ones: "
        f"{_added(found, 'shared', 'all-harm')} against {_added(found, 'shared', 'all-benign')}"
        f"{times}."
    )


def _accuracy(one: Estimate, found: Inputs) -> str:
    return (
        "Mean accuracy in the study's tasks goes from "
        f"{_from_to(found, 'share', 'all-utility', 'accuracy')}: "
        f"{figure(one, 'points', ' points')}."
    )


def _control(one: Estimate, _found: Inputs) -> str:
    return f"As many weights at random do {figure(one, 'share', ' of what the shared mask does')}."


def _detects(one: Estimate, found: Inputs) -> str:
    return (
        "Asked which request is harmful, its AUROC (½ is chance) goes from "
        f"{_from_to(found, 'score', 'all-harm', 'detect_auroc')}, a change of "
        f"{figure(one, 'score')} pairs."
    )


def _explains(one: Estimate, found: Inputs) -> str:
    return (
        f"Harmful responses lose {figure(one, 'nats', ' nats per token')}, more than explanations "
        f"of why a request is harmful ({_added(found, 'shared', 'all-harm')} against "
        f"{written(find(found.measurements, 'shared', 'all-harm', 'explain_nll_added'), 'nats')})."
    )


def _coherent(one: Estimate, found: Inputs) -> str:
    told = _from_to(found, "score", "all-explanation", "coherence", "explanation")
    return (
        f"Coherence of its own explanations (0 to 1) goes from {told}, a change of "
        f"{figure(one, 'score')}. It says whether they are about the request, not whether they "
        "are right."
    )


def _refuses(one: Estimate, found: Inputs) -> str:
    return (
        "Refusals of direct harmful requests go from "
        f"{_from_to(found, 'share', 'all-harm', 'refusal_rate', 'direct')}: "
        f"{figure(one, 'points', ' points')}."
    )


def _more(own: str, other: str) -> Sentence:
    """The difference of what one mask does to two kinds of response."""
    return lambda one, _found: (
        f"Zeroing them costs {own} {figure(one, 'nats', ' nats per token')}, more than {other}."
    )


_UNDERSTANDING = "Needs a file in `understanding.twins`, and `shared` in `understanding.variants`."
_REFUSAL = "Needs a behaviour of role `refusal`, and {} in `responses.variants`."

_QUESTIONS = (
    Question(
        "Compact",
        1,
        "halving_share",
        "shared",
        "Do few weights carry harmful generation?",
        "share",
        _halving,
        "Needs `shared` in `curve.families`.",
        "Up to {} counts as few.",
    ),
    Question(
        "Compact",
        1,
        "nll_added",
        "shared",
        "Does zeroing the shared mask make harmful responses harder?",
        "nats",
        _mask,
        "Needs `shared` in `responses.variants`.",
        RULE,
    ),
    Question(
        "Compact",
        1,
        "harmfulness_change",
        "shared",
        "Does zeroing it lower or raise harmful output?",
        "score",
        _direction,
        "Needs `prefill` in `responses.attacks`, and `shared` in `responses.completed`.",
        RULE,
        opposite=Answer.RAISES,
        answers={**ANSWERS, "supported": Answer.LOWERS},
    ),
    Question(
        "Shared",
        2,
        "transfer_share",
        "own-masks",
        "Do harm types share these weights?",
        "share",
        _transfer,
        "Needs two harm types, and the masks of both in `responses.variants`.",
        "More than {} counts as shared.",
    ),
    Question(
        "Apart",
        3,
        "harm_minus_benign_nll_added",
        "shared",
        "Are they apart from benign use?",
        "nats",
        _apart,
        "Needs benign behaviours, and `shared` in `responses.variants`.",
        RULE,
    ),
    Question(
        "Apart",
        3,
        "accuracy_change",
        "shared",
        "Are other skills kept?",
        "points",
        _accuracy,
        "Needs tasks in `utility.tasks`.",
        "Less than {} lost counts as kept.",
    ),
    Question(
        "Apart",
        3,
        "share_of_effect",
        "random",
        "Does zeroing as many random weights do nothing?",
        "share",
        _control,
        "Needs `random` in `responses.variants`.",
        "Under {} counts as nothing.",
    ),
    Question(
        "Dissociated",
        6,
        "detect_auroc_change",
        "shared",
        "Does the pruned model still tell harmful requests from harmless ones?",
        "score",
        _detects,
        _UNDERSTANDING,
        "Less than {} lost counts as kept.",
    ),
    Question(
        "Dissociated",
        6,
        "harm_minus_explain_nll_added",
        "shared",
        "Does explaining why a request is harmful suffer less than answering it?",
        "nats",
        _explains,
        _UNDERSTANDING,
        RULE,
    ),
    Question(
        "Dissociated",
        6,
        "coherence_change",
        "shared",
        "Can it still explain why a request is harmful?",
        "score",
        _coherent,
        f"{_UNDERSTANDING} And `understanding.explain` above 0.",
        "Less than {} lost counts as kept.",
    ),
    Question(
        "Dissociated",
        6,
        "refusal_rate_change",
        "shared",
        "Does it still refuse?",
        "points",
        _refuses,
        "Needs `direct` in `responses.attacks`, and `shared` in `responses.completed`.",
        "Less than {} lost counts as kept.",
    ),
    Question(
        "Dissociated",
        7,
        "harm_minus_refusal_nll_added",
        "shared",
        "Do harm weights matter more for harm than for refusing?",
        "nats",
        _more("harmful responses", "refusals"),
        _REFUSAL.format("`shared`"),
        RULE,
    ),
    Question(
        "Dissociated",
        7,
        "refusal_minus_harm_nll_added",
        "refusal",
        "Do refusal weights matter more for refusing than for harm?",
        "nats",
        _more("refusals", "harmful responses"),
        _REFUSAL.format("its mask"),
        RULE,
    ),
)
