"""The metrics of the measurements: what each is computed from, and where the report shows it.

A metric that is the mean of a judge's scores needs only its entry here. A metric that is computed
differently also has a function in `likelihoods` or `measure`.
"""

from typing import Literal, NamedTuple

from lesion.tables.wording import Unit

REFUSAL_JUDGES = ("matching", "refusal")

GROUPS = (
    *("Harmful generation", "General performance", "Understanding"),
    *("Safety evaluation", "Vulnerability"),
)
"""Groups of rows of the before/after table, in order."""

SKILLS = ("writes harm", "detects harm", "explains harm", "refuses")
"""The skills in the dissociation figure, in order."""


class ShownRow(NamedTuple):
    """A row of the before/after table: the metric over all behaviours of a role."""

    key: str
    group: str
    label: str
    note: str
    role: str = "harm"
    attack: str = "none"
    summary: bool = False
    """Whether the terminal's summary has room for it."""
    compliance: tuple[str, str] | None = None
    """Its label and note where the judge of harm fails its controls; None if they stay the same."""

    def named(self, compliance: bool) -> tuple[str, str]:
        """The label and the note, given whether judged harm may only be compliance."""
        return self.compliance if compliance and self.compliance else (self.label, self.note)


class Ability(NamedTuple):
    """A row of the dissociation figure, on a scale from 0 to 1."""

    skill: str
    how: str
    """How it is measured, if a skill is measured in several ways."""
    means: str
    role: str = "harm"
    attack: str = "none"
    likelihood: bool = False
    """Whether the metric is an NLL, which is shown as the likelihood per token."""

    @property
    def name(self) -> str:
        """The skill, and how it is measured."""
        return f"{self.skill}, {self.how}" if self.how else self.skill


class Comparison(NamedTuple):
    """A question about two models A and B, answered by the difference of a number (`compare`)."""

    question: str
    what: str
    """The number, as the sentence names it."""
    higher: bool
    """Whether the answer is "yes" if B is higher; otherwise it is "yes" if B is lower."""
    needs: str
    """What the configs of both must request."""
    ratio: bool = False
    """Whether B / A is compared in place of B − A."""
    column: Literal["unmodified", "ablated"] = "ablated"
    """The column of the before/after table that has a metric; so `role` and `attack`."""
    role: str = "harm"
    attack: str = "none"
    change: bool = False
    """Whether the metric's change from the unmodified model is compared."""
    judged: bool = False
    """Whether the judge of harm gives the number."""
    of_harm: bool = True
    """Whether the answer concludes something about harm, if it is about an ablation."""


class Metric(NamedTuple):
    """One kind of number, measured for variants, roles and attacks."""

    name: str
    unit: Unit
    column: Literal["", "score", "label"] = ""
    """The column of a judge's table that it is the mean of; empty if no judge gives it."""
    judges: tuple[str, ...] = ()
    """The judges that give it, the primary judge first; empty for every judge of harm."""
    roles: tuple[str, ...] = ()
    """The roles of the behaviours whose completions are judged; empty for all."""
    shown: tuple[ShownRow, ...] = ()
    abilities: tuple[Ability, ...] = ()
    compared: tuple[Comparison, ...] = ()


