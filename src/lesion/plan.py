"""What each job gets: its slice of the study, and the digest of the code that its stage runs.

A job is stale exactly when something here that belongs to it changes. Slices are plain dicts
with sorted keys, because Snakemake stores params as a list of values without their names
(exchanging p and q would go unnoticed).
"""

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lesion.addresses import Address, is_address, local_files, parse, slug
from lesion.formats import BadFile, digest
from lesion.masks.select import size_of
from lesion.models.record import candidate_shapes
from lesion.pairs.prompts import given_responses, read_rows, select
from lesion.responses.attacks import read_wording
from lesion.responses.tasks import local_tasks, task_digest
from lesion.responses.twins import read_twins
from lesion.study import MIN_PROMPTS, Behaviour, Study, StudyError, Template

_PACKAGE = Path(__file__).parent


@cache
def code(script: Path, *modules: str) -> str:
    """Digest of what a script and modules do: theirs and what the modules import of `lesion`.

    Comments, docstrings and layout don't count. `lesion.study` doesn't either: what it decides
    for a job is in the job's slice. Nor do the script's own imports, but for the modules given:
    how logs are written decides no result.

    Args:
        script: the rule's script.
        modules: names such as `lesion.scores.run`.
    """
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        module = todo.pop()
        path = _file(module)
        if path is None or module in found or _decides_by_slice(module):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        todo += _imports(tree)
        found[module] = ast.dump(_without_docstrings(tree))
    data = [path.read_text(encoding="utf-8") for path in _data_files(found)]
    own = ast.dump(_without_docstrings(ast.parse(script.read_text(encoding="utf-8"))))
    return digest([own, sorted(found.items()), data])[:16]


def _decides_by_slice(module: str) -> bool:
    return module == "lesion" or module.split(".")[1] == "study"


