"""The checks that run before any job."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path, PurePath

import polars as pl

from lesion.io.addresses import parse
from lesion.io.bundle import bundle
from lesion.io.formats import BadFile, LesionError
from lesion.masks.controls import needing_norms
from lesion.masks.select import n_selected
from lesion.models.files import check_holds_weights
from lesion.models.record import candidate_shapes, has_template
from lesion.pairs.matched import matched_table
from lesion.pairs.prompts import prompts_table, select_prompts, worded_table
from lesion.pairs.rows import read_rows
from lesion.plan.jobs import matched_prompts_job, prompts_job
from lesion.plan.outputs import built_attacks, figures
from lesion.plan.places import (
    addresses,
    chat_template,
    content,
    is_local,
    local_inputs,
    local_path,
    task_contents,
)
from lesion.plan.plugins import plugin_problems
from lesion.plan.resources import judge_formula
from lesion.responses.attacks import ATTACK_PLUGINS, BUILT, RESERVED_ATTACKS
from lesion.responses.tasks import (
    KnownTask,
    check_task,
    find_task,
    hub_data,
    is_cached,
    no_template,
    offline,
)
from lesion.study import Study, StudyError, with_preset
from lesion.study.judges import RubricSection
from lesion.study.plugins import PluginError
from lesion.study.sections import Tail
from lesion.study.sources import uses
from lesion.study.types import VLLM_PYTHON

_HUB_SECONDS = 3.0


def check_prepared(study: Study, model: str) -> None:
    """Check that a prepared model supports what the study requests of it.

    Raises:
        LesionError: a q selects no weight, tasks need a chat template that the model lacks, or a
            control does not support the model's kind of weights.
        BadFile: the model's record is damaged, or of an earlier version.
    """
    folder = study.folder / "models" / model
    shapes = candidate_shapes(folder)
    for q in study.masks.q:
        n_selected(q, sum(math.prod(shape) for shape in shapes.values()))
    _check_chat(study, model, templated=has_template(folder))
    stacked = [name for name, shape in shapes.items() if len(shape) == 3]
    controls: dict[str, Sequence[str]] = {
        "masks.controls": study.masks.controls,
        "curve.families": study.curve.families,
        "equal_cost.masks": study.equal_cost_masks,
    }
    for key, names in controls.items():
        needing = needing_norms(names, study.behaviours)
        if needing and stacked:
            raise StudyError(
                f"`{key}`: `{needing[0]}` needs the norm of each matrix's inputs, which stacked "
                f"experts have not (`{stacked[0]}` of `{model}`). Take `{needing[0]}` out"
            )


def _check_chat(study: Study, model: str, *, templated: bool) -> None:
    """Check that a model has the chat template that the tasks need."""
    if study.utility.tasks and study.utility.chat and not templated:
        raise no_template(f"the model `{model}`")


def check_study(study: Study) -> None:
    """Check everything that can be checked before any job runs.

    Raises:
        LesionError: a local file is missing or unusable; only the first problem is raised.
    """
    _check_attacks(study)
    for name in study.judgements.judges:
        judge_formula(study, name)
    for use in uses(study):
        if use.rule is not None and is_local(study, use.text):
            with _naming(use.key.removesuffix(".source")):
                _ = content(study, use) or local_inputs(study, use)
    for name in study.models:
        chat_template(study, name)
    task_contents(study)
    _check_figures(study)
    _check_results(study)
    _check_weights(study)
    for name, model in study.models.items():
        if model.source is not None and is_local(study, model.source):
            source = local_path(study, model.source, f"models.{name}.source")
            # For a GGUF file, or a source not yet fetched, the job that prepares it fails.
            if source.is_dir():
                check_holds_weights(source)
                with suppress(BadFile):
                    given = model.chat.template
                    own = has_template(source) if given == "auto" else given != "plain"
                    _check_chat(study, name, templated=own)
        # A record that is damaged or of an earlier version is stale and will be made again.
        with suppress(BadFile):
            check_prepared(study, name)


def check_copied(study: Study, prefix: str | None) -> None:
    """Check what a study needs where Snakemake copies files (see `lesion.io.staging`).

    Args:
        study: the study.
        prefix: of the paths within the storage.

    Raises:
        StudyError: the folder of its results is not below the current one, or the prefix has it.
    """
    results = PurePath(study.results)
    if results.is_absolute() or ".." in results.parts or not results.parts:
        raise StudyError(
            f"`results`: {results} is not below the current folder. With a storage provider it is "
            "a path within the storage, such as `results`"
        )
    if f"/{study.folder}/" in f"/{prefix}/":
        raise StudyError(
            f"--default-storage-prefix: {prefix} has {study.folder} in it, which lesion adds. Give "
            "the part before that"
        )


def _check_figures(study: Study) -> None:
    """Check that no two figures have the same file."""
    owners: dict[str, str] = {}
    for figure in figures(study):
        if figure.name in owners:
            raise StudyError(
                f"`models.{owners[figure.name]}` and `models.{figure.of}`: each would have the "
                f"figure `{figure.name}`, in the same file. Rename one of the two, or the "
                "experiment of `retraining` that the figure is about"
            )
        owners[figure.name] = figure.of


def _check_attacks(study: Study) -> None:
    """Check that every attack is either built in or has a template."""
    templates = study.responses.templates
    for name in templates:
        if name in (*BUILT, *RESERVED_ATTACKS):
            raise StudyError(
                f"`responses.templates.{name}`: this name is taken by a built-in attack; rename it"
            )
    for name in study.responses.attacks:
        try:
            if name not in templates:
                ATTACK_PLUGINS.check(name, besides=templates)
        except PluginError as error:
            raise StudyError(f"`responses.attacks`: {error}") from error
    ablating = [name for name, attack in built_attacks(study).items() if attack.ablated]
    if ablating and not study.of_role("refusal"):
        raise StudyError(
            f"`responses.attacks`: `{ablating[0]}` zeroes the weights of refusal, and no behaviour "
            "has the role `refusal`. Add one (docs/explanation/evaluation.md), or take the attack "
            "out"
        )
    tail, needed = study.scores.tail, study.responses.refusal_ablation
    if not ablating or not isinstance(tail, Tail):
        return
    q = tail.q if needed.signed else tail.p
    if needed.scope != study.masks.scope or needed.p > tail.p or needed.q > q:
        raise StudyError(
            f"`responses.refusal_ablation`: the truncated scores serve p up to {tail.p:g} and q up "
            f"to {q:g} within the scope `{study.masks.scope}`, and it has {needed.p:g}, "
            f"{needed.q:g} and `{needed.scope}`. Give it others, or remove `scores.tail`"
        )


def check_tasks(study: Study) -> list[KnownTask]:
    """Check that the tasks exist and can be used.

    It takes up to ten seconds if a task is not found, so not every process does it.

    Raises:
        LesionError: a task does not exist or cannot be used; only the first problem is raised.
    """
    tasks = [find_task(name, Path(study.utility.folder)) for name in study.utility.tasks]
    for task in tasks:
        check_task(task)
    return tasks


def check_splits(study: Study) -> None:
    """Check that the prompts of local files fill every split.

    Prompts are compared with each other, which takes seconds, so not every process does it. Those
    of sources that are fetched are checked by their jobs.

    Raises:
        LesionError: a behaviour gets too few prompts, or matched requests match none; only the
            first problem is raised.
    """
    local = [name for name, own in study.behaviours.items() if is_local(study, own.source)]
    files = {
        name: local_path(study, study.behaviours[name].source, f"behaviours.{name}.source")
        for name in local
    }
    matched, prompts = study.of_role("matched"), dict[str, pl.DataFrame]()
    for name in (name for name in local if name not in matched):
        with _naming(f"behaviours.{name}"):
            job, path = prompts_job(study, {"behaviour": name}), files[name]
            rows = select_prompts(read_rows(path), path, job.rows, job.need)
            prompts[name] = worded_table(prompts_table(rows, job), job)
    for name in (name for name in local if name in matched):
        harm = study.behaviours[name].of
        if harm in prompts:
            with _naming(f"behaviours.{name}"):
                pairs, path = matched_prompts_job(study, {"behaviour": name}), files[name]
                unlimited = pairs.rows.model_copy(update={"limit": None})
                rows = select_prompts(read_rows(path), path, unlimited, pairs.need)
                matched_table(rows, prompts[harm], pairs)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the key of a section before an error of its file that names neither key nor behaviour."""
    try:
        yield
    except LesionError as error:
        text, (_, _, name) = str(error), key.partition(".")
        if f"`{key}" in text or f"behaviour `{name}`" in text:
            raise
        raise type(error)(f"`{key}`: {text}") from error


