import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The package is used from this checkout, installed or not; jobs inherit the path.
SRC = str(Path(workflow.basedir) / "src")
sys.path.insert(0, SRC)
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [SRC, os.getenv("PYTHONPATH")]))
)

from lesion import plan
from lesion.plan import resources
from lesion.plan.jobs.scores import wants_norms
from lesion.plan.places import inputs
from lesion.plan.trained import lesson_behaviours
from lesion.io.formats import LesionError
from lesion.scores.store import NORMS, index_name, shard_names
from lesion.study import load_study, read_configs
from lesion.tables import OF_MASKS, TABLES


def load_checked():
    """The study of the given --configfile, or of config.yaml, checked as far as files are here."""
    files = [Path(path) for path in workflow.overwrite_configfiles] or [
        Path(workflow.basedir) / "config.yaml"
    ]
    try:
        given = read_configs(files) | dict(config)
        study = load_study(given, ", ".join(map(str, files)))
        plan.check(study)
        # Its seconds would be every job's, each of which reads this file.
        if workflow.is_main_process:
            plan.check_tasks(study)
    except LesionError as error:
        raise WorkflowError(str(error)) from None
    return study


STUDY = load_checked()
# A config may hold only what it checks: a missing or wrong key has been reported above.
config = STUDY.model_dump()
MADE = Path(STUDY.results) / STUDY.study
SOURCES = plan.sources(STUDY)
SCORES = MADE / "scores" / "{model}"
ENV = "../../envs/lesion.yaml"


# Seconds of one core: not worth a place in a queue. And only a login node may have a network.
localrules:
    all,
    source,
    prompts,
    same_pairs,
    choose,
    tables,
    card,
    report,


wildcard_constraints:
    name="[a-z0-9][a-z0-9_-]*",
    model="[a-z0-9][a-z0-9_-]*",
    behaviour="[a-z0-9][a-z0-9_-]*",
    mask="[a-z0-9][a-z0-9_-]*",
    # `curve` is the folder of the curves, where a family may be called `nll`.
    variant="(?!curve/)[a-z0-9][a-z0-9_-]*",


def source_inputs(text, key):
    """What a job has to wait for to read a source: its record and folder, or the local files."""
    if plan.is_local(STUDY, text):
        return plan.local_files_of(STUDY, text, key)
    return [MADE / "sources" / f"{plan.source_name(text)}.json"]


def files_of(rule, wildcard=None):
    """What the jobs of a rule have to wait for to read their sources (see `lesion.study.sources`).

    The wildcard is the one whose value owns a source; None if every job of the rule reads it.
    """
    return lambda w: inputs(STUDY, MADE, rule, w[wildcard] if wildcard else None)


def source_place(text, key):
    return plan.source_place(STUDY, MADE, text, key)


def stage(script, slice_, *modules):
    """Params of a job: its slice of the study, and the digest of the code it runs.

    Snakemake itself would go by a script's date, which every checkout renews; see the profile.
    """
    path = Path(workflow.basedir) / "workflow" / "scripts" / f"{script}.py"
    return {"code": plan.code(path, *modules), "study": slice_}


SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"


def job(rule):
    """The param of a rule: the specification of its job, as JSON."""
    return lambda w: plan.job(STUDY, rule, dict(w), SCRIPTS).model_dump_json()


def memory(stage):
    """The `mem_mb` of a stage's rule: by the model's size, more with every attempt."""
    return lambda w, attempt: resources.mem_mb(
        stage, resources.model_size(STUDY, w.get("model")), attempt
    )


def minutes(stage):
    """The `runtime` of a stage's rule: by the model's size and what there is to do."""
    return lambda w, attempt: resources.runtime(
        stage,
        resources.model_size(STUDY, w.get("model")),
        (
            resources.work(STUDY, stage, w.get("behaviour"))
            if stage != "train"
            else resources.steps(STUDY, w.get("model"), w.get("experiment"))
        ),
        attempt,
    )


def gpus(stage):
    """The `gpu` of a stage's rule: one, or several if a model may be spread over them."""
    return lambda w: resources.gpus(
        stage, resources.model_size(STUDY, w.get("model")), STUDY.device_map is not None
    )


# Trained models that are measured on another's responses.
BORROWING = [m for m in STUDY.models if STUDY.measured_on(m) != m]
RETRAINED = {
    "experiment": "|".join(STUDY.retraining) or "(?!)",
    "arm": "|".join({arm for one in STUDY.retraining.values() for arm in one.trained})
    or "(?!)",
}


def base_record(w):
    base = STUDY.models[w.model].base
    return MADE / "models" / base / "lesion.json" if base else []


def questions_of(w):
    key = f"retraining.{w.experiment}.questions"
    return STUDY.retraining[w.experiment].questions, key


def question_inputs(w):
    text, key = questions_of(w)
    local = text is None or plan.is_local(STUDY, text)
    return [] if local else source_inputs(text, key)


def question_place(w):
    text, key = questions_of(w)
    return None if text is None else source_place(text, key)


