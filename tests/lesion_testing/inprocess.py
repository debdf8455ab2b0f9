"""Whole studies in this process, by the functions that the workflow's scripts call.

Snakemake takes two to three seconds to start each job, and a small study has sixty of them. What is
made has the same paths and content. Understanding, tasks, masks at equal cost, checkpoints,
trainings in memory and the page are left out.
"""

from pathlib import Path
from typing import Any

from lesion.judgements.continuations import write_continuations
from lesion.judgements.controls import write_control_answers
from lesion.judgements.extra import judge_more
from lesion.judgements.run import judge_completions, train_judge
from lesion.masks.choose import choose
from lesion.masks.curve import curve_masks
from lesion.masks.run import write_masks
from lesion.masks.sweep import sweep
from lesion.pairs.matched import write_matched_prompts
from lesion.pairs.prompts import write_prompts
from lesion.pairs.respond import respond
from lesion.plan import jobs, outputs
from lesion.responses.ask import respond_variant
from lesion.responses.curve import respond_family
from lesion.scores.run import score_model
from lesion.study import Study
from lesion.tables import TABLES
from lesion.tables.run import write_study, write_tables
from lesion.training.run import train


def run_in_process(study: Study) -> Path:
    """Run a study whose models are trained from nothing, and whose sources are local files.

    Trained judges and models that are there already are used again.

    Returns:
        The folder of its tables.
    """
    _prompts(study)
    judgements = study.folder / "judgements"
    if not (judgements / "judge.safetensors").exists():
        judgements.mkdir(parents=True, exist_ok=True)
        job = _job(study, "train_judge")
        train_judge(job, judgements / "judge.safetensors", judgements / "judges.parquet")
    for model in study.models:
        if not (study.folder / "models" / model / "lesion.json").exists():
            folder = study.folder / "models" / model
            train(_job(study, "train", model=model), None, {}, folder, save_minutes=60)
        _model(study, model)
    return _tables(study)


def _job(study: Study, rule: str, **wildcards: str) -> Any:
    return jobs.RULES[rule].build(study, wildcards)


def _prompts(study: Study) -> None:
    """Choose the prompts of every behaviour, those of matched requests last."""
    folder = study.folder / "pairs" / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    matched = {name: str(study.behaviours[name].of) for name in study.of_role("matched")}
    for name in sorted(study.behaviours, key=lambda name: name in matched):
        out = folder / f"{name}.parquet"
        if name in matched:
            job = _job(study, "matched_prompts", behaviour=name)
            write_matched_prompts(folder / f"{matched[name]}.parquet", out, job)
        else:
            write_prompts(out, _job(study, "prompts", behaviour=name))


def _model(study: Study, model: str) -> None:
    made, checkpoint = study.folder, study.folder / "models" / model
    pairs = {name: made / "pairs" / model / f"{name}.parquet" for name in study.behaviours}
    scores = {name: made / "scores" / model / name for name in study.behaviours}
    masks = made / "masks" / model
    for folder in (made / "pairs" / model, masks, made / "judgements" / model):
        folder.mkdir(parents=True, exist_ok=True)
    for name in study.behaviours:
        given = made / "pairs" / "prompts" / f"{name}.parquet"
        respond(
            given,
            checkpoint,
            pairs[name],
            _job(study, "generate_pairs", model=model, behaviour=name),
        )
    for name in study.behaviours:
        rule = (
            "harmless_scores"
            if study.behaviours[name].role in ("benign", "matched")
            else "signed_scores"
        )
        job = _job(study, rule, model=model, behaviour=name)
        scores[name].mkdir(parents=True, exist_ok=True)
        score_model(checkpoint, pairs[name], scores[name], job, save_minutes=60)
    chosen = masks / "chosen.json"
    points = _job(study, "sweep", model=model)
    sweep(checkpoint, scores, pairs, masks / "sweep.parquet", points)
    choose(masks / "sweep.parquet", chosen, _job(study, "choose", model=model))
    write_masks(checkpoint, scores, chosen, masks, _job(study, "select_masks", model=model))
    _measured(study, model, pairs, chosen, scores)


def _measured(
    study: Study, model: str, pairs: dict[str, Path], chosen: Path, scores: dict[str, Path]
) -> None:
    made, checkpoint = study.folder, study.folder / "models" / model
    masks, responses = made / "masks" / model, made / "responses" / model
    asked = [pairs[name] for name in outputs.nll_behaviours(study)]
    for variant in study.variants:
        (responses / variant).mkdir(parents=True, exist_ok=True)
        respond_variant(
            _job(study, "variant_responses", model=model, variant=variant),
            checkpoint,
            None if variant == "unmodified" else masks / f"{variant}.safetensors",
            asked,
            responses / variant / "completions.parquet",
            responses / variant / "nll.parquet",
        )
    families = outputs.curve_families(study)
    if families:
        (responses / "curve").mkdir(exist_ok=True)
        job = _job(study, "curve_masks", model=model)
        curve_masks(checkpoint, scores, chosen, masks / "curve.parquet", job)
    for family in families:
        respond_family(
            _job(study, "curve", model=model, family=family),
            model=checkpoint,
            masks=masks / "curve.parquet",
            pairs=[pairs[name] for name in outputs.evaluated(study)],
            nll=responses / "curve" / f"{family}.parquet",
            completions=None,
        )
    tested = [pairs[name] for name in outputs.judge_controls(study)]
    if tested:
        control_job = _job(study, "control_answers", model=model)
        out = responses / f"{outputs.CONTROL_ANSWERS}.parquet"
        write_control_answers(control_job, tested, out)
    judged = outputs.judged_answers(study)
    write_continuations(
        _job(study, "continuations", model=model),
        checkpoint,
        [pairs[name] for name in study.of_role("benign")],
        [made / "responses" / path for _, path in judged[model]],
        responses / "fluency.parquet",
        responses / f"{outputs.CONTINUATIONS}.parquet",
    )
    for answers in judged:
        if answers.split("/")[0] == model:
            _judged(study, answers)


def _judged(study: Study, answers: str) -> None:
    """Let every judge score the answers of one job."""
    folder, own = study.folder / "judgements", outputs.judged_answers(study)[answers]
    paths = [study.folder / "responses" / path for _, path in own]
    for name in ("learned", *study.judgements.judges):
        out = folder / outputs.judge_scores_path(name, answers)
        out.parent.mkdir(parents=True, exist_ok=True)
        if name == "learned":
            job = _job(study, "judge_responses", answers=answers)
            judge_completions(job, folder / "judge.safetensors", paths, out)
        else:
            further = _job(study, "judge_responses_extra", answers=answers, judge=name)
            judge_more(further, paths, out)


def _tables(study: Study) -> Path:
    """Compute the tables; their folder."""
    folder = study.folder / "tables"
    folder.mkdir(exist_ok=True)
    files = [study.folder / path for _, path in outputs.tables_inputs(study)]
    out = {name: folder / f"{name}.parquet" for name in TABLES}
    write_tables(_job(study, "compute_tables"), files, out, folder / "models.json")
    write_study(_job(study, "study"), folder / "models.json", folder / "study.json")
    return folder