def check_data(tasks: Iterable[KnownTask]) -> list[str]:
    """Check that the data of tasks is in the cache or on the hub.

    Returns:
        Warnings: the hub does not answer, or does not have the data.

    Raises:
        StudyError: data is not in the cache, and the environment forbids fetching it.
    """
    problems = []
    for task in tasks:
        data = hub_data(task)
        if data is None or is_cached(data):
            continue
        start = f"`utility.tasks`: the data of `{task.name}` is the hub's data set {data}"
        if variable := offline():
            raise StudyError(
                f"{start}, which is not in the cache, and {variable} forbids to fetch it. Unset it "
                "or run the task once where there is a network, or name a task of `utility.folder`"
            )
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        try:
            HfApi().dataset_info(data, timeout=_HUB_SECONDS)
        except HfHubHTTPError as error:
            problem = f"the hub says: {str(error).strip().splitlines()[-1]}"
        except Exception as error:  # whatever a proxy or a resolver raises
            problem = f"the hub can't be reached ({type(error).__name__})"
        else:
            continue
        problems.append(f"{start}, which is not in the cache; {problem}")
    return problems


def warnings(study: Study) -> list[str]:
    """Warnings about what this environment lacks (jobs may run in another) and the study lacks, and
    about installed plug-ins that it does not use and could not.
    """
    lacking = [
        f"`judgements.judges.{name}.api_key_env`: {judge.api_key_env} is not set here"
        for name, judge in study.judgements.judges.items()
        if isinstance(judge, RubricSection)
        and judge.api_key_env is not None
        and not os.environ.get(judge.api_key_env, "").strip()
    ]
    if study.responses.engine == "vllm":
        named = os.environ.get(VLLM_PYTHON)
        if named is None and find_spec("vllm") is None:
            lacking.append(
                f"`responses.engine: vllm`: vLLM is not installed here, nor {VLLM_PYTHON} set"
            )
        elif named is not None and shutil.which(named) is None:
            lacking.append(f"`responses.engine: vllm`: {VLLM_PYTHON}={named} is no program here")
    lowest = with_preset({"preset": study.preset}).get("behaviours", {})
    for name, settings in study.behaviours.items():
        usual = lowest.get(name)
        if usual and usual["role"] != settings.role:
            lacking.append(
                f"`behaviours.{name}`: takes the place of the preset's, of role `{usual['role']}`. "
                "Give it another name to have both"
            )
    matched = {study.behaviours[name].of for name in study.of_role("matched")}
    if without := [name for name in study.of_role("harm") if name not in matched]:
        lacking.append(
            f"`behaviours`: {', '.join(without)} have no matched requests (a behaviour of role "
            "`matched`), and without them no claim about harm can be supported "
            "(docs/explanation/statistics.md)"
        )
    return [*lacking, *plugin_problems()]


