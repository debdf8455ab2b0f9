"""The specification of every rule's jobs, built from the study and the wildcards.

A job is stale exactly when its specification changes, or the content of an input file. Every
builder raises a `LesionError` if a local file that the job reads is missing or unusable.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from lesion.checkpoints.jobs import CardJob, CheckpointJob
from lesion.io.bundle import portable
from lesion.io.formats import digest, sha256_file
from lesion.judgements import kinds
from lesion.judgements.jobs import (
    MEASURED,
    ContinuationsJob,
    ContrastFiles,
    ControlAnswersJob,
    JudgeResponsesExtraJob,
    JudgeResponsesJob,
    TrainJudgeJob,
)
from lesion.models.jobs import ModelJob, ResolvedChat
from lesion.pairs.jobs import MatchedPromptsJob, PairsJob, PromptsJob, RowSelection
from lesion.plan.code import code
from lesion.plan.devices import study_device
from lesion.plan.mask_jobs import (
    behaviours_of,
    choose_job,
    curve_masks_job,
    equal_cost_masks_job,
    masks_job,
    refusal_mask_job,
    sweep_job,
)
from lesion.plan.outputs import (
    applied_after,
    built_attacks,
    evaluated,
    family_stages,
    judge_controls,
    judged_answers,
    nll_behaviours,
    score_tail,
    tables_inputs,
    wants_norms,
    with_importance,
)
from lesion.plan.places import chat_template, copied_content, places, sources, task_contents
from lesion.plan.plugins import plugins_of
from lesion.responses.jobs import (
    AttackWords,
    Completing,
    CurveJob,
    EqualCostJob,
    ResponsesJob,
    RetrainJob,
    UnderstandingJob,
    UtilityJob,
)
from lesion.scores.jobs import Coverage, ScoresJob
from lesion.sources.jobs import SourceJob
from lesion.study import MIN_PROMPTS, Study
from lesion.study.job import Job, specify
from lesion.study.judges import ClassifierSection, ContrastSection
from lesion.study.training import arm_of
from lesion.tables.jobs import Experiment, Origin, ReportJob, StudyJob, TablesJob
from lesion.training.examples import component_columns
from lesion.training.jobs import MixtureComponentJob, SeededRecipe, TrainJob


def job(study: Study, rule: str, wildcards: Mapping[str, str], scripts: Path) -> Job:
    """The specification of one job of a rule in RULES; the code of its script counts as well."""
    made = RULES[rule]
    specification = made.build(study, wildcards)
    script = scripts / f"{made.script or rule}.py"
    digest = code(script, *made.modules, plugins=plugins_of(specification))
    return specification.model_copy(update={"code": digest})


def source_job(study: Study, wildcards: Mapping[str, str]) -> SourceJob:
    """A source to fetch."""
    name = wildcards["name"]
    return SourceJob(addresses=sources(study)[name], content=copied_content(study, name))


def model_job(study: Study, wildcards: Mapping[str, str]) -> ModelJob:
    """A model to prepare."""
    name = wildcards["model"]
    settings = study.models[name]
    text = chat_template(study, name)
    return specify(
        ModelJob,
        settings,
        source=places(study, "model", name)["source"],
        chat=specify(ResolvedChat, settings.chat, text=text, date=study.date),
    )


def train_job(study: Study, wildcards: Mapping[str, str]) -> TrainJob:
    """A model to train, given its base and its training pairs."""
    name = wildcards["model"]
    how = study.trainings[name]
    dpo = how.method == "dpo"
    files = places(study, "train", name)
    mixture = [
        specify(
            MixtureComponentJob,
            component,
            source=files.get(f"mixture.{number}"),
            columns=component_columns(component, dpo=dpo) if component.source else {},
        )
        for number, component in enumerate(how.mixture)
    ]
    return specify(
        TrainJob,
        study.models[name],
        recipe=specify(SeededRecipe, how, seed=how.seeds[0], beta=how.beta if dpo else None),
        mixture=mixture,
        refusals=files.get("refusals"),
        device=study_device(study, "float32"),
    )


def prompts_job(study: Study, wildcards: Mapping[str, str]) -> PromptsJob:
    """A behaviour's prompts and their splits."""
    name = wildcards["behaviour"]
    files = places(study, "prompts", name)
    return specify(
        PromptsJob,
        study.pairs,
        behaviour=name,
        source=files["source"],
        rows=specify(RowSelection, study.behaviours[name]),
        responses=files.get("responses"),
        need=MIN_PROMPTS,
        seed=study.seed,
    )


