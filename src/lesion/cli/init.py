"""The command that writes a study of one's own."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from lesion.cli.app import app, path_of
from lesion.cli.studies import say_next, typed
from lesion.io.formats import BadFile, LesionError
from lesion.io.texts import parse_yaml
from lesion.study.types import as_name

_Read = TypeVar("_Read")

DEFAULT_MODEL = "default"
_COLUMNS = ("prompt", "goal", "behavior", "instruction", "question", "request", "text")
"""Columns in which data sets of requests have them, by preference."""
_HUB = re.compile(r"(hf:|https?://[^/]+/)?(?P<name>[\w.-]+/[\w.-]+)(@(?P<commit>[\w.-]+))?")
_SECONDS = 5.0
"""The patience with the hub."""

_MATCHED = (
    "  # A harmless counterpart of each request, in the same words: a table with the columns",
    "  # `harmful` and `harmless`. Without it no claim about harm can be supported, because the",
    "  # effect could be one on the topic.",
)

_SEED = "seed: 0\n"
_SEED_REMARK = (
    "# Prompts are drawn into train, validation and test by this seed, which was chosen so that",
    "# no split has too few of them, if that can be.",
)

Preset = Annotated[
    str,
    typer.Option(
        help="How much is measured: `quick`, `standard`, `full`, or `paper`; `lesion reference` "
        "explains them under `preset`."
    ),
]


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the study; NAME.yaml is written.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model: `hf:org/name`, a folder with safetensors, a GGUF file, or `default` "
            "(SmolLM2-135M-Instruct, from PyPI).",
            show_default=False,
        ),
    ] = None,
    harm: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path_of,
            metavar="<file>",
            help="Prompts of one harm type, whose name is the file's: JSONL, CSV, TSV or parquet "
            "with a column `prompt`. May be given several times.",
            show_default=False,
        ),
    ] = None,
    preset: Preset = "standard",
    force: Annotated[bool, typer.Option(help="Replace a file of this name.")] = False,
) -> None:
    """Write a short study of a model and your own harm types.

    What is not given is asked for, if this is a terminal, and again after a wrong answer. Every
    harm type needs at least 12 prompts; for an effect of usual size, give 40 or more. The study's
    seed is chosen by the sizes of the splits, so that none has too few prompts if that can be.
    """
    from lesion.io.formats import atomic
    from lesion.plan import checks
    from lesion.plan.seeds import fullest_seed
    from lesion.study import NAME, load_study, read_configs
    from lesion.study.presets import presets

    file = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not NAME.fullmatch(file.stem):
        raise LesionError(f"`{file.stem}` is no name: use small letters, digits, `-` and `_`.")
    if file.exists() and not force:
        raise LesionError(f"{file} exists. Give another name, or --force to replace it.")
    if preset not in presets():
        raise LesionError(f"there is no preset `{preset}`. Known: {', '.join(presets())}.")
    asking = sys.stdin.isatty()
    if model is None and asking:
        source = typer.prompt("Model", default=DEFAULT_MODEL, value_proc=_asked(_model_source))
    else:
        source = _model_source(model or DEFAULT_MODEL)

    def write(harms: Sequence[Path]) -> None:
        text = _study_text(file.stem, source, harms, preset)
        with atomic(file) as part:
            part.write_text(text, encoding="utf-8")
            studies = [
                load_study(read_configs([part], {"preset": size}), str(file))
                for size in dict.fromkeys((preset, "quick"))
            ]
            seed = fullest_seed(studies)
            part.write_text(text.replace(_SEED, f"seed: {seed}\n"), encoding="utf-8")
            study = load_study(read_configs([part]), str(file))
            checks.check_splits(study)

    if harm:
        write(harm)
    elif asking:
        typer.prompt(
            "File of harmful prompts (several: separate them by spaces)",
            value_proc=_asked(lambda answer: write([path_of(part) for part in _words(answer)])),
        )
    else:
        raise LesionError("give at least one file of harmful prompts: --harm my/phishing.jsonl")
    typer.echo(f"wrote {file}")
    say_next(f"lesion check {typed([file])}")


def _asked(read: Callable[[str], _Read]) -> Callable[[str], _Read]:
    """Reads an answer; what is wrong with it is printed, and the question is put again."""

    def read_or_ask_again(answer: str) -> _Read:
        try:
            return read(answer)
        except LesionError as error:
            raise typer.BadParameter(str(error)) from error

    return read_or_ask_again


def _words(answer: str) -> list[str]:
    try:
        return shlex.split(answer)
    except ValueError as error:  # a quote without its end
        raise LesionError(f"{answer}: {error}") from error


def _study_text(name: str, model: tuple[str, str, str], harms: Sequence[Path], preset: str) -> str:
    """The YAML of a study, with comments; the model is what `_model_source` returns."""
    label, source, remark = model
    lines = [
        f"# {name}: which weights of this model do these harm types depend on?",
        f"# Results go to results/{name}, after this file's name.",
        "# What is not said here is the preset's; `lesion reference` explains every key.",
        f"preset: {preset}",
        *_SEED_REMARK,
        _SEED.rstrip(),
        "",
        "models:",
        *([f"  # {remark}"] if remark else []),
        f"  {_quoted(label)}: {{source: {_quoted(source)}}}",
        "",
        "behaviours:",
    ]
    names = [_harm_name(path) for path in harms]
    for harm, path in zip(names, harms, strict=True):
        if names.count(harm) > 1:
            raise LesionError(f"{path}: two files would be the harm type `{harm}`; rename one.")
        column = _prompt_column(path)
        own = "" if column == "prompt" else f", prompt: {_quoted(column)}"
        lines.append(f"  {_quoted(harm)}: {{role: harm, source: {_quoted(f'file:{path}')}{own}}}")
        matched = path.with_name(f"{path.stem}-matched{path.suffix}")
        source = _quoted(f"file:{matched}")
        line = f"{harm}-matched: {{role: matched, of: {_quoted(harm)}, source: {source}}}"
        lines += [f"  {line}"] if matched.exists() else [*_MATCHED, f"  # {line}"]
    return "\n".join(lines) + "\n"


def _model_source(model: str) -> tuple[str, str, str]:
    """A model's name in the study, its address, and a comment."""
    path = Path(model.removeprefix("file:")).expanduser()
    if model == DEFAULT_MODEL:
        from lesion.io.bundle import bundle
        from lesion.io.texts import read_yaml

        ((name, settings),) = read_yaml(bundle() / "config.yaml")["models"].items()
        sources = read_yaml(bundle() / "config.yaml")["sources"]
        return name, sources[settings["source"]], "Small and weakly aligned: a model to try out."
    if path.exists():
        if path.is_dir():
            from lesion.models.files import check_holds_weights

            check_holds_weights(path)
        name = as_name(path.stem if path.is_file() else path.resolve().name)
        return name or "model", f"file:{path}", ""
    if model.startswith((".", "/", "~", "file:")):
        raise LesionError(f"{path}: there is no such file or folder.")
    if match := _HUB.fullmatch(model):
        name, commit = match["name"], match["commit"] or _commit(match["name"])
        remark = "" if commit else "Pin a commit in place of `main` before numbers are published."
        return as_name(name.partition("/")[2]) or "model", f"hf:{name}@{commit or 'main'}", remark
    raise LesionError(
        f"`{model}` is no file here, and no model of the hub. Give hf:org/name, a folder with "
        "safetensors, a GGUF file, or `default`."
    )


