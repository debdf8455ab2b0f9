import logging
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.shell import shell

# The package is used from this checkout, installed or not; jobs inherit the path. In a wheel, this
# workflow is inside of the installed package. (`workflow.basedir` is the folder of a workflow that
# uses this one as a module.)
SRC = str(
    Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1] / "src"
)
if os.path.isdir(SRC):
    sys.path.insert(0, SRC)
    os.environ.update(
        PYTHONPATH=os.pathsep.join(filter(None, [SRC, os.getenv("PYTHONPATH")]))
    )

from lesion.io.bundle import bundle
from lesion.masks.refusal import REFUSAL_MASK
from lesion.plan import checks, jobs, outputs, places, resources
from lesion.io.formats import LesionError
from lesion.io.logs import STAGE_FOLDERS
from lesion.io.staging import ARCHIVE, STAGED
from lesion.preload import preload
from lesion.report.run_captions import CaptionedConfig
from lesion.scores.shards import NORMS, index_name, shard_names
from lesion.study import load_study, read_configs
from lesion.tables import OF_MASKS, TABLES

# Whether jobs see only what rules declare, because Snakemake copies it to and from a storage.
COPIED = bool(workflow.storage_settings.default_storage_provider)


def given_config():
    """The study's config and the name that messages give it: of the module statement, or else of
    the --configfile, or else of config.yaml.
    """
    default = bundle() / "config.yaml"
    if not workflow.modifier.is_main_snakefile():
        return (
            (config, "the module's `config`")
            if config
            else (read_configs([default]), str(default))
        )
    files = [Path(path) for path in workflow.overwrite_configfiles] or [default]
    # Snakemake merges the files as well, but does not know the old names of renamed keys.
    own = workflow.config_settings
    merged = dict(config) == dict(own.overwrite_config)
    over = dict(own.config if merged else config)
    return read_configs(files, over=over), ", ".join(map(str, files))


def load_checked():
    """The study, after all checks that are possible before sources are fetched."""
    if not workflow.is_main_process:
        # Every job reads this file too; only the main process logs the config's warnings.
        logging.getLogger("lesion.study").setLevel(logging.ERROR)
    try:
        study = load_study(*given_config())
        # Where files are copied, a job may run on a machine without the study's own files.
        if workflow.is_main_process or not COPIED:
            checks.check_study(study)
        # This check takes seconds, and every job reads this file.
        if workflow.is_main_process:
            checks.check_tasks(study)
            if COPIED:
                checks.check_copied(
                    study, workflow.storage_settings.default_storage_prefix
                )
    except LesionError as error:
        raise WorkflowError(str(error)) from None
    return study.copying_sources() if COPIED else study


EARLIER_TARGET = workflow.default_target


def default_target():
    """What runs if no target is given; a workflow that uses this one as a module keeps its own."""
    return EARLIER_TARGET or workflow.modifier.modify_rulename("all")


STUDY = load_checked()
# The validated config with its defaults; missing and wrong keys have been reported above. The
# captions of Snakemake's report read the run's numbers from it and not from parameters, which would
# make jobs stale.
config = CaptionedConfig(
    STUDY.model_dump(), None if COPIED else STUDY.folder / "tables"
)
MADE = STUDY.folder
if COPIED:
    os.environ[STAGED] = str(MADE)
if workflow.modifier.path_modifier.replace_prefix(str(MADE)) != str(MADE):
    # It would move prompts and models as well, and not the paths in specifications.
    raise WorkflowError(
        "lesion's rules can't have a `prefix:`. Give the module's config `results: folder` to say "
        "where its results go (docs/how-to/module.md)"
    )
SCORES = MADE / "scores" / "{model}"
ENV = "../../envs/lesion.yaml"


wildcard_constraints:
    name="[a-z0-9][a-z0-9_-]*",
    model="[a-z0-9][a-z0-9_-]*",
    behaviour="[a-z0-9][a-z0-9_-]*",
    mask="[a-z0-9][a-z0-9_-]*",
    # `curve` is the folder of the curves, which may contain a family named `nll`.
    variant="(?!curve/)[a-z0-9][a-z0-9_-]*",


def archive(folder):
    """The archive of a folder whose files no rule can list, if files are copied."""
    return [f"{folder}{ARCHIVE}"] if COPIED else []


def source_files(rule, owner=None):
    """The source files that a rule's jobs depend on; `owner` is a wildcard (see `Use`)."""

    def files(wildcards):
        needed = places.inputs(STUDY, rule, wildcards[owner] if owner else None)
        # Where files are copied, every source is fetched, and these are their records.
        return [
            *needed,
            *(path for file in needed for path in archive(file.with_suffix(""))),
        ]

    return files


