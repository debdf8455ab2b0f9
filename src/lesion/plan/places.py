"""The locations of sources, and the files and contents that a job depends on.

A job's specification contains the digest of the rows or the text that it reads from a local file,
so touching or reformatting the file makes nothing stale. Only fetched sources, local models and
local folders are input files.
"""

from collections.abc import Callable
from pathlib import Path

from lesion.io.addresses import Address, is_address, local_files, parse, slug, special
from lesion.io.formats import digest, sha256_file
from lesion.io.texts import read_text
from lesion.judgements.kinds.contrast import read_contrast
from lesion.judgements.kinds.reference import keys_digest, read_keys
from lesion.pairs.jobs import RowSelection
from lesion.pairs.prompts import given_responses, select_prompts
from lesion.pairs.rows import read_rows
from lesion.responses.attacks import read_wording
from lesion.responses.prompt_files import read_minimal_pairs, read_questions
from lesion.responses.tasks import local_tasks, task_digest
from lesion.sources.jobs import SourceLocation
from lesion.study import MIN_PROMPTS, Behaviour, Study, StudyError
from lesion.study.judges import ContrastSection, JudgeSection, ReferenceSection
from lesion.study.sources import Use
from lesion.training.examples import component_columns, of_file


def results(study: Study) -> Path:
    """The results folder of a study."""
    return Path(study.results) / study.study


def inputs(study: Study, made: Path, rule: str, owner: str | None = None) -> list[Path]:
    """The source files that are inputs of a job: records of fetched sources, and local models.

    Args:
        study: the study.
        made: its results folder.
        rule: name of the rule.
        owner: see `Use`.

    Raises:
        StudyError: a local source is missing, or Snakemake would misread its name.
    """
    return [
        path
        for use in _uses(study, rule, owner)
        for path in (
            [made / "sources" / f"{source_name(use.text)}.json"]
            if not is_local(study, use.text)
            else map(Path, local_files_of(study, use.text, use.key))
            if use.reader not in _READERS
            else []
        )
    ]


def places(
    study: Study, made: Path, rule: str, owner: str | None = None
) -> dict[str, SourceLocation]:
    """The location of each of a job's sources, by its part (see `Use`).

    Raises:
        LesionError: a local source is missing or unusable.
    """
    return {
        use.part: source_place(study, made, use.text, use.key, content(study, use))
        for use in _uses(study, rule, owner)
    }


def contents(study: Study, rule: str, owner: str | None = None) -> dict[str, str]:
    """Digests of the contents that a job reads from its local files, by their parts.

    Raises:
        LesionError: one is missing or unusable.
    """
    digests = {use.part: content(study, use) for use in _uses(study, rule, owner)}
    return {part: found for part, found in digests.items() if found is not None}


def content(study: Study, use: Use) -> str | None:
    """Digest of the content read from a local file; None if it is fetched or an input file.

    Raises:
        LesionError: it is missing or unusable.
    """
    if use.reader not in _READERS or not is_local(study, use.text):
        return None
    return _READERS[use.reader](study, use, local_path(study, use.text, use.key))


def _uses(study: Study, rule: str, owner: str | None) -> list[Use]:
    return [use for use in study.uses() if use.rule == rule and use.owner == owner]


def row_selection(behaviour: Behaviour) -> RowSelection:
    """The rows of its source that belong to a behaviour."""
    return RowSelection(**behaviour.model_dump(include=set(RowSelection.model_fields)))


def _prompts(study: Study, use: Use, path: Path) -> str:
    chosen = row_selection(study.behaviours[str(use.owner)])
    return digest(select_prompts(read_rows(path), path, chosen, MIN_PROMPTS).rows())


def _examples(study: Study, use: Use, path: Path) -> str:
    train = study.models[str(use.owner)].train
    assert train is not None
    component = train.mixture[int(use.part.removeprefix("mixture."))]
    columns = component_columns(component, dpo=train.method == "dpo")
    return digest([list(one) for one in of_file(path, columns, component.limit)])


def _judge(study: Study, use: Use) -> JudgeSection:
    """The judge that a file belongs to."""
    return study.judgements.judges[use.key.split(".")[2]]


def _contrast(study: Study, use: Use, path: Path) -> str:
    judge = _judge(study, use)
    assert isinstance(judge, ContrastSection)
    return digest(read_contrast(path, judge).rows())