def _file(module: str) -> Path | None:
    base = _PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lesion"):
            yield str(node.module)
            # `from lesion.masks import select` names a module too.
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (n.name for n in node.names if n.name.startswith("lesion"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        node.body = [  # type: ignore[attr-defined]
            line
            for line in body
            if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        ] or [ast.Pass()]
    return tree


def _data_files(modules: Iterable[str]) -> list[Path]:
    """Templates and the like beside the modules that name them, which are code as well."""
    found = set()
    for path in filter(None, map(_file, modules)):
        text = path.read_text(encoding="utf-8")
        beside = (one for one in path.parent.iterdir() if one.suffix in (".j2", ".css", ".js"))
        found |= {one for one in beside if one.name in text}
    return sorted(found)


def sources(study: Study) -> dict[str, list[str]]:
    """Every source that has to be fetched: a path-safe name and its addresses, in order.

    Local files are used where they lie, and are not among them.
    """
    used = [model.source for model in study.models.values()]
    for behaviour in study.behaviours.values():
        used += [text for text in (behaviour.source, behaviour.responses) if text is not None]
    used += [template.source for template in templates(study).values()]
    used += [study.judgements.human_scores, study.judgements.embedder]
    used += [] if study.understanding.twins is None else [study.understanding.twins]
    used += study.judgements.judge_sources.values()
    return {
        source_name(text): _addresses(study, text) for text in used if not is_local(study, text)
    }


def source_name(text: str) -> str:
    """The results folder of a source: its own name, or one made of its address."""
    return slug(text) if is_address(text) else text


def _addresses(study: Study, text: str) -> list[str]:
    return [text] if is_address(text) else study.sources[text]


def is_local(study: Study, text: str) -> bool:
    """Whether a source is a single `file:` address without a digest to check."""
    addresses = [parse(one) for one in _addresses(study, text)]
    return len(addresses) == 1 and addresses[0].kind == "file" and addresses[0].sha256 is None


def local_path(study: Study, text: str, key: str) -> Path:
    """The path of a local source.

    Raises:
        StudyError: there is nothing there.
    """
    path = Path(_local(study, text).name).expanduser()
    if not path.exists():
        raise StudyError(
            f"`{key}`: {path}: there is no such file or folder (seen from {Path.cwd()})"
        )
    return path


def _local(study: Study, text: str) -> Address:
    return parse(_addresses(study, text)[0])


def source_slice(study: Study, name: str) -> dict[str, Any]:
    """What the job that fetches a source gets."""
    return {"addresses": sources(study)[name]}


def local_files_of(study: Study, text: str, key: str) -> list[str]:
    """Files of a local source that a job reads, to be tracked as its inputs."""
    return [str(path) for path in local_files(local_path(study, text, key))]


def prompts_slice(study: Study, name: str) -> dict[str, Any]:
    """What decides a behaviour's prompts and their splits.

    For a local file that is the selected rows' content, so that touching, reformatting, or
    editing rows of another behaviour leaves this one alone.

    Raises:
        LesionError: the file is missing, has no such column, or gives too few prompts.
    """
    behaviour = study.behaviours[name]
    selection = {
        "prompt": behaviour.prompt,
        "response": behaviour.response,
        "where": behaviour.where.model_dump() if behaviour.where else None,
        "limit": behaviour.limit,
    }
    return {
        "behaviour": name,
        "content": _content(study, name, behaviour, selection),
        "near_duplicate": study.pairs.near_duplicate,
        "need": MIN_PROMPTS,
        "responses": _given_responses(study, name, behaviour),
        "seed": study.seed,
        "select": selection,
        "shares": study.pairs.split.model_dump(),
    }


def _content(
    study: Study, name: str, behaviour: Behaviour, selection: dict[str, Any]
) -> str | None:
    if not is_local(study, behaviour.source):
        return None
    path = local_path(study, behaviour.source, f"behaviours.{name}.source")
    return digest(select(read_rows(path), path, selection, MIN_PROMPTS).rows())


def _given_responses(study: Study, name: str, behaviour: Behaviour) -> list[str]:
    """Local given responses, so that editing their file is noticed."""
    if behaviour.responses is None or not is_local(study, behaviour.responses):
        return []
    path = local_path(study, behaviour.responses, f"behaviours.{name}.responses")
    return given_responses(path)


def pairs_slice(study: Study, name: str) -> dict[str, Any]:
    """What decides a behaviour's responses."""
    pairs = study.pairs
    return {
        "behaviour": name,
        "device_map": study.device_map,
        "dtype": study.responses.dtype,
        "max_new_tokens": pairs.max_new_tokens,
        "prefill": pairs.prefill,
        "role": study.behaviours[name].role,
        "batch_size": pairs.batch_size,
        "threads": study.threads,
    }


def scores_slice(study: Study, name: str) -> dict[str, Any]:
    """How a behaviour is scored: preservation importance is taken of benign ones."""
    scores, role = study.scores, study.behaviours[name].role
    tail = scores.tail and {**scores.tail.model_dump(), "scope": study.masks.scope}
    return {
        "behaviour": name,
        "batch_tokens": scores.batch_tokens,
        "device_map": study.device_map,
        "dtype": scores.dtype,
        "memory": scores.memory.model_dump(),
        "norms": role != "benign" and wants_norms(study),
        "preservation": scores.preservation if role == "benign" else None,
        "save_minutes": scores.save_minutes,
        "shards": scores.shards,
        "tail": tail,
        "threads": study.threads,
    }


def wants_norms(study: Study) -> bool:
    """Whether scoring notes the inputs' norms: Wanda's control is made of them."""
    return "wanda" in {*study.masks.controls, *study.curve.families}


def _behaviours(study: Study) -> dict[str, list[str]]:
    return {role: study.of_role(role) for role in ("harm", "benign", "refusal")}


def _cut(study: Study) -> dict[str, Any]:
    masks = study.masks
    return {
        "at_least": masks.shared.at_least,
        "pool": masks.pool,
        "rule": masks.rule,
        "scope": masks.scope,
    }


def sweep_slice(study: Study) -> dict[str, Any]:
    """What decides the trials of (p, q)."""
    return {
        "batch_tokens": study.responses.batch_tokens,
        "behaviours": {**_behaviours(study), "refusal": []},
        "cut": _cut(study),
        "device_map": study.device_map,
        "dtype": study.responses.dtype,
        "p": study.masks.p,
        "q": study.masks.q,
        "threads": study.threads,
    }


def masks_slice(study: Study) -> dict[str, Any]:
    """What decides the masks, given the scores and the sweep."""
    return {
        "behaviours": _behaviours(study),
        "controls": study.masks.controls,
        "cut": _cut(study),
        "max_benign_increase": study.masks.max_benign_increase,
        "seed": study.seed,
    }


def checkpoint_slice(study: Study, model: str) -> dict[str, Any]:
    """What decides a checkpoint beside model and mask."""
    return {"base": model, "license": study.models[model].license}


def model_slice(study: Study, model: str) -> dict[str, Any]:
    """What decides a checkpoint folder beside its source."""
    return {"dtype": study.models[model].dtype, "license": study.models[model].license}


def evaluated(study: Study) -> dict[str, str]:
    """Behaviours on whose test prompts variants are evaluated, with their roles, harm first."""
    return {name: role for role in ("harm", "benign") for name in study.of_role(role)}


def device(study: Study) -> dict[str, Any]:
    """In what precision variants are asked, and where."""
    return {
        "device_map": study.device_map,
        "dtype": study.responses.dtype,
        "threads": study.threads,
    }


def measured(study: Study) -> dict[str, str]:
    """Behaviours on whose test pairs variants' NLL is taken, with their roles: refusal as well."""
    return {**evaluated(study), **dict.fromkeys(study.of_role("refusal"), "refusal")}


def templates(study: Study) -> dict[str, Template]:
    """The templates that some attack asks for."""
    known = study.responses.templates
    return {name: known[name] for name in study.responses.attacks if name in known}


def template_key(name: str) -> str:
    """The key of a template's source, for messages."""
    return f"responses.templates.{name}.source"


def _wordings(study: Study) -> dict[str, str]:
    """What local templates say, as a digest, so that editing them is noticed.

    Raises:
        BadFile: one is none.
    """
    return {
        name: digest(read_wording(local_path(study, template.source, template_key(name))))
        for name, template in templates(study).items()
        if is_local(study, template.source)
    }


def _prefills(study: Study) -> dict[str, str]:
    """What every attack makes the answer begin with."""
    begun = {name: template.prefill for name, template in templates(study).items()}
    built = {"direct": "", "prefill": study.pairs.prefill}
    return {name: (built | begun)[name] for name in study.responses.attacks}


def responses_slice(study: Study, variant: str) -> dict[str, Any]:
    """What decides a variant's completions and NLL, given model, mask and pairs."""
    responses = study.responses
    completes = variant in study.completed
    return {
        "attacks": _prefills(study) if completes else {},
        "batch_size": responses.batch_size,
        "batch_tokens": responses.batch_tokens,
        "benign_prompts": responses.benign_prompts if completes else 0,
        "device": device(study),
        "max_new_tokens": responses.max_new_tokens,
        "prefill": study.pairs.prefill,
        "roles": measured(study),
        "variant": variant,
        "wordings": _wordings(study),
    }


def curve_masks_slice(study: Study) -> dict[str, Any]:
    """What decides the masks of every size, given the scores and the sweep."""
    curve = study.curve
    return {
        "behaviours": _behaviours(study),
        "cut": _cut(study),
        "families": curve.families,
        "max_benign_increase": study.masks.max_benign_increase,
        "seed": study.seed,
        "seeds": curve.seeds,
        "sizes": curve.sizes,
    }


def curve_families(study: Study) -> list[str]:
    """Families that are measured at every size, and `intact` to compare with; none if off."""
    return ["intact", *study.curve.families] if study.curve.families else []


def answering_families(study: Study) -> list[str]:
    """Families with whose masks harmful prompts are completed."""
    return study.curve.families if study.curve.completions else []


def curve_slice(study: Study, family: str) -> dict[str, Any]:
    """What decides a family's NLLs and completions, given model, masks and pairs."""
    completing = {
        "batch_size": study.responses.batch_size,
        "max_new_tokens": study.responses.max_new_tokens,
        "prefill": study.pairs.prefill,
        "prompts": study.curve.prompts,
    }
    return {
        "batch_tokens": study.responses.batch_tokens,
        "completing": completing if study.curve.completions else None,
        "device": device(study),
        "family": family,
        "pairs": study.curve.pairs,
        "roles": evaluated(study),
    }


def understood(study: Study) -> list[str]:
    """Variants that are asked what they understand, `intact` first; none if that is off."""
    chosen = study.understanding.variants
    if study.understanding.twins is None:
        return []
    return study.variants if chosen is None else ["intact", *chosen]


def understanding_slice(study: Study, variant: str) -> dict[str, Any]:
    """What decides a variant's understanding, given model, mask and pairs.

    Raises:
        LesionError: the file of twins is missing or unfit.
    """
    asked, responses = study.understanding, study.responses
    return {
        "batch_size": responses.batch_size,
        "batch_tokens": responses.batch_tokens,
        "content": _twins(study),
        "device": device(study),
        "explain": asked.explain,
        "explain_prompts": asked.explain_prompts,
        "harms": study.of_role("harm"),
        "limit": asked.limit,
        "max_new_tokens": responses.max_new_tokens,
        "over_refusal": asked.over_refusal,
        "variant": variant,
    }


def _twins(study: Study) -> str | None:
    """Digest of the twins that are used of a local file, so that editing them is noticed."""
    twins = study.understanding.twins
    if twins is None or not is_local(study, twins):
        return None
    path = local_path(study, twins, "understanding.twins")
    return digest(read_twins(path, study.understanding.limit).rows())


def utility_slice(study: Study, variant: str) -> dict[str, Any]:
    """What decides a variant's scores in the tasks, given model and mask.

    An own task is known by its content, one of lm-eval by its name alone.

    Raises:
        StudyError: an own task is not YAML, or lacks its data.
    """
    utility = study.utility
    own = local_tasks(Path(utility.folder)) if utility.tasks else {}
    return {
        "batch_size": utility.batch_size,
        "chat": utility.chat,
        "device": device(study),
        "folder": utility.folder,
        "limit": utility.limit,
        "tasks": {name: task_digest(own[name]) if name in own else None for name in utility.tasks},
        "variant": variant,
    }


def judge_slice(study: Study) -> dict[str, Any]:
    """What decides the learned judge, given its data."""
    return {"seed": study.seed, "tokens": study.responses.max_new_tokens}


def extra_judge_slice(study: Study, judge: str) -> dict[str, Any]:
    """What decides a further judge's verdicts, given its files and the completions."""
    settings = study.judgements.judges[judge].settings
    machine = {"device_map": study.device_map, "threads": study.threads}
    return {"judge": judge, "machine": machine, "settings": settings}


def tables_slice(study: Study) -> dict[str, Any]:
    """What decides the tables, given everything measured."""
    return {
        "answering": answering_families(study),
        "behaviours": _behaviours(study),
        "confidence": study.tables.confidence,
        "config": study.model_dump(exclude={"report"}),
        "families": curve_families(study),
        "judges": list(study.judgements.judges),
        "lookalikes": bool(understood(study)) and study.understanding.over_refusal > 0,
        "near_duplicate": study.pairs.near_duplicate,
        "resamples": study.tables.resamples,
        "seed": study.seed,
        "tasked": study.utility_variants,
        "threshold": study.judgements.threshold,
        "understood": understood(study),
        "variants": study.variants,
    }


def check_fractions(fractions: Iterable[float], shapes: Mapping[str, Sequence[int]]) -> None:
    """Look whether every q selects at least one of a model's candidate weights.

    Raises:
        LesionError: one selects none.
    """
    for q in fractions:
        size_of(q, sum(math.prod(shape) for shape in shapes.values()))


def check(study: Study) -> None:
    """Look at everything that can be looked at before any job runs.

    Raises:
        LesionError: a local file is missing or unfit; the first such finding.
    """
    for name in study.behaviours:
        prompts_slice(study, name)
    utility_slice(study, "intact")
    _wordings(study)
    _twins(study)
    for key, text in _folders(study):
        if is_local(study, text):
            local_path(study, text, key)
    for name in study.models:
        folder = Path(study.results) / study.study / "models" / name
        # One that is damaged or of an earlier version is stale, and made anew.
        with suppress(BadFile):
            check_fractions(study.masks.q, candidate_shapes(folder))


def _folders(study: Study) -> list[tuple[str, str]]:
    models = [(f"models.{name}.source", model.source) for name, model in study.models.items()]
    return [
        *models,
        ("judgements.human_scores", study.judgements.human_scores),
        ("judgements.embedder", study.judgements.embedder),
        *study.judgements.judge_sources.items(),
    ]
