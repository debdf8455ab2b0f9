"""The locations of sources, and the files and contents that a job depends on.

A job's specification contains the digest of the rows or the text that it reads from a local file,
so touching or reformatting the file makes nothing stale. Only fetched sources, local models and
local folders are input files. Where Snakemake copies files (`lesion.io.staging`), every local
source counts as fetched.

Every function raises a `LesionError` if a local file that it needs is missing or unusable, or if
Snakemake would misread its name; the message names the config key.
"""

from pathlib import Path

from lesion.io.addresses import is_address, local_files, parse, slug, special
from lesion.io.bundle import portable
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
from lesion.study import MIN_PROMPTS, Study, StudyError
from lesion.study.job import specify
from lesion.study.judges import ContrastSection, ReferenceSection
from lesion.study.sources import Use, uses
from lesion.training.examples import component_columns, of_file

_TRACKED = ("model", "weights", "folder")
"""Readers of local files and folders that are input files; the others digest what they read."""


def inputs(study: Study, rule: str, owner: str | None = None) -> list[Path]:
    """The source files that are inputs of a job: records of fetched sources, and local models."""
    files: list[Path] = []
    for use in _uses(study, rule, owner):
        if not is_local(study, use.text):
            files.append(study.folder / "sources" / f"{source_name(use.text)}.json")
        elif use.reader in _TRACKED:
            files += local_inputs(study, use)
    return files


def places(study: Study, rule: str, owner: str | None = None) -> dict[str, SourceLocation]:
    """The location of each of a job's sources, by its part (see `Use`)."""
    return {
        use.part: source_place(study, study.folder, use.text, use.key, content(study, use))
        for use in _uses(study, rule, owner)
    }


def _uses(study: Study, rule: str, owner: str | None) -> list[Use]:
    return [use for use in uses(study) if use.rule == rule and use.owner == owner]


def content(study: Study, use: Use) -> str | None:
    """Digest of the content read from a local file; None if it is fetched or an input file."""
    if use.reader in _TRACKED or not is_local(study, use.text):
        return None
    path, owner = local_path(study, use.text, use.key), str(use.owner)
    match use.reader:
        case "prompts":
            chosen = specify(RowSelection, study.behaviours[owner])
            return digest(select_prompts(read_rows(path), path, chosen, MIN_PROMPTS).rows())
        case "responses":
            return digest(given_responses(path))
        case "examples":
            train = study.trainings[owner]
            component = train.mixture[int(use.part.removeprefix("mixture."))]
            columns = component_columns(component, dpo=train.method == "dpo")
            return digest([list(example) for example in of_file(path, columns, component.limit)])
        case "template":
            return digest(read_wording(path))
        case "questions":
            return digest(read_questions(path).rows())
        case "minimal-pairs":
            return digest(read_minimal_pairs(path, study.understanding.limit).rows())
    judge = study.judgements.judges[use.key.split(".")[2]]
    if isinstance(judge, ContrastSection):
        return digest(read_contrast(path, judge).rows())
    if isinstance(judge, ReferenceSection):
        return keys_digest(read_keys(path, judge.prompt, judge.key))
    return sha256_file(path)


def chat_template(study: Study, model: str) -> str | None:
    """The text of a model's chat template; None if the study names no file for it."""
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
    """Digests of the tasks of `utility.folder`; None for lm-eval's own tasks."""
    utility = study.utility
    local = local_tasks(Path(utility.folder)) if utility.tasks else {}
    return {name: task_digest(local[name]) if name in local else None for name in utility.tasks}


def sources(study: Study) -> dict[str, list[str]]:
    """Every source that must be fetched: a path-safe name and its addresses, in order.

    Local files are used in place and are not included.
    """
    return {
        source_name(use.text): addresses(study, use.text)
        for use in uses(study)
        if use.rule is not None and not is_local(study, use.text)
    }


def source_name(text: str) -> str:
    """The results folder of a source: its name, or a name derived from its address."""
    # The files that come with lesion have other paths on other machines.
    return slug(portable(text)) if is_address(text) else text


def addresses(study: Study, text: str) -> list[str]:
    """The addresses of a source, in the order of attempts."""
    return [text] if is_address(text) else study.sources[text]


def is_local(study: Study, text: str) -> bool:
    """Whether a source is read where it lies, and not fetched."""
    return not study.copies_sources and is_file(study, text)


def copied_inputs(study: Study, name: str) -> list[Path]:
    """The local files of a source that is fetched though it lies here (see `copies_sources`)."""
    named = [use for use in uses(study) if use.rule and source_name(use.text) == name]
    if not study.copies_sources or not named or not is_file(study, named[0].text):
        return []
    return local_inputs(study, named[0])


def copied_content(study: Study, name: str) -> str | None:
    """Digest of these files, whose dates may be older than what was copied; None if there are none,
    or if they are of a model or a data set's folder, which have a date but are large.
    """
    readers = {use.reader for use in uses(study) if source_name(use.text) == name}
    files = copied_inputs(study, name) if readers.isdisjoint(_TRACKED) else []
    return digest([sha256_file(path) for path in files]) if files else None


def is_file(study: Study, text: str) -> bool:
    """Whether a source is a single `file:` address without a digest to check."""
    parsed = [parse(address) for address in addresses(study, text)]
    return len(parsed) == 1 and parsed[0].kind == "file" and parsed[0].sha256 is None


def local_path(study: Study, text: str, key: str) -> Path:
    """The path of a local source."""
    path = Path(parse(addresses(study, text)[0]).name)
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
    """The location of a source for a job: a local path, or a fetched folder of the results `made`.

    `content` is the digest of the content of a local file that is not an input file.
    """
    if is_local(study, text):
        return SourceLocation(path=local_path(study, text, key), content=content)
    place = made / "sources" / source_name(text)
    return SourceLocation(path=place, record=Path(f"{place}.json"))


def local_inputs(study: Study, use: Use) -> list[Path]:
    """The files of a local source that a job reads and that are tracked as its inputs."""
    files = local_files(local_path(study, use.text, use.key))
    for path in files:
        if special(str(path)):
            raise StudyError(
                f"`{use.key}`: {path}: its name holds {{, }}, < or >, which Snakemake reads as "
                "placeholders. Rename the file"
            )
    return files