def _keys(study: Study, use: Use, path: Path) -> str:
    judge = _judge(study, use)
    assert isinstance(judge, ReferenceSection)
    return keys_digest(read_keys(path, judge.prompt, judge.key))


_READERS: dict[str, Callable[[Study, Use, Path], str]] = {
    "contrast": _contrast,
    "examples": _examples,
    "keys": _keys,
    "minimal-pairs": lambda study, _, path: digest(
        read_minimal_pairs(path, study.understanding.limit).rows()
    ),
    "prompts": _prompts,
    "questions": lambda _study, _use, path: digest(read_questions(path).rows()),
    "responses": lambda _study, _use, path: digest(given_responses(path)),
    "template": lambda _study, _use, path: digest(read_wording(path)),
}
"""How the digest of a local file is computed; models and folders are input files instead."""


def chat_template(study: Study, model: str) -> str | None:
    """The text of a model's chat template; None if the study names no file for it.

    Raises:
        StudyError: the file is missing or does not match the digest.
    """
    template, key = study.models[model].chat.template, f"models.{model}.chat.template"
    if not is_address(template):
        return None
    path = local_path(study, template, key)
    wanted = parse(template).sha256
    if wanted is not None and sha256_file(path) != wanted:
        raise StudyError(
            f"`{key}`: {path} does not match the digest of its address; its sha256 is "
            f"{sha256_file(path)}"
        )
    return read_text(path)


def task_contents(study: Study) -> dict[str, str | None]:
    """Digests of the tasks of `utility.folder`; None for lm-eval's own tasks.

    Raises:
        StudyError: a task is not YAML, or lacks its data.
    """
    utility = study.utility
    local = local_tasks(Path(utility.folder)) if utility.tasks else {}
    return {name: task_digest(local[name]) if name in local else None for name in utility.tasks}


def sources(study: Study) -> dict[str, list[str]]:
    """Every source that must be fetched: a path-safe name and its addresses, in order.

    Local files are used in place and are not included.
    """
    return {
        source_name(use.text): addresses(study, use.text)
        for use in study.uses()
        if use.rule is not None and not is_local(study, use.text)
    }


def source_name(text: str) -> str:
    """The results folder of a source: its name, or a name derived from its address."""
    return slug(text) if is_address(text) else text


def addresses(study: Study, text: str) -> list[str]:
    """The addresses of a source, in the order of attempts."""
    return [text] if is_address(text) else study.sources[text]


def is_local(study: Study, text: str) -> bool:
    """Whether a source is a single `file:` address without a digest to check."""
    found = [parse(one) for one in addresses(study, text)]
    return len(found) == 1 and found[0].kind == "file" and found[0].sha256 is None


def local_path(study: Study, text: str, key: str) -> Path:
    """The path of a local source.

    Raises:
        StudyError: there is no such file or folder.
    """
    path = Path(_local(study, text).name)
    try:
        path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        what = "there is no such file or folder" if missing else f"{error.strerror}"
        raise StudyError(f"`{key}`: {path}: {what} (seen from {Path.cwd()})") from error
    return path


def source_place(
    study: Study, made: Path, text: str, key: str, content: str | None = None
) -> SourceLocation:
    """The location of a source for a job: a local path, or a fetched folder of the results.

    Args:
        study: the study.
        made: its results folder.
        text: a source's name or address.
        key: the config key, for messages.
        content: digest of the content of a local file that is not an input file.

    Raises:
        StudyError: a local source is missing.
    """
    if is_local(study, text):
        return SourceLocation(path=local_path(study, text, key), content=content)
    place = made / "sources" / source_name(text)
    return SourceLocation(path=place, record=Path(f"{place}.json"))


def _local(study: Study, text: str) -> Address:
    return parse(addresses(study, text)[0])


def local_files_of(study: Study, text: str, key: str) -> list[str]:
    """The files of a local source that a job reads and that are tracked as its inputs.

    Raises:
        StudyError: there are none, or Snakemake would misread the name of a file.
    """
    files = [str(path) for path in local_files(local_path(study, text, key))]
    for path in filter(special, files):
        raise StudyError(
            f"`{key}`: {path}: its name holds {{, }}, < or >, which Snakemake reads as "
            "placeholders. Rename the file"
        )
    return files
