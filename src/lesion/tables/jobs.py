"""The specifications of the jobs that make the tables, with a manifest of what they read."""

from typing import Any, Literal

from lesion.study.job import Behaviours, Job, Specification

InputKind = (
    Literal["record", "losses", "pairs", "sweep", "chosen"]
    | Literal["overlap", "sharing", "where", "concentration", "lines"]
    | Literal["completions", "nll", "said", "understanding", "utility"]
    | Literal["curve", "curve-completions", "retrained", "verdicts", "judges"]
)
"""What an input file holds: the table of that name, a model's record or the chosen (p, q)."""


class TablesInput(Specification):
    """What one input file of the tables holds, and of whom; what does not apply is None."""

    kind: InputKind
    model: str | None
    """None for `judges`, which are the study's."""
    behaviour: str | None = None
    variant: str | None = None
    family: str | None = None
    experiment: str | None = None
    arm: str | None = None
    judge: str | None = None
    """Of `verdicts`; `learned` stands for all offline judges."""


class Origin(Specification):
    """How a model was made that was trained here."""

    base: str
    """`new` for random weights."""
    method: str
    seed: int


class Experiment(Specification):
    """What was taught in a training in memory, and whose word on the open questions is taken."""

    narrow: str | None
    judge: str | None


class TablesJob(Job):
    """What decides the tables."""

    inputs: list[TablesInput]
    """What each input file is, in the order in which the job gets them."""
    models: list[str]
    behaviours: Behaviours
    main: str
    """The judge whose word on harm is taken where several were asked."""
    threshold: float
    """Harmfulness from which the learned judge's score counts as harmful."""
    near_duplicate: float
    limit: float
    """Added benign NLL, nats per token, at which stages of training are compared."""
    stages: dict[str, list[list[str]]]
    """Families of training stages, each of one model or one a seed."""
    trained: dict[str, Origin]
    retraining: dict[str, Experiment]
    resamples: int
    confidence: float
    seed: int

    @property
    def variants(self) -> list[str]:
        """Every variant that is evaluated, `intact` first."""
        found = (one.variant for one in self.inputs if one.kind == "completions")
        return list(dict.fromkeys(filter(None, found)))


class StudyJob(Job):
    """What is said of the study beside its tables."""

    config: dict[str, Any]
    """The whole validated config, but for what the page alone goes by."""


class ReportJob(Job):
    """How the page is written."""

    examples: int
    """Prompts shown with every variant's answer, for each model."""