SCRIPTS = bundle() / "workflow" / "scripts"


def job(rule):
    """The `params.job` of a rule: the job's specification as JSON."""
    return lambda w: jobs.job(STUDY, rule, dict(w), SCRIPTS).model_dump_json()


def memory(formula):
    """The `mem_mb` of a rule: computed from the model's size by one of `resources.RESOURCE_FORMULAS`, and
    increased with every attempt.
    """
    return lambda w, attempt: resources.mem_mb(
        STUDY, formula, resources.model_size(STUDY, w.get("model")), attempt
    )


def minutes(formula):
    """The `runtime` of a rule: computed from the model's size and the amount of work."""
    return lambda w, attempt: resources.runtime(
        formula,
        resources.model_size(STUDY, w.get("model")),
        resources.work(STUDY, formula, dict(w)),
        attempt,
    )


def readers(wildcards):
    """The `threads` of what reads all scores of a model and loads no model, one for each process."""
    return resources.readers(STUDY, resources.model_size(STUDY, wildcards.model))


def gpus(formula):
    """The `gpu` of a rule: several if a model may be spread over them, otherwise one."""
    return lambda w: resources.gpus(
        formula,
        resources.model_size(STUDY, w.get("model")),
        STUDY.device_map is not None,
    )


# Behaviours whose importance is computed too.
IMPORTANT = outputs.with_importance(STUDY)
# Behaviours of role `matched`, and the harm type of each.
MATCHED = {name: STUDY.behaviours[name].of for name in STUDY.of_role("matched")}
# Trained models that are measured on another model's responses.
BORROWING = [m for m in STUDY.models if STUDY.measured_on(m) != m]
RETRAINED = {
    "experiment": "|".join(STUDY.retraining) or "(?!)",
    "arm": "|".join(
        {arm for experiment in STUDY.retraining.values() for arm in experiment.trained}
    )
    or "(?!)",
}


def base_record(w):
    base = STUDY.models[w.model].base
    return MADE / "models" / base / "lesion.json" if base else []


def base_archive(w):
    base = STUDY.models[w.model].base
    return archive(MADE / "models" / base) if base else []


def score_files(roles, kinds):
    """Indices and shards. Shards are listed as inputs, because Snakemake does not recreate a
    deleted shard that no rule requests.
    """
    return [
        SCORES / behaviour / name
        for role, kind in zip(roles, kinds)
        for behaviour in STUDY.of_role(role)
        for name in (index_name(kind), *shard_names(kind, STUDY.scores.shards))
    ]


def score_indices(roles):
    """The index of each behaviour's signed scores; the folder of the index holds the others."""
    return [
        SCORES / behaviour / index_name("snip")
        for role in roles
        for behaviour in STUDY.of_role(role)
    ]


def variant_mask(w):
    if w.variant == "unmodified":
        return []
    return MADE / "masks" / w.model / f"{w.variant}.safetensors"


def refusal_mask(w):
    """The weights of refusal, if an attack zeroes them while this variant completes prompts."""
    if w.variant in STUDY.judged_variants and outputs.ablates_refusal(STUDY):
        return MADE / "masks" / w.model / f"{REFUSAL_MASK}.safetensors"
    return []


def unmodified_understanding(w):
    """The unmodified model's explanations, on which the other variants are measured."""
    if w.variant == "unmodified":
        return []
    return MADE / "responses" / w.model / "unmodified" / "understanding.parquet"


# Completions that one job judges: those of a model, or of one training in memory.
JUDGED = outputs.judged_answers(STUDY)


def judged_answers(w):
    return [MADE / "responses" / path for _, path in JUDGED[w.answers]]


# What most jobs import; the imports of the others take little.
PRELOADED = [
    "snakemake.script",
    "lesion.io.logs",
    "lesion.models.load",
    "lesion.models.generate",
    "lesion.responses.variant",
    "lesion.scores.run",
    "lesion.masks.run",
    "lesion.judgements.run",
]


def preload_imports():
    """Let the jobs of this machine begin with their imports done, if that is worth it.

    The command of a shell rule must then be a simple one.
    """
    due = [job for job in workflow.dag.needrun_jobs() if "gpu" in job.rule.resources]
    # In environments of their own, jobs have another Python.
    here = not (workflow.touch or workflow.deployment_settings.deployment_method)
    if STUDY.preload and workflow.local_exec and here and len(due) > 1:
        prefix = preload(PRELOADED, max(job.threads for job in due))
        if prefix:
            shell.prefix(prefix)


onstart:
    preload_imports()
