"""Where sources lie: fetched ones in the results, local ones where they are."""

from pathlib import Path

from lesion.io.addresses import Address, is_address, local_files, parse, slug, special
from lesion.sources.jobs import Place
from lesion.study import Study, StudyError, Template
from lesion.study.training_checks import training_sources


def made(study: Study) -> Path:
    """The results folder of a study."""
    return Path(study.results) / study.study


def templates(study: Study) -> dict[str, Template]:
    """The templates that some attack asks for."""
    known = study.responses.templates
    return {name: known[name] for name in study.responses.attacks if name in known}


def template_key(name: str) -> str:
    """The key of a template's source, for messages."""
    return f"responses.templates.{name}.source"


def sources(study: Study) -> dict[str, list[str]]:
    """Every source that has to be fetched: a path-safe name and its addresses, in order.

    Local files are used where they lie, and are not among them.
    """
    used = list(training_sources(study).values())
    for behaviour in study.behaviours.values():
        used += [text for text in (behaviour.source, behaviour.responses) if text is not None]
    used += [template.source for template in templates(study).values()]
    used += [study.judgements.human_scores, study.judgements.embedder]
    used += [] if study.understanding.twins is None else [study.understanding.twins]
    used += study.judgements.judge_sources.values()
    return {source_name(text): addresses(study, text) for text in used if not is_local(study, text)}


def source_name(text: str) -> str:
    """The results folder of a source: its own name, or one made of its address."""
    return slug(text) if is_address(text) else text


def addresses(study: Study, text: str) -> list[str]:
    """The addresses of a source, in the order in which they are tried."""
    return [text] if is_address(text) else study.sources[text]


def is_local(study: Study, text: str) -> bool:
    """Whether a source is a single `file:` address without a digest to check."""
    found = [parse(one) for one in addresses(study, text)]
    return len(found) == 1 and found[0].kind == "file" and found[0].sha256 is None


def local_path(study: Study, text: str, key: str) -> Path:
    """The path of a local source.

    Raises:
        StudyError: there is nothing there.
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
) -> Place:
    """Where a job finds a source: a local path, or a fetched folder of the results.

    Args:
        study: the study.
        made: its results folder.
        text: a source's name or address.
        key: of the config, for messages.
        content: digest of what the job uses of a local file that is no input of it.

    Raises:
        StudyError: a local one is not there.
    """
    if is_local(study, text):
        return Place(path=local_path(study, text, key), content=content)
    place = made / "sources" / source_name(text)
    return Place(path=place, record=Path(f"{place}.json"))


def _local(study: Study, text: str) -> Address:
    return parse(addresses(study, text)[0])


def local_files_of(study: Study, text: str, key: str) -> list[str]:
    """Files of a local source that a job reads, to be tracked as its inputs.

    Raises:
        StudyError: there are none, or Snakemake would misread the name of one.
    """
    files = [str(path) for path in local_files(local_path(study, text, key))]
    for path in filter(special, files):
        raise StudyError(
            f"`{key}`: {path}: its name holds {{, }}, < or >, with which Snakemake marks what it "
            "fills in. Rename the file"
        )
    return files