def matched_prompts_job(study: Study, wildcards: Mapping[str, str]) -> MatchedPromptsJob:
    """The matched requests of a harm type."""
    name = wildcards["behaviour"]
    return specify(
        MatchedPromptsJob,
        study.pairs,
        behaviour=name,
        of=str(study.behaviours[name].of),
        source=places(study, "matched_prompts", name)["source"],
        rows=specify(RowSelection, study.behaviours[name]),
        need=MIN_PROMPTS,
    )


def pairs_job(study: Study, wildcards: Mapping[str, str]) -> PairsJob:
    """A behaviour's responses."""
    name = wildcards["behaviour"]
    role = study.behaviours[name].role
    return specify(PairsJob, study.pairs, behaviour=name, role=role, device=study_device(study))


def scores_job(study: Study, wildcards: Mapping[str, str]) -> ScoresJob:
    """How a behaviour is scored; importance is computed for those that masks use it of."""
    behaviour, how, tail = wildcards["behaviour"], study.scores, score_tail(study)
    important = behaviour in with_importance(study)
    return specify(
        ScoresJob,
        how,
        behaviour=behaviour,
        device=study_device(study, how.dtype),
        norms=not important and wants_norms(study),
        preservation=how.preservation if important else None,
        tail=specify(Coverage, tail, scope=study.masks.scope) if tail else None,
    )


def equal_cost_job(study: Study, wildcards: Mapping[str, str]) -> EqualCostJob:
    """How the masks that cost the same are measured."""
    return EqualCostJob(
        roles=nll_behaviours(study),
        batch_tokens=study.responses.batch_tokens,
        device=study_device(study),
    )


def checkpoint_job(study: Study, wildcards: Mapping[str, str]) -> CheckpointJob:
    """A checkpoint, in addition to its model and its mask."""
    name = wildcards["model"]
    return CheckpointJob(base=name, license=study.models[name].license)


def card_job(study: Study, wildcards: Mapping[str, str]) -> CardJob:
    """A model card, given the tables."""
    return CardJob(model=wildcards["model"], mask=wildcards["mask"])


def responses_job(study: Study, wildcards: Mapping[str, str]) -> ResponsesJob:
    """A variant's responses; without completions only NLL is measured."""
    completes = wildcards["variant"] in study.judged_variants
    return specify(
        ResponsesJob,
        study.responses,
        variant=wildcards["variant"],
        roles=nll_behaviours(study),
        attacks=_attacks(study) if completes else {},
        prefill=study.pairs.prefill,
        benign_prompts=study.responses.benign_prompts if completes else 0,
        device=study_device(study),
    )


def _attacks(study: Study) -> dict[str, AttackWords]:
    """How the attacks of the study present prompts."""
    words = {
        name: AttackWords(
            wording=attack.wording,
            prefill=study.pairs.prefill if attack.prefilled else "",
            own_prefix=study.responses.own_prefix if attack.own_prefix else 0,
            ablated=attack.ablated,
        )
        for name, attack in built_attacks(study).items()
    }
    for name, place in places(study, "variant_responses").items():
        prefill = study.responses.templates[name].prefill
        words[name] = AttackWords(wording=place, prefill=prefill)
    return {name: words[name] for name in study.responses.attacks}


def curve_job(study: Study, wildcards: Mapping[str, str]) -> CurveJob:
    """How the masks of a family are measured at every size."""
    completing = specify(Completing, study.responses, study.curve, prefill=study.pairs.prefill)
    return CurveJob(
        family=wildcards["family"],
        roles=evaluated(study),
        pairs=study.curve.max_pairs,
        batch_tokens=study.responses.batch_tokens,
        completing=completing if study.curve.completions else None,
        device=study_device(study),
    )


