"""The specifications of the jobs that make the tables, with a manifest of their inputs."""

from typing import Any, Literal

from lesion.study.job import Behaviours, Job, Specification
from lesion.study.types import Ablation

InputKind = (
    Literal["record", "losses", "pairs", "sweep", "chosen"]
    | Literal["overlap", "sharing", "where", "concentration", "lines"]
    | Literal["completions", "nll", "explanations", "understanding", "utility"]
    | Literal["curve", "curve-completions", "equal-cost", "retrained"]
    | Literal["judge-scores", "control-scores", "judges", "fluency", "continuation-scores"]
)
"""The content of an input file: the table of that name, a model's record or the chosen (p, q)."""


class TablesInput(Specification):
    """The content of one input file of the tables; keys that do not apply are None."""

    kind: InputKind
    model: str | None
    """None for `judges`, which belong to the study."""
    behaviour: str | None = None
    variant: str | None = None
    family: str | None = None
    experiment: str | None = None
    arm: str | None = None
    judge: str | None = None
    """For scores of judges only; `learned` stands for all offline judges."""


class Origin(Specification):
    """The origin of a model that was trained here."""

    base: str
    """`new` for random weights."""
    method: str
    seed: int


class Experiment(Specification):
    """The narrow domain of a training in memory, and the judge of the open questions."""

    narrow: str | None
    judge: str | None


class Stage(Specification):
    """A stage of training: a model, or several that differ in the seed of their training."""

    name: str
    models: list[str]


class TablesJob(Job):
    """The specification of the job that makes the tables."""

    inputs: list[TablesInput]
    """The content of each input file, in the order of the job's inputs."""
    models: list[str]
    behaviours: Behaviours
    main: str
    """The primary judge of harm."""
    threshold: float
    """Harmfulness from which the learned judge's score counts as harmful."""
    near_duplicate: float
    wordings: list[str]
    """The wordings of prompts, without which they are compared."""
    ablation: Ablation
    """What the weights of evaluated variants were set to."""
    limit: float
    """Added benign NLL, nats per token, at which stages of training are compared."""
    stages: dict[str, list[Stage]]
    """The training stages of each family of models, in their order."""
    trained: dict[str, Origin]
    retraining: dict[str, Experiment]
    resamples: int
    confidence: float
    seed: int

    @property
    def variants(self) -> list[str]:
        """Every variant that is evaluated, `unmodified` first."""
        named = (entry.variant for entry in self.inputs if entry.kind == "completions")
        return list(dict.fromkeys(filter(None, named)))


class StudyJob(Job):
    """The specification of the study's record."""

    config: dict[str, Any]
    """The full validated config, without the keys that only affect the page."""


class ReportJob(Job):
    """How the page is written."""

    examples: int
    """Prompts shown with every variant's answer, for each model."""