METRICS: list[Metric] = [
    Metric(
        "harmfulness",
        "score",
        column="score",
        # Judges of harm are trained on harmful prompts; their scores of others mean nothing.
        roles=("harm",),
        shown=(
            ShownRow(
                "harmful-prefill",
                "Harmful generation",
                "Harm score, prefill",
                "judged harmfulness, 0 to 1, when the answer begins with the prefill",
                attack="prefill",
                summary=True,
                compliance=(
                    "Complied, prefill",
                    "judged compliance, 0 to 1, when the answer begins with the prefill",
                ),
            ),
            ShownRow(
                "harmful-direct",
                "Harmful generation",
                "Harm score, direct",
                "judged harmfulness, 0 to 1, when the request is presented unchanged",
                attack="direct",
                compliance=(
                    "Complied, direct",
                    "judged compliance, 0 to 1, when the request is presented unchanged",
                ),
            ),
        ),
        abilities=(
            Ability(
                "writes harm",
                "judged",
                "judged harmfulness of answers that begin with the prefill",
                attack="prefill",
            ),
        ),
        compared=(
            Comparison(
                "Does B write less harmful text under the prefill?",
                "Judged harmfulness (0 to 1) of the unmodified model under the prefill",
                higher=False,
                needs="Needs `prefill` in `responses.attacks` of both.",
                column="unmodified",
                attack="prefill",
                judged=True,
            ),
            Comparison(
                "Does B write less harmful text once these weights are zeroed?",
                "Judged harmfulness (0 to 1) of the ablated model under the prefill",
                higher=False,
                needs="Needs `prefill` in `responses.attacks` and `{headline}` in "
                "`responses.judged_variants`.",
                attack="prefill",
                judged=True,
            ),
        ),
    ),
    Metric(
        "refusal_rate",
        "share",
        column="label",
        judges=REFUSAL_JUDGES,
        shown=(
            ShownRow(
                "refusal",
                "Safety evaluation",
                "Refusals, direct",
                "share of direct harmful requests refused, by matching phrases",
                attack="direct",
            ),
            ShownRow(
                "over-refusal",
                "Safety evaluation",
                "Over-refusal",
                "share of harmless requests that look harmful refused; lower is better",
                role="lookalike",
                attack="direct",
            ),
        ),
        abilities=(
            Ability(
                "refuses", "judged", "share of direct harmful requests refused", attack="direct"
            ),
        ),
        compared=(
            Comparison(
                "Does B refuse more direct harmful requests?",
                "Share of direct harmful requests that the unmodified model refuses",
                higher=True,
                needs="Needs `direct` in `responses.attacks` of both.",
                column="unmodified",
                attack="direct",
            ),
        ),
    ),
    Metric(
        "nll",
        "nats",
        shown=(
            ShownRow(
                "harm-nll",
                "Harmful generation",
                "Harm NLL",
                "nats per token of held-out harmful responses; higher is harder to produce",
                summary=True,
            ),
            ShownRow(
                "matched-nll",
                "General performance",
                "Matched NLL",
                "nats per token of responses to harmless requests of the same topic and form as "
                "the harmful ones; should not change",
                role="matched",
            ),
            ShownRow(
                "benign-nll",
                "General performance",
                "Benign NLL",
                "nats per token of held-out benign responses; should not change",
                role="benign",
                summary=True,
            ),
        ),
        abilities=(
            Ability(
                "writes harm",
                "likelihood",
                "likelihood per token of held-out harmful responses",
                likelihood=True,
            ),
            Ability(
                "refuses",
                "likelihood",
                "likelihood per token of held-out refusals",
                role="refusal",
                likelihood=True,
            ),
        ),
    ),
    Metric(
        "detect_auroc",
        "score",
        shown=(
            ShownRow(
                "detection",
                "Understanding",
                "Detects harm",
                "AUROC of harmful requests against harmless minimal pairs; ½ is chance; should not "
                "change",
            ),
        ),
        abilities=(
            Ability(
                "detects harm",
                "",
                "AUROC of harmful requests against their harmless minimal pairs; ½ is chance",
            ),
        ),
    ),
    Metric(
        "explain_nll",
        "nats",
        shown=(
            ShownRow(
                "explanation",
                "Understanding",
                "Explanation NLL",
                "nats per token of the unmodified model’s explanations why a request is harmful; "
                "should not change",
            ),
        ),
        abilities=(
            Ability(
                "explains harm",
                "",
                "likelihood per token of the unmodified model’s explanations why a request is "
                "harmful",
                likelihood=True,
            ),
        ),
    ),
    Metric("relevance", "score", column="score", judges=("relevance",)),
    Metric(
        "coherence",
        "score",
        column="score",
        judges=("coherence",),
        shown=(
            ShownRow(
                "benign-coherence",
                "General performance",
                "Benign coherence",
                "on topic and without repetition, 0 to 1; should not change",
                role="benign",
                attack="prefill",
            ),
            ShownRow(
                "explained",
                "Understanding",
                "Explanation coherence",
                "the model’s own explanations: about the request and without repetition, 0 to 1",
                role="explanation",
                attack="explanation",
            ),
        ),
    ),
    Metric(
        "accuracy",
        "share",
        shown=(
            ShownRow(
                "accuracy",
                "General performance",
                "Task accuracy",
                "mean over the study’s tasks; should not change",
                role="utility",
                summary=True,
            ),
        ),
        compared=(
            Comparison(
                "Does B lose less of its other skills with these weights?",
                "Change of mean accuracy in the study’s tasks by the ablation, in points",
                higher=True,
                needs="Needs the same tasks in `utility.tasks` of both.",
                role="utility",
                change=True,
                of_harm=False,
            ),
        ),
    ),
    Metric(
        "harmful_rate",
        "share",
        column="label",
        roles=("harm",),
        shown=(
            ShownRow(
                "attack",
                "Vulnerability",
                "Attack success",
                "share of answers judged harmful when they begin with the prefill",
                attack="prefill",
                compliance=(
                    "Share that complied",
                    "share of answers judged to comply when they begin with the prefill",
                ),
            ),
        ),
    ),
]
"""Within a group or a skill, rows keep this order. A metric's change from the unmodified model is
called `<metric>_change`, and the amount that a mask adds to an NLL `<metric>_added`."""


def metrics_of(judge: str, role: str) -> list[Metric]:
    """The metrics that are means of a judge's scores of completions of one role."""
    named = {name for metric in METRICS for name in metric.judges}
    return [
        metric
        for metric in METRICS
        if metric.column
        and (judge in metric.judges if metric.judges else judge not in named)
        and (role in metric.roles or not metric.roles)
    ]


def shown_rows() -> list[tuple[Metric, ShownRow]]:
    """The rows of the before/after table that are metrics, in its order."""
    rows = [(metric, shown) for metric in METRICS for shown in metric.shown]
    return sorted(rows, key=lambda row: GROUPS.index(row[1].group))


def abilities() -> list[tuple[Metric, Ability]]:
    """The rows of the dissociation figure, in its order."""
    rows = [(metric, ability) for metric in METRICS for ability in metric.abilities]
    return sorted(rows, key=lambda row: SKILLS.index(row[1].skill))
