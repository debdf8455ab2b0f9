"""What a job requests from a cluster: memory, minutes and GPUs, by its rule and model size.

A job that gets too little is stopped and retried with more (`attempt`), so an estimate may be wrong
now and then. On a local machine these numbers have no effect unless `--resources` is given.
`docs/how-to/cluster.md` says how the constants were measured.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lesion.io.addresses import local_files, parse
from lesion.io.formats import LesionError, read_json
from lesion.judgements.kinds import KINDS
from lesion.masks.controls import control_rule
from lesion.models.record import RECORD
from lesion.plan.places import addresses, is_file, source_name
from lesion.study import Study, StudyError
from lesion.study.controls import controls_among
from lesion.study.types import nearest


class Size(NamedTuple):
    """The size of a model: bytes of its stored weights, and the number of candidate weights."""

    weights: int
    candidates: int


class ResourceFormula(NamedTuple):
    """The resources of a rule's job on a CPU, which needs more than any other device.

    Memory in MB is `base` + `weights` times the stored weights + `candidates` bytes per candidate.
    Minutes are `minutes` + `SLACK` times `seconds` per billion candidates, for the prompts and
    tokens of the default study. The seconds are those of one core, for an average job of the rules
    that share a formula.
    """

    base: int
    weights: float = 0.0
    candidates: float = 0.0
    minutes: int = 10
    seconds: float = 0.0
    gpu: bool = False


RESOURCE_FORMULAS = {
    "source": ResourceFormula(500, minutes=60),
    "prompts": ResourceFormula(500),
    # A GGUF file is written as fp32 from a second copy; a folder is only copied.
    "model": ResourceFormula(1000, weights=2, minutes=30, seconds=100),
    # 1.5: weights are briefly held in the file's dtype and in the run's.
    "generate_pairs": ResourceFormula(1500, weights=1.5, seconds=150, gpu=True),
    # 8: sums of signed scores and of importances, in fp32.
    "signed_scores": ResourceFormula(1500, weights=1.5, candidates=8, seconds=270, gpu=True),
    "sweep": ResourceFormula(1500, weights=1.5, candidates=1, seconds=1300, gpu=True),
    "choose": ResourceFormula(500),
    "select_masks": ResourceFormula(1000, candidates=1, seconds=160),
    # The judged variants take twice as long, understanding and tasks half as long.
    "variant_responses": ResourceFormula(1500, weights=1.5, seconds=470, gpu=True),
    "continuations": ResourceFormula(1500, weights=1.5, seconds=740, gpu=True),
    "curve": ResourceFormula(1500, weights=1.5, seconds=640, gpu=True),
    # Measured with `largest` 0.02 and five harm types, before the model is loaded.
    "equal_cost_masks": ResourceFormula(1500, weights=1.5, candidates=11, seconds=2500, gpu=True),
    "checkpoint": ResourceFormula(1000, seconds=10),
    # 24: weights, gradients and AdamW's two sums, in fp32, of embeddings as well; or of adapters.
    "train": ResourceFormula(4000, candidates=24, seconds=100, gpu=True),
    "train_judge": ResourceFormula(2000, minutes=60),
    "judge_responses": ResourceFormula(2000, minutes=60),
    # A classifier is loaded once, at most 26 GB; other judges are small or run elsewhere.
    "classifier": ResourceFormula(32000, minutes=240, gpu=True),
    "judge_responses_extra": ResourceFormula(2000, minutes=240),
    "compute_tables": ResourceFormula(1500, minutes=30),
}
"""The formula of each rule; rules that do the same work share one, and `compute_tables` is for
all rules that only collect rows."""

SLACK = 4
"""How many times longer than measured a job may take before the cluster stops it."""

UNKNOWN = Size(2 * 10**9, 10**9)
"""The size assumed before a model has been downloaded. Until then only its download job runs, but
where files are copied and the model's name says no size, it is that of all jobs."""

GPU_BYTES = 64 * 10**9
"""The memory of one GPU (of 80 GB) that weights and sums may use with `device_map: auto`."""

LARGE = 2 * 10**9
"""The number of candidates above which a GPU is assumed, at least `GPU_SPEED` times as fast as a
core. This is an assumption and was not measured."""

GPU_SPEED = 10

