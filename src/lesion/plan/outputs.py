"""A study's outputs: the variants, mask families and trainings to measure, and their judges."""

from pathlib import Path
from typing import get_args

from lesion.masks.controls import needing_norms
from lesion.masks.refusal import REFUSAL_MASK
from lesion.plan.places import sources
from lesion.report.figures.names import Measured, Named, study_figures
from lesion.responses.attacks import BuiltAttack, built_attack
from lesion.scores.shards import index_name
from lesion.study import Role, Study
from lesion.study.checks import needed_tail, tail_problems
from lesion.study.sections import Tail
from lesion.study.training import arm_of, of_seed
from lesion.study.types import HARMLESS
from lesion.tables import OF_MASKS
from lesion.tables.jobs import Stage, TablesInput


def evaluated(study: Study) -> dict[str, Role]:
    """The behaviours on whose test prompts variants are evaluated, with roles, harm first."""
    roles: tuple[Role, ...] = ("harm", "benign")
    return {name: role for role in roles for name in study.of_role(role)}


def nll_behaviours(study: Study) -> dict[str, Role]:
    """The behaviours on whose test pairs NLL is measured, with roles: all of them."""
    roles: tuple[Role, ...] = ("refusal", "matched")
    return evaluated(study) | {name: role for role in roles for name in study.of_role(role)}


def curve_families(study: Study) -> list[str]:
    """The families measured at every size, with `unmodified` first; none if curves are off."""
    return ["unmodified", *study.curve.families] if study.curve.families else []


def answering_families(study: Study) -> list[str]:
    """The families whose masks are also used to complete harmful prompts."""
    return study.curve.families if study.curve.completions else []


def judged_sizes(study: Study) -> bool:
    """Whether answers at every mask size can be compared with the unmodified model's."""
    return bool(answering_families(study)) and "prefill" in study.responses.attacks


def understood(study: Study) -> list[str]:
    """The variants whose understanding is tested, `unmodified` first; none if that is off."""
    chosen = study.understanding.variants
    if study.understanding.minimal_pairs is None:
        return []
    return study.variants if chosen is None else ["unmodified", *chosen]


def retraining_arms(study: Study, model: str) -> list[tuple[str, str]]:
    """Every training of a model in memory: experiment and arm."""
    return [
        (name, arm)
        for name, experiment in study.retraining.items()
        if model in study.retrained(name)
        for arm in experiment.trained
    ]


def retraining_judges(study: Study, experiment: str) -> list[str]:
    """The judges of a model's answers in an experiment; `learned` stands for the offline judges."""
    settings, main = study.retraining[experiment], study.judgements.primary
    judges = {main} if settings.prompts else set()
    judges |= {settings.judge} if settings.questions and settings.judge else set()
    return sorted(judges)


def applied_after(study: Study, experiment: str, arm: str) -> dict[str, str]:
    """The arms that apply a mask after this arm's training, with the mask of each."""
    masks = study.retraining[experiment].masks if arm == "unmodified" else {}
    return {name: mask for name, mask in masks.items() if arm_of(name).lesioned == "after"}


CONTROL_ANSWERS = "control-answers"
"""The name of the answers that the judges of harm are tested on."""


CONTINUATIONS = "continuations"
"""The name of the answers under a prefill that are judged once more, without it."""


CARD = "README.md"
"""The file name of a checkpoint's model card."""


def judge_controls(study: Study) -> dict[str, Role]:
    """The behaviours whose pairs the judges of harm are tested on, with roles.

    Empty if the study has no matched requests.
    """
    matched: dict[str, Role] = dict.fromkeys(study.of_role("matched"), "matched")
    return evaluated(study) | matched if matched else {}


def judged_answers(study: Study) -> dict[str, list[tuple[str | None, str]]]:
    """Answers that are judged together, by the path of their scores below `judgements`.

    Each entry is a variant and its table of completions below `responses`. The variant is None if
    the completions name it themselves, as with masks of several sizes and models in training.
    """
    variants = [
        *((variant, f"{variant}/completions") for variant in study.judged_variants),
        *((variant, f"{variant}/explanations") for variant in understood(study)),
        *((None, f"curve/{family}-completions") for family in answering_families(study)),
    ]
    answers: dict[str, list[tuple[str | None, str]]] = {}
    for model in study.models:
        answers[model] = [(variant, f"{model}/{place}.parquet") for variant, place in variants]
        answers[f"{model}/{CONTINUATIONS}"] = [(None, f"{model}/{CONTINUATIONS}.parquet")]
        if judge_controls(study):
            answers[f"{model}/{CONTROL_ANSWERS}"] = [(None, f"{model}/{CONTROL_ANSWERS}.parquet")]
        for experiment, arm in retraining_arms(study, model):
            place = f"{model}/retraining/{experiment}/{arm}"
            answers[place] = [(None, f"{place}-completions.parquet")]
    return answers