def understanding_job(study: Study, wildcards: Mapping[str, str]) -> UnderstandingJob:
    """The size of the understanding test of a variant."""
    return specify(
        UnderstandingJob,
        study.responses,
        study.understanding,
        variant=wildcards["variant"],
        harms=study.of_role("harm"),
        minimal_pairs=places(study, "understanding")["minimal_pairs"],
        device=study_device(study),
    )


def utility_job(study: Study, wildcards: Mapping[str, str]) -> UtilityJob:
    """A task of the study is identified by its content, a task of lm-eval by its name."""
    return specify(
        UtilityJob,
        study.utility,
        variant=wildcards["variant"],
        ablation=study.responses.ablation,
        tasks=task_contents(study),
        device=study_device(study),
    )


_FIXED = {"frozen": "zeroed", "only": "others"}
"""The weights that training leaves as they are, by an arm's ending."""


def retrain_job(study: Study, wildcards: Mapping[str, str]) -> RetrainJob:
    """How a model is trained in one arm of an experiment."""
    name, arm = wildcards["experiment"], wildcards["arm"]
    experiment = study.retraining[name]
    return specify(
        RetrainJob,
        study.responses,
        experiment,
        arm=arm,
        mask=experiment.masks.get(arm),
        fixed=_FIXED.get(arm_of(arm).lesioned or "", "nothing"),
        after=applied_after(study, name, arm),
        trained_on=experiment.behaviours or study.of_role("harm"),
        roles=evaluated(study),
        questions=places(study, "retrain", name).get("questions"),
        prefill=study.pairs.prefill,
        device=study_device(study, "float32"),
    )


def train_judge_job(study: Study, wildcards: Mapping[str, str]) -> TrainJudgeJob:
    """The offline judges, and the judges that are trained on a file of the study."""
    files = places(study, "train_judge")
    contrasts = {
        name: ContrastFiles(
            judge=section, source=files[f"{name}.source"], elsewhere=files.get(f"{name}.elsewhere")
        )
        for name, section in study.judgements.judges.items()
        if isinstance(section, ContrastSection)
    }
    return TrainJudgeJob(
        human_scores=files["human_scores"],
        embedder=files["embedder"],
        contrasts=contrasts,
        seed=study.seed if contrasts else 0,
        tokens=study.responses.max_new_tokens,
        measured=digest({path.name: sha256_file(path) for path in MEASURED.glob("*.parquet")}),
    )


def control_answers_job(study: Study, wildcards: Mapping[str, str]) -> ControlAnswersJob:
    """The behaviours whose pairs the judges of harm are tested on."""
    return ControlAnswersJob(roles=judge_controls(study))


def continuations_job(study: Study, wildcards: Mapping[str, str]) -> ContinuationsJob:
    """The answers whose texts after the prefill are measured: all that are judged together."""
    return ContinuationsJob(
        variants=[variant for variant, _ in judged_answers(study)[wildcards["model"]]],
        benign=study.of_role("benign"),
        batch_tokens=study.responses.batch_tokens,
        device=study_device(study),
    )


def judge_responses_job(study: Study, wildcards: Mapping[str, str]) -> JudgeResponsesJob:
    """The answers that the offline judges score together."""
    return JudgeResponsesJob(
        embedder=places(study, "judge_responses")["embedder"],
        variants=[variant for variant, _ in judged_answers(study)[wildcards["answers"]]],
        threads=study.threads,
    )


def judge_responses_extra_job(study: Study, wildcards: Mapping[str, str]) -> JudgeResponsesExtraJob:
    """The answers that an additional judge scores."""
    name = wildcards["judge"]
    section = study.judgements.judges[name]
    if isinstance(section, ContrastSection):
        # Files that a judge is only evaluated on affect no score.
        section = section.model_copy(update={"elsewhere": None})
    dtype = section.dtype if isinstance(section, ClassifierSection) else "float32"
    return JudgeResponsesExtraJob(
        name=name,
        judge=section,
        places=places(study, "judge_responses_extra", name),
        variants=[variant for variant, _ in judged_answers(study)[wildcards["answers"]]],
        device=study_device(study, dtype),
    )


