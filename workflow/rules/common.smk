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
from lesion.formats import LesionError
from lesion.scores.store import NORMS, index_name, shard_names
from lesion.study import BUILT_MASKS, load_study, read_config
from lesion.tables import OF_MASKS, TABLES


def load_checked():
    """The study of the given --configfile, or of config.yaml, checked as far as files are here."""
    files = [Path(path) for path in workflow.overwrite_configfiles] or [
        Path(workflow.basedir) / "config.yaml"
    ]
    try:
        merged = {}
        for file in files:
            merged |= read_config(file)
        study = load_study(merged | dict(config), ", ".join(map(str, files)))
        plan.check(study)
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


wildcard_constraints:
    name="[a-z0-9][a-z0-9_-]*",
    model="[a-z0-9][a-z0-9_-]*",
    behaviour="[a-z0-9][a-z0-9_-]*",
    mask="[a-z0-9][a-z0-9_-]*",
    variant="[a-z0-9][a-z0-9_-]*",


def source_inputs(text, key):
    """What a job has to wait for to read a source: its record and folder, or the local files."""
    if plan.is_local(STUDY, text):
        return plan.local_files_of(STUDY, text, key)
    return [MADE / "sources" / f"{plan.source_name(text)}.json"]


def source_place(text, key):
    """How a script finds a source: a local path, or a fetched folder with its record."""
    if plan.is_local(STUDY, text):
        return {"path": str(plan.local_path(STUDY, text, key))}
    place = MADE / "sources" / plan.source_name(text)
    return {"folder": str(place), "record": f"{place}.json"}


def stage(script, slice_, *modules):
    """Params of a job: its slice of the study, and the digest of the code it runs.

    Snakemake itself would go by a script's date, which every checkout renews; see the profile.
    """
    path = Path(workflow.basedir) / "workflow" / "scripts" / f"{script}.py"
    return {"code": plan.code(path, *modules), "study": slice_}


def model_source(w):
    return STUDY.models[w.model].source


def prompt_inputs(w):
    """A local file is tracked by its selected rows, in the params; only a fetched one is a file."""
    behaviour = STUDY.behaviours[w.behaviour]
    used = [behaviour.source, *([behaviour.responses] if behaviour.responses else [])]
    return [
        path
        for text in used
        if not plan.is_local(STUDY, text)
        for path in source_inputs(text, f"behaviours.{w.behaviour}")
    ]


def prompt_places(w):
    behaviour = STUDY.behaviours[w.behaviour]
    places = {
        "source": source_place(behaviour.source, f"behaviours.{w.behaviour}.source")
    }
    if behaviour.responses:
        key = f"behaviours.{w.behaviour}.responses"
        places["responses"] = source_place(behaviour.responses, key)
    return places


def score_files(roles, kinds):
    """Indices and shards: a shard that is gone is only made again if somebody asks for it."""
    return [
        SCORES / behaviour / name
        for role, kind in zip(roles, kinds)
        for behaviour in STUDY.of_role(role)
        for name in (index_name(kind), *shard_names(kind, STUDY.scores.shards))
    ]


def variant_mask(w):
    if w.variant == "intact":
        return []
    return MADE / "masks" / w.model / f"{w.variant}.safetensors"


def judge_sources(w):
    return source_inputs(STUDY.judgements.human_scores, "judgements.human_scores")


def embedder_inputs(w):
    return source_inputs(STUDY.judgements.embedder, "judgements.embedder")


def embedder_place(w):
    return source_place(STUDY.judgements.embedder, "judgements.embedder")


def figure_names():
    """Nothing is transferred where no mask of a harm type, and none of the built ones, is asked."""
    harmful = {*BUILT_MASKS, *STUDY.of_role("harm")} & set(STUDY.variants)
    return [*(["transfer"] if harmful else []), "overlap", "where", "sweep"]