def _commit(repository: str) -> str | None:
    """The commit that the hub's `main` is now; None if the hub can't be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return HfApi().model_info(repository, timeout=_SECONDS).sha
    except RepositoryNotFoundError as error:
        raise LesionError(
            f"the hub has no model {repository}, or you have no access to it. Check the name, or "
            "log in with `hf auth login`."
        ) from error
    except Exception:  # whatever a proxy or a resolver raises
        return None


def _prompt_column(path: Path) -> str:
    """The column of a file of prompts, all of whose rows are checked."""
    from lesion.pairs.jobs import RowSelection
    from lesion.pairs.prompts import select_prompts
    from lesion.pairs.rows import check_columns, read_rows
    from lesion.study import MIN_PROMPTS

    rows = read_rows(path)
    known = [name for name in _COLUMNS if name in rows.columns]
    if not known:
        try:
            check_columns(rows, ["prompt"], path)
        except BadFile as error:
            raise LesionError(f"{error}. Call the column with the requests `prompt`") from None
    column = known[0]
    chosen = select_prompts(rows, path, RowSelection(prompt=column), MIN_PROMPTS)
    typer.echo(f"{path}: {chosen.height} prompts in the column `{column}`")
    return column


def _harm_name(path: Path) -> str:
    """The name of a harm type, after its file."""
    from lesion.study.presets import with_preset

    name = as_name(path.stem) or "harm"
    taken = with_preset({"preset": "standard"})["behaviours"]
    return f"{name}-harm" if name in taken else name


def _quoted(text: str) -> str:
    """A text as YAML reads it as a text."""
    plain = re.fullmatch(r"[\w./@-]+", text) and parse_yaml(text, Path()) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