def judge_scores_path(judge: str, answers: str) -> str:
    """The path below `judgements` of a judge's scores of answers that are judged together."""
    return f"{answers}.parquet" if judge == "learned" else f"{answers}/{judge}.parquet"


def figures(study: Study) -> list[Named]:
    """Every figure of the study."""
    measured = Measured(
        variants=study.variants,
        families=curve_families(study),
        judged=judged_sizes(study),
        equal_cost=bool(study.equal_cost_masks),
    )
    experiments = {
        name: (study.retrained(name), experiment.questions is not None)
        for name, experiment in study.retraining.items()
    }
    return study_figures(
        list(study.models), measured, experiments, list(study.training_stages), study.trained
    )


def family_stages(study: Study) -> dict[str, list[Stage]]:
    """The training stages of each family of models, with their names."""
    return {
        family: [_stage(study, models) for models in of_family]
        for family, of_family in study.training_stages.items()
    }


def _stage(study: Study, models: list[str]) -> Stage:
    """A stage; models that differ only in their seed have the name that the config gave them all.

    The study has a model for each seed (`lesion.study.load`), named by `of_seed`.
    """
    if len(models) == 1:
        return Stage(name=models[0], models=models)
    trained = {name: how for name in models if (how := study.models[name].train) is not None}
    endings = {name: of_seed("", how.seeds[0]) for name, how in trained.items()}
    names = {name.removesuffix(endings.get(name, "")) for name in models}
    return Stage(name=", ".join(sorted(names)), models=models)


def tables_inputs(study: Study) -> list[tuple[TablesInput, str]]:
    """Every input of the tables: its description, and its path in the results."""
    inputs: list[tuple[TablesInput, str]] = []

    def add(kind: str, path: str, model: str | None, **of: str) -> None:
        inputs.append((TablesInput.model_validate({"kind": kind, "model": model, **of}), path))

    add("judges", "judgements/judges.parquet", None)
    for model in study.models:
        add("record", f"models/{model}/lesion.json", model)
        if model in study.trained:
            add("losses", f"models/{model}/training.parquet", model)
        for name in (name for role in get_args(Role) for name in study.of_role(role)):
            add("pairs", f"pairs/{model}/{name}.parquet", model, behaviour=name)
        add("sweep", f"masks/{model}/sweep.parquet", model)
        add("chosen", f"masks/{model}/chosen.json", model)
        for table in OF_MASKS:
            add(table, f"masks/{model}/{table}.parquet", model)
        of_variants = {
            "completions": study.variants,
            "nll": study.variants,
            "explanations": understood(study),
            "understanding": understood(study),
            "utility": study.utility_variants,
        }
        for kind, variants in of_variants.items():
            for variant in variants:
                path = f"responses/{model}/{variant}/{kind}.parquet"
                add(kind, path, model, variant=variant)
        for family in curve_families(study):
            add("curve", f"responses/{model}/curve/{family}.parquet", model, family=family)
        for family in answering_families(study):
            path = f"responses/{model}/curve/{family}-completions.parquet"
            add("curve-completions", path, model, family=family)
        if study.equal_cost_masks:
            add("equal-cost", f"responses/{model}/equal-cost.parquet", model)
        for judge in ("learned", *study.judgements.judges):
            add("judge-scores", f"judgements/{judge_scores_path(judge, model)}", model, judge=judge)
        add("fluency", f"responses/{model}/fluency.parquet", model)
        for judge in dict.fromkeys(("learned", study.judgements.primary)):
            place = judge_scores_path(judge, f"{model}/{CONTINUATIONS}")
            add("continuation-scores", f"judgements/{place}", model, judge=judge)
            if judge_controls(study):
                place = judge_scores_path(judge, f"{model}/{CONTROL_ANSWERS}")
                add("control-scores", f"judgements/{place}", model, judge=judge)
        for experiment, arm in retraining_arms(study, model):
            place, of = f"{model}/retraining/{experiment}/{arm}", {"experiment": experiment}
            add("retrained", f"responses/{place}.parquet", model, arm=arm, **of)
            for judge in retraining_judges(study, experiment):
                path = f"judgements/{judge_scores_path(judge, place)}"
                add("judge-scores", path, model, judge=judge, arm=arm, **of)
    return inputs