def tables_job(study: Study, wildcards: Mapping[str, str]) -> TablesJob:
    """The tables, given all measurements."""
    trained = {
        name: Origin(base=study.models[name].base or "new", method=how.method, seed=how.seeds[0])
        for name, how in study.trainings.items()
    }
    return specify(
        TablesJob,
        study.judgements,
        study.tables,
        inputs=[description for description, _ in tables_inputs(study)],
        models=list(study.models),
        behaviours=behaviours_of(study),
        main=study.judgements.primary,
        near_duplicate=study.pairs.near_duplicate,
        wordings=study.pairs.wordings,
        ablation=study.responses.ablation,
        limit=study.masks.max_benign_increase,
        stages=family_stages(study),
        trained=trained,
        retraining={name: specify(Experiment, how) for name, how in study.retraining.items()},
        seed=study.seed,
    )


def study_job(study: Study, wildcards: Mapping[str, str]) -> StudyJob:
    """The config that the page shows and the commands on the tables read."""
    return StudyJob(config=portable(study.model_dump(mode="json", exclude={"report"})))


def report_job(study: Study, wildcards: Mapping[str, str]) -> ReportJob:
    """The page."""
    return specify(ReportJob, study.report)


class Rule(NamedTuple):
    """One rule's builder of specifications, and the modules whose code its jobs run."""

    build: Callable[[Study, Mapping[str, str]], Job]
    """Builds the specification from the study and the wildcards."""
    modules: tuple[str, ...]
    """Entry modules, such as `lesion.scores.run`; their imports from `lesion` are included."""
    script: str | None = None
    """The stem of the script, if several rules share it; None stands for the rule's name."""


RULES = {
    "source": Rule(source_job, ("lesion.sources.fetch",)),
    "model": Rule(model_job, ("lesion.models.prepare",)),
    "train": Rule(train_job, ("lesion.training.run",)),
    "prompts": Rule(prompts_job, ("lesion.pairs.prompts",)),
    "matched_prompts": Rule(matched_prompts_job, ("lesion.pairs.matched",)),
    "generate_pairs": Rule(pairs_job, ("lesion.pairs.respond",)),
    "signed_scores": Rule(scores_job, ("lesion.scores.run",)),
    "harmless_scores": Rule(scores_job, ("lesion.scores.run",), script="signed_scores"),
    "sweep": Rule(sweep_job, ("lesion.masks.sweep", "lesion.masks.validate")),
    "choose": Rule(choose_job, ("lesion.masks.choose",)),
    "select_masks": Rule(masks_job, ("lesion.masks.run",)),
    "refusal_mask": Rule(refusal_mask_job, ("lesion.masks.refusal",)),
    "curve_masks": Rule(curve_masks_job, ("lesion.masks.curve",)),
    "equal_cost_masks": Rule(
        equal_cost_masks_job, ("lesion.masks.equal_cost", "lesion.masks.validate")
    ),
    "equal_cost": Rule(equal_cost_job, ("lesion.responses.equal_cost",)),
    "checkpoint": Rule(checkpoint_job, ("lesion.checkpoints",)),
    "card": Rule(card_job, ("lesion.checkpoints.card", "lesion.report.markdown")),
    "variant_responses": Rule(responses_job, ("lesion.responses.ask",)),
    "curve": Rule(curve_job, ("lesion.responses.curve",)),
    "understanding": Rule(understanding_job, ("lesion.responses.understanding",)),
    "utility": Rule(utility_job, ("lesion.responses.utility",)),
    "retrain": Rule(retrain_job, ("lesion.responses.retrain",)),
    "train_judge": Rule(train_judge_job, ("lesion.judgements.run",)),
    "control_answers": Rule(control_answers_job, ("lesion.judgements.controls",)),
    "continuations": Rule(continuations_job, ("lesion.judgements.continuations",)),
    "judge_responses": Rule(judge_responses_job, ("lesion.judgements.run",)),
    "judge_responses_extra": Rule(
        judge_responses_extra_job, ("lesion.judgements.extra", *kinds.MODULES)
    ),
    "compute_tables": Rule(tables_job, ("lesion.tables.run",)),
    "study": Rule(study_job, ("lesion.tables.run",)),
    "report": Rule(report_job, ("lesion.report.page",)),
}
"""The rules, by their names in the Snakefile."""