def _check_weights(study: Study) -> None:
    """Check that local folders of judges contain safetensors files, which alone are loaded."""
    for use in uses(study):
        if use.reader != "weights" or not is_local(study, use.text):
            continue
        folder = local_path(study, use.text, use.key)
        if not folder.is_dir() or not any(folder.glob("*.safetensors")):
            raise LesionError(
                f"`{use.key}`: {folder} is no folder with .safetensors, and nothing else is "
                "loaded. Give the model's folder, or save it anew with `save_pretrained`"
            )


_CODE = ("src", "workflow", "profiles", "envs", ".git", ".snakemake")
"""Folders of the checkout that results must not be written to."""


def _check_results(study: Study) -> None:
    """Check that the study does not write into its inputs or into its own code."""
    made = study.folder
    place = made.resolve()
    for folder in (place, *place.parents):
        if folder.exists() and not folder.is_dir():
            raise StudyError(f"`results`: {study.results}: {folder} is a file. Give a folder.")
    code = [bundle() / name for name in _CODE]
    if any(map(place.is_relative_to, code)) or bundle().is_relative_to(place):
        raise StudyError(f"`results`: {made} is a folder of lesion's own code. Give another one.")
    reads = [
        (use.key, Path(address.name))
        for use in uses(study)
        for address in map(parse, addresses(study, use.text))
        if address.kind == "file"
    ]
    if study.utility.tasks:
        reads.append(("utility.folder", Path(study.utility.folder)))
    for key, path in reads:
        read = path.resolve()
        if read.is_relative_to(place) or (place.is_relative_to(read) and read.is_dir()):
            raise StudyError(
                f"`results`: the study would be written to {made}, which lies in what `{key}` "
                f"reads ({path}), or the other way round. Give `results` another folder."
            )