def of_every_job(study: Study) -> list[str]:
    """A file of every job, by its place in the results, so that a failed job is noticed.

    Snakemake removes the outputs of a job that fails. It makes an intermediate file again only if
    a target asks for it: otherwise the jobs that read the file would count as up to date.
    """
    prompts = [f"pairs/prompts/{name}.parquet" for name in study.behaviours]
    fetched = [f"sources/{name}.json" for name in sources(study)]
    scores = [
        f"scores/{model}/{name}/{index_name('snip')}"
        for model in study.models
        for name in study.behaviours
    ]
    curves = study.models if study.curve.families else ()
    masks = [f"masks/{model}/curve.parquet" for model in curves]
    equal = study.models if study.equal_cost_masks else ()
    masks += [f"masks/{model}/equal-cost.parquet" for model in equal]
    if ablates_refusal(study):
        masks += [f"masks/{model}/{REFUSAL_MASK}.safetensors" for model in study.models]
    tested = study.models if judge_controls(study) else ()
    answers = [f"responses/{model}/{CONTROL_ANSWERS}.parquet" for model in tested]
    pruned = [
        f"checkpoints/{model}/{mask}/{name}"
        for model in study.models
        for mask in study.checkpoints
        for name in ("lesion.json", CARD)
    ]
    measured = [path for _, path in tables_inputs(study)]
    tables = [f"tables/{name}.json" for name in ("models", "study")]
    return [*fetched, *prompts, *scores, *masks, *answers, *pruned, *measured, *tables]


def built_attacks(study: Study) -> dict[str, BuiltAttack]:
    """The attacks of the study that need no template, by their names."""
    names = (name for name in study.responses.attacks if name not in study.responses.templates)
    return {name: built_attack(name) for name in names}


def of_stage(study: Study, stage: str) -> list[str]:
    """A file of every job of a stage (a folder of the results) by its place in the results.

    Model cards are left out: they report the tables, and checkpoints do not wait for these.
    """
    of_jobs = of_every_job(study)
    return [path for path in of_jobs if path.startswith(f"{stage}/") and Path(path).name != CARD]


def ablates_refusal(study: Study) -> bool:
    """Whether an attack zeroes the weights of refusal."""
    return any(attack.ablated for attack in built_attacks(study).values())


def score_tail(study: Study) -> Tail | None:
    """The truncated scores that a study stores; None if it stores all.

    `scores.tail: auto` is what its own masks need, if that is exact, and smaller than all.
    """
    tail = study.scores.tail
    if tail != "auto":
        return tail
    needed = needed_tail(study)
    if ablates_refusal(study):
        own = study.responses.refusal_ablation
        if own.scope != study.masks.scope:
            return None
        signed, unsigned = (own.q, 0.0) if own.signed else (0.0, own.q)
        needed = Tail(p=max(needed.p, own.p, unsigned), q=max(needed.q, signed))
    # A stored score has its place beside it, and takes twice the bytes.
    smaller = 2 * (needed.p + needed.q) < 1
    return None if not smaller or any(tail_problems(study, needed)) else needed


def with_importance(study: Study) -> list[str]:
    """The behaviours whose importance is computed: harmless ones, whose weights masks preserve, and
    refusals, if an attack zeroes the weights that are important for them.
    """
    roles: list[Role] = list(HARMLESS)
    if ablates_refusal(study) and not study.responses.refusal_ablation.signed:
        roles.append("refusal")
    return [name for role in roles for name in study.of_role(role)]


def wants_norms(study: Study) -> bool:
    """Whether scoring writes the norms of the inputs, which some controls need."""
    masks = [*study.masks.controls, *study.curve.families, *study.equal_cost_masks]
    return bool(needing_norms(masks, study.behaviours))
