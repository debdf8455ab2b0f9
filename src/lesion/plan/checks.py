"""What can be looked at before any job runs."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from lesion.io.addresses import parse
from lesion.io.formats import BadFile, LesionError
from lesion.masks.select import n_selected
from lesion.models.record import candidate_shapes, has_template
from lesion.plan.places import (
    addresses,
    chat_template,
    content,
    is_local,
    local_files_of,
    local_path,
    task_contents,
)
from lesion.responses.attacks import BUILT
from lesion.responses.tasks import (
    Found,
    check_task,
    find_task,
    hub_data,
    is_cached,
    no_template,
    offline,
)
from lesion.study import Study, StudyError
from lesion.study.judges import RubricSection
from lesion.study.types import VLLM_PYTHON, nearest

_HUB_SECONDS = 3.0


def check_fractions(fractions: Iterable[float], shapes: Mapping[str, Sequence[int]]) -> None:
    """Look whether every q selects at least one of a model's candidate weights.

    Raises:
        LesionError: one selects none.
    """
    for q in fractions:
        n_selected(q, sum(math.prod(shape) for shape in shapes.values()))


def check_prepared(study: Study, model: str) -> None:
    """Look whether what is asked of a model can be had of it, as soon as it is prepared.

    Raises:
        LesionError: a q selects nothing, tasks are to be put in a chat template that there is not,
            or a control needs what the model's kind of weights does not give.
        BadFile: the model's record is damaged, or of an earlier version.
    """
    folder = Path(study.results) / study.study / "models" / model
    shapes = candidate_shapes(folder)
    check_fractions(study.masks.q, shapes)
    check_chat(study, model, templated=has_template(folder))
    _check_wanda(study, model, shapes)


def check_chat(study: Study, model: str, *, templated: bool) -> None:
    """Look whether a model has the chat template that the tasks are to be put in.

    Raises:
        StudyError: it has none.
    """
    if study.utility.tasks and study.utility.chat and not templated:
        raise no_template(f"the model `{model}`")


def _check_wanda(study: Study, model: str, shapes: Mapping[str, Sequence[int]]) -> None:
    stacked = [name for name, shape in shapes.items() if len(shape) == 3]
    for key, names in (
        ("masks.controls", study.masks.controls),
        ("curve.families", study.curve.families),
    ):
        if "wanda" in names and stacked:
            raise StudyError(
                f"`{key}`: `wanda` needs the norm of each matrix's inputs, which stacked experts "
                f"have not (`{stacked[0]}` of `{model}`). Take `wanda` out"
            )


def check(study: Study) -> None:
    """Look at everything that can be looked at before any job runs.

    Raises:
        LesionError: a local file is missing or unfit; the first such finding.
    """
    _check_attacks(study)
    for use in study.uses():
        if use.rule is not None and is_local(study, use.text):
            _ = content(study, use) or local_files_of(study, use.text, use.key)
    for name in study.models:
        chat_template(study, name)
    task_contents(study)
    _check_results(study)
    _check_weights(study)
    for name, model in study.models.items():
        if model.source is not None and is_local(study, model.source):
            source = local_path(study, model.source, f"models.{name}.source")
            # Of a GGUF file, and of what is yet to be fetched, the job that prepares it says so.
            if source.is_dir():
                with suppress(BadFile):
                    given = model.chat.template
                    own = has_template(source) if given == "auto" else given != "plain"
                    check_chat(study, name, templated=own)
        # One that is damaged or of an earlier version is stale, and made anew.
        with suppress(BadFile):
            check_prepared(study, name)


def _check_attacks(study: Study) -> None:
    """Look whether attacks are built in or have a template of their own.

    Raises:
        StudyError: one is neither, or has both.
    """
    templates = study.responses.templates
    for name in templates:
        if name in (*BUILT, "none", "explanation"):
            raise StudyError(
                f"`responses.templates.{name}`: this name is taken by a built-in attack; rename it"
            )
    known = [*BUILT, *templates]
    for name in study.responses.attacks:
        if name not in known:
            raise StudyError(
                f"`responses.attacks`: no attack is named `{name}`{nearest(name, known)}"
            )


def check_tasks(study: Study) -> list[Found]:
    """Look whether there are the tasks that variants are put, and whether they can be used.

    It takes up to ten seconds if one is not found, so not every process of a study does.

    Raises:
        LesionError: there is no such task, or it can't be used; the first such finding.
    """
    found = [find_task(name, Path(study.utility.folder)) for name in study.utility.tasks]
    for one in found:
        check_task(one)
    return found


def check_data(tasks: Iterable[Found]) -> list[str]:
    """Look whether tasks' data can be had, in the cache or of the hub.

    Returns:
        What may go wrong: the hub does not answer, or not with this data.

    Raises:
        StudyError: data is not in the cache, and the environment forbids to fetch it.
    """
    found = []
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
        if problem := _hub_problem(data):
            found.append(f"{start}, which is not in the cache; {problem}")
    return found


def _hub_problem(data: str) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(data, timeout=_HUB_SECONDS)
    except HfHubHTTPError as error:
        return f"the hub says: {str(error).strip().splitlines()[-1]}"
    except Exception as error:  # whatever a proxy or a resolver raises
        return f"the hub can't be reached ({type(error).__name__})"
    return None


def warnings(study: Study) -> list[str]:
    """What jobs will miss if they run in this environment: it may not be the one they run in."""
    found = [
        f"`judgements.judges.{name}.api_key_env`: {judge.api_key_env} is not set here"
        for name, judge in study.judgements.judges.items()
        if isinstance(judge, RubricSection)
        and judge.api_key_env is not None
        and not os.environ.get(judge.api_key_env, "").strip()
    ]
    if study.responses.engine == "vllm":
        named = os.environ.get(VLLM_PYTHON)
        if named is None and find_spec("vllm") is None:
            found.append(
                f"`responses.engine: vllm`: vLLM is not installed here, nor {VLLM_PYTHON} set"
            )
        elif named is not None and shutil.which(named) is None:
            found.append(f"`responses.engine: vllm`: {VLLM_PYTHON}={named} is no program here")
    return found


def _check_weights(study: Study) -> None:
    """Look whether local folders of judges hold what is loaded of them: safetensors alone."""
    for use in study.uses():
        if use.reader != "weights" or not is_local(study, use.text):
            continue
        folder = local_path(study, use.text, use.key)
        if not folder.is_dir() or not any(folder.glob("*.safetensors")):
            raise LesionError(
                f"`{use.key}`: {folder} is no folder with .safetensors, and nothing else is "
                "loaded. Give the model's folder, or save it anew with `save_pretrained`"
            )


_CODE = ("src", "workflow", "profiles", "envs", ".git", ".snakemake")
"""Folders of the checkout that nothing may be written into."""


def _check_results(study: Study) -> None:
    """Look whether what the study writes would lie among what it reads, or in its own code.

    Raises:
        StudyError: it would; the message names the keys.
    """
    made = Path(study.results, study.study)
    place = made.resolve()
    for one in (place, *place.parents):
        if one.exists() and not one.is_dir():
            raise StudyError(f"`results`: {study.results}: {one} is a file. Give a folder.")
    checkout = Path(__file__).parents[3]
    code = [checkout / name for name in _CODE] if (checkout / "Snakefile").is_file() else []
    if any(place.is_relative_to(one) for one in code) or checkout.is_relative_to(place):
        raise StudyError(f"`results`: {made} is a folder of lesion's own code. Give another one.")
    for key, path in _read_places(study):
        read = path.resolve()
        if read.is_relative_to(place) or (place.is_relative_to(read) and read.is_dir()):
            raise StudyError(
                f"`results`: the study would be written to {made}, which lies in what `{key}` "
                f"reads ({path}), or the other way round. Give `results` another folder."
            )


def _read_places(study: Study) -> Iterator[tuple[str, Path]]:
    """Every local path that the study reads, by the key that names it."""
    for use in study.uses():
        for address in map(parse, addresses(study, use.text)):
            if address.kind == "file":
                yield use.key, Path(address.name)
    if study.utility.tasks:
        yield "utility.folder", Path(study.utility.folder)