def score_files(roles, kinds):
    """Indices and shards: a shard that is gone is only made again if somebody asks for it."""
    return [
        SCORES / behaviour / name
        for role, kind in zip(roles, kinds)
        for behaviour in STUDY.of_role(role)
        for name in (index_name(kind), *shard_names(kind, STUDY.scores.shards))
    ]


def score_indices(roles):
    """The index of each behaviour's own scores, whose folder has its other files."""
    return [
        SCORES / behaviour / index_name("snip")
        for role in roles
        for behaviour in STUDY.of_role(role)
    ]


def variant_mask(w):
    if w.variant == "intact":
        return []
    return MADE / "masks" / w.model / f"{w.variant}.safetensors"


def intact_understanding(w):
    """Other variants are measured on what the intact model explains."""
    if w.variant == "intact":
        return []
    return MADE / "responses" / w.model / "intact" / "understanding.parquet"


def twins_inputs(w):
    """A local file is tracked by its rows, in the params."""
    twins = STUDY.understanding.twins
    return (
        []
        if plan.is_local(STUDY, twins)
        else source_inputs(twins, "understanding.twins")
    )


def judge_sources(w):
    return source_inputs(STUDY.judgements.human_scores, "judgements.human_scores")


def embedder_inputs(w):
    return source_inputs(STUDY.judgements.embedder, "judgements.embedder")


def embedder_place(w):
    return source_place(STUDY.judgements.embedder, "judgements.embedder")


def template_inputs(w):
    """A local template is tracked by what it says, in the params; only a fetched one is a file."""
    return [
        path
        for name, template in plan.templates(STUDY).items()
        if not plan.is_local(STUDY, template.source)
        for path in source_inputs(template.source, plan.template_key(name))
    ]


def template_places(w):
    return {
        name: source_place(template.source, plan.template_key(name))
        for name, template in plan.templates(STUDY).items()
    }


def judge_kind(w):
    return STUDY.judgements.judges[w.judge].kind


def own_files(judge):
    """Fetched files of a study's own judge; a local one is tracked by its rows, in the params."""
    return {
        part: source_inputs(text, key)
        for part, (text, key) in plan.judge_parts(STUDY, judge).items()
        if STUDY.judgements.judges[judge].kind not in plan.OF_FILES
        or not plan.is_local(STUDY, text)
    }


def own_inputs(judge):
    """What a judge is only measured on decides no verdict."""
    return [
        path
        for part, files in own_files(judge).items()
        for path in files
        if part != "elsewhere"
    ]


def own_places(judge):
    parts = plan.judge_parts(STUDY, judge).items()
    return {part: source_place(*found) for part, found in parts}


def extra_embedder(w, found, without):
    """What only a judge needs that embeds answers."""
    return found(w) if judge_kind(w) == "contrast" else without


def is_classifier(w):
    return judge_kind(w) in ("strongreject", "harmbench")


def judge_law(w):
    return "classifier" if is_classifier(w) else "extra_judge"


def figure_names():
    """Those that the study has the numbers for, whatever they are."""
    return [
        *(["curve"] if plan.curve_families(STUDY) else []),
        *(["judged-curve"] if plan.judged_sizes(STUDY) else []),
        *(["transfer"] if len(STUDY.variants) > 1 else []),
        *("overlap", "where"),
        *(["dissociation"] if {"shared", "random"} & set(STUDY.variants) else []),
        "sweep",
    ]


def retrained(model):
    """What trainings in memory give: NLL, and the judges' verdicts on answers."""
    return [
        path
        for experiment, arm in plan.retraining_arms(STUDY, model)
        for path in (
            f"responses/{model}/retraining/{experiment}/{arm}.parquet",
            *(
                f"judgements/{model}/retraining/{experiment}/{arm}{judge}.parquet"
                for judge in plan.retraining_judges(STUDY, experiment)
            ),
        )
    ]


def further_measurements(model):
    """What a study may measure beside completions and NLL: one file a variant, judge or family."""
    asked = {"understanding": plan.understood(STUDY), "utility": STUDY.utility_variants}
    asked["said"] = asked["understanding"]
    return [
        *retrained(model),
        *(
            f"responses/{model}/{variant}/{name}.parquet"
            for name, variants in asked.items()
            for variant in variants
        ),
        *(f"judgements/{model}/{judge}.parquet" for judge in STUDY.judgements.judges),
        *(
            f"responses/{model}/curve/{family}.parquet"
            for family in plan.curve_families(STUDY)
        ),
        *(
            f"responses/{model}/curve/{family}-completions.parquet"
            for family in plan.answering_families(STUDY)
        ),
    ]


def answers():
    """What is judged: variants, and where their completions are below `responses/<model>`.

    The completions of masks of many sizes say themselves which is whose.
    """
    return [
        *((variant, f"{variant}/completions.parquet") for variant in STUDY.completed),
        *((variant, f"{variant}/said.parquet") for variant in plan.understood(STUDY)),
        *(
            (None, f"curve/{family}-completions.parquet")
            for family in plan.answering_families(STUDY)
        ),
    ]


ANSWERS = answers()