_BEHAVIOURS, _PROMPTS, _TOKENS, _POINTS, _GROWN, _JUDGED, _SIZES, _PAIRS = 18, 40, 36, 3, 4, 3, 4, 6
"""The default study: behaviours, prompts of each, tokens per answer, (p, q) points, masks grown to
a limit on benign loss, variants whose answers are judged, sizes of a curve, and pairs of each
behaviour that are measured at each size.

The seconds of `RESOURCE_FORMULAS` are within a factor of two of the processor seconds of its jobs,
which ran with SmolLM2-135M in fp32 on two cores that did other work too. `checkpoint`, which waits
for the disk, is compared by its seconds. `train` is of an earlier study and was not compared.
"""

_COMPLETED = 2
"""How much longer completing prompts at a size of a curve takes than measuring its pairs. This is
an estimate."""

_READ_BY_ONE = 10**9
"""Candidates whose scores one process reads."""

_READERS = 16
"""The most processes that read scores of a model."""

_KEPT = 80
"""Bytes that a process keeps of each weight that a behaviour's largest mask may select, as measured
with q = 0.01."""

_OF_MATRIX = 40 / 120
"""Bytes that a process holds per candidate where masks are selected within matrices or rows: 40 of
each weight of a matrix, of which the largest has about a 120th of the candidates."""

_MOST_KEPT = 8
"""Bytes per candidate that the processes of a job may keep together, as many as scoring asks
for."""

_EXAMPLES = 8
"""Examples per optimiser step in the training runs that were measured."""

_UNLIMITED = 200
"""The number of prompts assumed for a behaviour without `limit`."""

_GGUF = 7
"""The size of a GGUF file's weights in fp32 relative to the file, with 4 to 5 bits per weight."""


