"""Commands that begin a study of one's own: write its file, run it, open its page."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lesion.cli.app import app, path_of
from lesion.cli.studies import ConfigFiles, read_study, typed
from lesion.io.formats import BadFile, LesionError
from lesion.io.texts import parse_yaml
from lesion.study.types import as_name

if TYPE_CHECKING:
    from lesion.study import Study

_Read = TypeVar("_Read")

DEFAULT_MODEL = "default"
_COLUMNS = ("prompt", "goal", "behavior", "instruction", "question", "request", "text")
"""Columns in which data sets of requests have them, by preference."""
_HUB = re.compile(r"(hf:|https?://[^/]+/)?(?P<name>[\w.-]+/[\w.-]+)(@(?P<commit>[\w.-]+))?")
_SECONDS = 5.0
"""The patience with the hub."""

_OF_STUDIES = ("--config", "-C", "--configfile", "--configfiles", "--snakefile", "-s")
"""Options of Snakemake that say which study is run."""
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
    _next(f"lesion check {typed([file])}")


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


@app.command("run")
def run_study(
    context: typer.Context,
    config: ConfigFiles = None,
    quick: Annotated[
        bool,
        typer.Option(help="A first look in minutes: the preset `quick`, in results/NAME-quick."),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Run on a cluster: `slurm`, `kubernetes` or `cluster-generic` "
            "(docs/how-to/cluster.md).",
            show_default=False,
        ),
    ] = None,
    cores: Annotated[str, typer.Option(help="Cores of this machine to use.")] = "all",
) -> None:
    """Run what is stale of a study, and print its summary.

    Snakemake does the work: an interrupted run goes on where it stopped, and a changed study runs
    only what changed. What follows `--` goes to Snakemake, such as `-- -n` for what would run.
    """
    from lesion.plan import checks

    study = read_study(config, quick=quick)
    files = config or [Path("config.yaml")]
    checks.check_study(study)
    checks.check_splits(study)
    command = snakemake_command(files, study.study, quick=quick, cluster=cluster, cores=cores)
    given: list[str] = context.obj or []
    for option in _OF_STUDIES:
        if any(word == option or word.startswith(f"{option}=") for word in given):
            raise LesionError(
                f"{option} can't follow `--`, because lesion reads the study's files itself. Write "
                "the keys into a second file, which is laid over the first: lesion run A B"
            )
    command += given
    typer.echo(shlex.join(["snakemake", *command[3:]]), err=True)
    process = subprocess.Popen(command)
    # Ctrl-C reaches Snakemake too, which ends its jobs and then itself.
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    signal.signal(signal.SIGINT, usual)
    if status:
        typer.echo(
            f"lesion: the run of `{study.study}` stopped; its message is above. The logs of its "
            f"jobs are in {study.folder}/logs. After a job's failure, the same command goes on.",
            err=True,
        )
        raise typer.Exit(status if status > 0 else 1)
    page = study.folder / "report" / "index.html"
    if page.exists() and not given:
        from lesion.report.summary import print_summary

        print_summary(study.folder / "tables", page)
        _next(f"lesion open {typed(config or [])}{' --quick' if quick else ''}")


def snakemake_command(
    files: Sequence[Path], study: str, *, quick: bool, cluster: str | None, cores: str
) -> list[str]:
    """The command that runs a study, from any folder."""
    from lesion.io.bundle import bundle

    command = [sys.executable, "-m", "snakemake", "--snakefile", str(bundle() / "Snakefile")]
    command += ["--configfile", *map(str, files)]
    if quick:
        command += ["--config", "preset=quick", f"study={study}"]
    if cluster is None:
        return [*command, "--cores", cores]
    profiles = bundle() / "workflow" / "profiles"
    if not (profiles / cluster / "profile.yaml").is_file():
        known = sorted(path.parent.name for path in profiles.glob("*/profile.yaml"))
        raise LesionError(
            f"there is no cluster `{cluster}`. Known: "
            f"{', '.join(name for name in known if name != 'default')}."
        )
    return [*command, "--workflow-profile", str(profiles / cluster)]


@app.command("open")
def open_page(
    config: ConfigFiles = None,
    quick: Annotated[bool, typer.Option(help="The page of `lesion run --quick`.")] = False,
) -> None:
    """Open a finished study's page in the browser, and print its path."""
    study = read_study(config, quick=quick)
    page = study.folder / "report" / "index.html"
    if not page.exists():
        raise LesionError(
            f"{page}: is not there yet. Run the study first: lesion run {typed(config or [])}"
            f"{' --quick' if quick else ''}"
        )
    typer.echo(page)
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("No browser could be started here; open this file in one.")


def _next(command: str) -> None:
    typer.echo(f"next: {command}")


@app.command()
def plan(
    config: ConfigFiles = None,
    quick: Annotated[bool, typer.Option(help="The plan of `lesion run --quick`.")] = False,
) -> None:
    """Say what a study takes before it runs: jobs, time, memory and disk.

    The times were measured on one machine; yours may take half or twice as long, and a processor
    without bf16 longer. Nothing is fetched: the Hugging Face hub is asked for the size of a model
    that is not here yet; where that is impossible, its name may say it (such as 8B), and otherwise
    it counts as one of a billion weights.
    """
    import psutil
    from rich.console import Console
    from rich.table import Table

    from lesion.plan import checks, estimate

    study = read_study(config, quick=quick)
    checks.check_study(study)
    rows = estimate.estimates(study)
    table = Table("stage", "jobs", "hours", "memory (GB)", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.rule, str(row.jobs), _hours(row.seconds), f"{row.memory / 1000:.1f}")
    hours, memory = sum(row.seconds for row in rows), max(row.memory for row in rows)
    what = "GPU" if estimate.on_gpu(study) else "core"
    jobs = sum(row.jobs for row in rows)
    table.add_row("all", str(jobs), _hours(hours), f"{memory / 1000:.1f}")
    Console(file=sys.stdout, width=80, highlight=False).print(table)
    disk = estimate.disk_bytes(study)
    typer.echo(
        f"{', '.join(study.models)}: {jobs} jobs, about {_hours(hours)} {what} hours, "
        f"{memory / 1000:.1f} GB of memory for the largest job, {disk / 10**9:.1f} GB of disk in "
        f"{study.folder}"
    )
    assumed = estimate.assumed_sizes(study)
    if not assumed:
        for problem in _too_large(study, disk, memory, psutil.virtual_memory().total):
            typer.echo(f"warning: {problem}", err=True)
    for model, size in assumed.items():
        typer.echo(
            f"warning: `{model}` is not here yet, and the hub did not say its size; {size}. All "
            "numbers are in proportion to them.",
            err=True,
        )
    _next(f"lesion run {typed(config or [])}{' --quick' if quick else ''}")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds < 36000 else f"{seconds / 3600:.0f}"


def _too_large(study: "Study", disk: int, memory: int, total: int) -> list[str]:
    """What this machine does not have."""
    from lesion.plan.outputs import score_tail

    problems = []
    place = next(path for path in (study.folder, *study.folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if disk > free:
        advice = (
            ""
            if score_tail(study)
            else " Most of it are scores: `scores.tail` stores the needed "
            "ones alone (docs/explanation/scoring.md)."
        )
        problems.append(
            f"{study.folder} has {free / 10**9:.0f} GB of free disk. Set `results` to a larger "
            f"disk.{advice}"
        )
    if memory * 10**6 > total:
        problems.append(
            f"this machine has {total / 10**9:.0f} GB of memory. Run on a larger one, or on a "
            "cluster (docs/how-to/cluster.md)."
        )
    return problems