def model_size(study: Study, model: str | None) -> Size:
    """A model's size, from its record, or else from its source's files, or else `UNKNOWN`.

    Where files are copied, none of these may be here, and the name of the model decides.
    """
    if model is None:
        return Size(0, 0)
    record = study.folder / "models" / model / RECORD
    with suppress(LesionError, OSError, KeyError, TypeError):
        return _recorded(record, record.stat().st_mtime_ns)
    settings = study.models[model]
    if settings.base is not None:
        return model_size(study, settings.base)
    if settings.new is not None:
        block = 4 * settings.new.width**2 + 3 * settings.new.width * settings.new.inner
        return Size(4 * settings.new.layers * block, settings.new.layers * block)
    assert settings.source is not None
    given = addresses(study, settings.source)
    if is_file(study, settings.source):
        place = Path(parse(given[0]).name)
    else:
        place = study.folder / "sources" / source_name(settings.source)
    files = local_files(place) if place.exists() else []
    stored = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    packed = sum(file.stat().st_size for file in files if file.suffix.lower() == ".gguf")
    if packed:
        return Size(_GGUF * packed, _GGUF * packed // 4)
    if stored:
        return Size(stored, stored // 2)
    # Where files are copied, neither the record nor a fetched source is ever here.
    named = map(named_size, given if study.copies_sources else [])
    return next(filter(None, named), UNKNOWN)


_NAMED = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)([MB])(?![a-z0-9])", re.I)
"""A number of parameters in a name, such as 135M, 1.5B or 8x7B."""


def named_size(address: str) -> Size | None:
    """The size that a model's name says, with two bytes a weight, or four of a GGUF file; None if
    it says none.
    """
    match = _NAMED.search(address.partition("#")[0])
    if match is None:
        return None
    experts, number, unit = match.groups()
    weights = int(int(experts or 1) * float(number) * (10**6 if unit in "mM" else 10**9))
    # A GGUF file is written out in fp32.
    return Size((4 if ".gguf" in address.lower() else 2) * weights, weights)


@lru_cache(maxsize=64)
def _recorded(record: Path, changed: int) -> Size:
    del changed  # only part of the cache key, so that a changed record is read again
    content = read_json(record)
    files = content["files"].items()
    return Size(
        sum(size for name, size in files if name.endswith(".safetensors")),
        sum(math.prod(shape) for _, shape in content["candidates"]),
    )


def judge_formula(study: Study, judge: str) -> str:
    """The key of RESOURCE_FORMULAS for an additional judge.

    Raises:
        StudyError: the plug-in of its kind names no such key.
    """
    section = study.judgements.judges[judge]
    formula = KINDS[type(section)].formula
    if formula not in RESOURCE_FORMULAS:
        raise StudyError(
            f"`judgements.judges.{judge}`: the plug-in of the kind `{section.kind}` asks for the "
            f"resources `{formula}`{nearest(formula, RESOURCE_FORMULAS)}"
        )
    return formula


def work(study: Study, rule: str, wildcards: Mapping[str, str]) -> float:
    """The amount of work of a job, relative to the job that was measured.

    This counts prompts times tokens per answer, and for trainings optimiser steps of all seeds.
    """
    if rule == "train":
        if "experiment" in wildcards:
            experiment = study.retraining[wildcards["experiment"]]
            recipe, runs = experiment.recipe, len(experiment.seeds)
        else:
            recipe, runs = study.trainings[wildcards["model"]], 1
        return recipe.steps * recipe.batch_size / _EXAMPLES * runs
    limits = {name: settings.limit or _UNLIMITED for name, settings in study.behaviours.items()}
    if "behaviour" in wildcards:
        own = limits[wildcards["behaviour"]]
        return own * study.pairs.max_new_tokens / (_PROMPTS * _TOKENS)
    tokens = max(study.pairs.max_new_tokens, study.responses.max_new_tokens)
    if rule == "curve":
        most, test = study.curve.max_pairs or math.inf, study.pairs.split.test
        pairs = sum(min(most, limit * test) for limit in limits.values())
        masks = _curve(study, wildcards.get("family"))
        return masks * pairs * tokens / (_SIZES * _BEHAVIOURS * _PAIRS * _TOKENS)
    if rule in ("sweep", "variant_responses", "continuations"):
        times = {
            "sweep": len(study.masks.p) * len(study.masks.q) / _POINTS,
            "continuations": len(study.judged_variants) / _JUDGED,
        }.get(rule, 1.0)
        return sum(limits.values()) * tokens * times / (_BEHAVIOURS * _PROMPTS * _TOKENS)
    if rule == "equal_cost_masks":
        return len(study.equal_cost_masks) * len(study.equal_cost.limits) / _GROWN
    # Masks are made of every behaviour's scores.
    return len(limits) / _BEHAVIOURS if rule == "select_masks" else 1.0


def _curve(study: Study, family: str | None) -> int:
    """Masks of a family whose pairs a job measures, and what completing prompts adds to them."""
    if family == "unmodified":
        return 1
    controls = controls_among([family] if family else [], study.behaviours)
    drawn = any(control_rule(name).draw is not None for name in controls)
    draws = study.curve.seeds if drawn else 1
    return len(study.curve.sizes) * (draws + _COMPLETED * study.curve.completions)


def readers(study: Study, size: Size) -> int:
    """Processes of a job that only reads scores; their number changes no mask."""
    most = min(_READERS, int(_MOST_KEPT / _kept_by_one(study)))
    return max(min(round(size.candidates / _READ_BY_ONE), most), 1)


def _kept_by_one(study: Study) -> float:
    """Bytes per candidate that one process keeps while it reads scores."""
    if study.masks.scope != "global":
        return _OF_MATRIX
    sizes = study.curve.sizes if study.curve.families else []
    largest = max(*study.masks.q, study.masks.own_q or 0.0) * max([1.0, *sizes])
    return _KEPT * largest * len(study.behaviours)


def mem_mb(study: Study, rule: str, size: Size, attempt: int = 1) -> int:
    """Memory for a job, in MB, proportional to the attempt."""
    formula = RESOURCE_FORMULAS[rule]
    candidates = formula.candidates
    if rule == "select_masks":
        candidates = max(candidates, _kept_by_one(study) * readers(study, size))
    return attempt * math.ceil(
        formula.base + (formula.weights * size.weights + candidates * size.candidates) / 10**6
    )


def runtime(rule: str, size: Size, much: float = 1.0, attempt: int = 1) -> int:
    """Minutes for a job with an amount of work (see `work`), proportional to the attempt."""
    minutes = RESOURCE_FORMULAS[rule].minutes
    return attempt * math.ceil(minutes + SLACK * seconds(rule, size, max(much, 1.0)) / 60)


def seconds(rule: str, size: Size, much: float = 1.0) -> float:
    """Seconds that a job with an amount of work takes as it was measured, without any slack."""
    formula = RESOURCE_FORMULAS[rule]
    speed = GPU_SPEED if formula.gpu and size.candidates > LARGE else 1
    return formula.seconds * much * size.candidates / 10**9 / speed


def gpus(rule: str, size: Size, spread: bool) -> int:
    """GPUs for a job: none, one, or enough for weights and sums if these may be spread."""
    formula = RESOURCE_FORMULAS[rule]
    if not formula.gpu or not spread:
        return int(formula.gpu)
    needed = size.weights + (8 * size.candidates if rule == "signed_scores" else 0)
    return max(1, math.ceil(needed / GPU_BYTES))
