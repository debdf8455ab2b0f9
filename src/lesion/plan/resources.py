"""What a job asks of a cluster: memory, minutes and GPUs, from its rule and its model's size.

A job that gets too little is stopped and tried again with more (`attempt`), so a guess may be
wrong, but should seldom be. Locally these numbers limit nothing unless `--resources` is given.
How the constants were measured: `docs/cluster.md`.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lesion.io.addresses import local_files
from lesion.io.formats import LesionError, read_json
from lesion.models.record import RECORD
from lesion.plan.places import is_local, local_path, results, source_name
from lesion.study import Study


class Size(NamedTuple):
    """A model: bytes of its weights as stored, and how many weights are candidates."""

    weights: int
    candidates: int


class Law(NamedTuple):
    """What a rule's job takes on a CPU, which is the most of any device.

    Memory in MB is `base` + `weights` times the stored weights + `candidates` bytes a candidate.
    Minutes are `minutes` + `SLACK` times `seconds` a billion candidates, for the default study's
    prompts and tokens.
    """

    base: int
    weights: float = 0.0
    candidates: float = 0.0
    minutes: int = 10
    seconds: float = 0.0
    gpu: bool = False


LAWS = {
    "source": Law(500, minutes=60),
    "prompts": Law(500),
    # A GGUF file is written as fp32 from a second copy; a folder is only copied.
    "model": Law(1000, weights=2, minutes=30, seconds=250),
    # 1.5: the file's dtype and the run's, for a moment both.
    "pairs": Law(1500, weights=1.5, seconds=290, gpu=True),
    # 8: sums of signed scores and of importances, in fp32.
    "scores": Law(1500, weights=1.5, candidates=8, seconds=270, gpu=True),
    "sweep": Law(1500, weights=1.5, candidates=1, seconds=250, gpu=True),
    "choose": Law(500),
    "masks": Law(1000, candidates=1, seconds=160),
    "responses": Law(1500, weights=1.5, seconds=470, gpu=True),
    "curve": Law(1500, weights=1.5, seconds=2500, gpu=True),
    "checkpoint": Law(1000, seconds=60),
    # 24: weights, gradients and AdamW's two sums, in fp32, of embeddings as well; or of adapters.
    "train": Law(4000, candidates=24, seconds=100, gpu=True),
    "judge": Law(2000, minutes=60),
    "judgements": Law(2000, minutes=60),
    # A classifier passes through memory once, 26 GB at most; the others are small or elsewhere.
    "classifier": Law(32000, minutes=240, gpu=True),
    "extra_judge": Law(2000, minutes=240),
    "tables": Law(1500, minutes=30),
}
"""By the rule; rules that do the same work share one, and `tables` is that of whatever only gathers
rows."""

SLACK = 4
"""How much longer than measured a job may take before the cluster stops it."""

UNKNOWN = Size(2 * 10**9, 10**9)
"""A model of which nothing is here: nothing but its fetching runs before its files are."""

GPU_BYTES = 64 * 10**9
"""What weights and sums may take of one GPU (of 80 GB), where `device_map: auto` spreads them."""

LARGE = 2 * 10**9
"""Candidates from which on nobody runs a model without a GPU, which is at least `GPU_SPEED` times
as fast as a core. An assumption, not measured."""

GPU_SPEED = 10

_BEHAVIOURS, _PROMPTS, _TOKENS, _POINTS = 12, 40, 36, 4
"""Of the default study, on which the seconds of `LAWS` were measured: behaviours, prompts of each,
tokens of an answer, and points (p, q) tried."""

_EXAMPLES = 8
"""Examples of an optimiser step in the trainings that were measured."""

_UNLIMITED = 200
"""Prompts that a behaviour without `limit` is taken to have."""

_GGUF = 7
"""The weights of a GGUF file (of 4 to 5 bits each) in fp32, over the file."""


def model_size(study: Study, model: str | None) -> Size:
    """A model's size: of its record; else of its source's files; else `UNKNOWN`.

    Args:
        study: whose models are meant.
        model: its name; None where a job has no model of its own.
    """
    if model is None:
        return Size(0, 0)
    made = results(study)
    try:
        return _recorded(record := made / "models" / model / RECORD, record.stat().st_mtime_ns)
    except (LesionError, OSError, KeyError, TypeError):
        return _unmade(study, model, made)


def _unmade(study: Study, model: str, made: Path) -> Size:
    one = study.models[model]
    if one.source is not None:
        return _of_files(_source_files(study, one.source, made))
    if one.base is not None:
        return model_size(study, one.base)
    assert one.new is not None
    block = 4 * one.new.width**2 + 3 * one.new.width * one.new.inner
    return Size(4 * one.new.layers * block, one.new.layers * block)


@lru_cache(maxsize=64)
def _recorded(record: Path, changed: int) -> Size:
    del changed  # in the key alone: a record made anew is read anew
    found = read_json(record)
    files = found["files"].items()
    return Size(
        sum(size for name, size in files if name.endswith(".safetensors")),
        sum(math.prod(shape) for _, shape in found["candidates"]),
    )


def _source_files(study: Study, text: str, made: Path) -> list[Path]:
    """Files of a model's source that are here: fetched, or local ones used where they lie."""
    if is_local(study, text):
        return local_files(local_path(study, text, "models"))
    place = made / "sources" / source_name(text)
    return local_files(place) if place.exists() else []


def _of_files(files: list[Path]) -> Size:
    stored = sum(one.stat().st_size for one in files if one.suffix == ".safetensors")
    packed = sum(one.stat().st_size for one in files if one.suffix.lower() == ".gguf")
    if packed:
        return Size(_GGUF * packed, _GGUF * packed // 4)
    return Size(stored, stored // 2) if stored else UNKNOWN


def work(study: Study, rule: str, behaviour: str | None = None) -> float:
    """How much there is to do, over the default study: prompts times the tokens of an answer."""
    limits = {name: one.limit or _UNLIMITED for name, one in study.behaviours.items()}
    if behaviour is not None:
        return limits[behaviour] * study.pairs.max_new_tokens / (_PROMPTS * _TOKENS)
    if rule in ("sweep", "responses", "curve"):
        tokens = max(study.pairs.max_new_tokens, study.responses.max_new_tokens)
        points = len(study.masks.p) * len(study.masks.q) / _POINTS if rule == "sweep" else 1
        return sum(limits.values()) * tokens * points / (_BEHAVIOURS * _PROMPTS * _TOKENS)
    # Masks are made of every behaviour's scores.
    return len(limits) / _BEHAVIOURS if rule == "masks" else 1.0


def steps(study: Study, model: str, experiment: str | None) -> float:
    """How much a training has to do: optimiser steps of `_EXAMPLES`, of all its seeds."""
    if experiment is not None:
        one = study.retraining[experiment]
        return one.recipe.steps * one.recipe.batch_size / _EXAMPLES * len(one.seeds)
    train = study.models[model].train
    assert train is not None
    return train.steps * train.batch_size / _EXAMPLES


def mem_mb(rule: str, size: Size, attempt: int = 1) -> int:
    """Memory for a job, in MB; as much again with every attempt."""
    law = LAWS[rule]
    return attempt * math.ceil(
        law.base + (law.weights * size.weights + law.candidates * size.candidates) / 10**6
    )


def runtime(rule: str, size: Size, much: float = 1.0, attempt: int = 1) -> int:
    """Minutes for a job; as many again with every attempt.

    Args:
        rule: one of `LAWS`.
        size: of its model.
        much: see `work`.
        attempt: Snakemake's, from 1.
    """
    law = LAWS[rule]
    seconds = law.seconds * max(much, 1.0) * size.candidates / 10**9
    if law.gpu and size.candidates > LARGE:
        seconds /= GPU_SPEED
    return attempt * math.ceil(law.minutes + SLACK * seconds / 60)


def gpus(rule: str, size: Size, spread: bool) -> int:
    """GPUs for a job: none, one, or as many as hold weights and sums if they may be spread."""
    law = LAWS[rule]
    if not law.gpu or not spread:
        return int(law.gpu)
    held = size.weights + (8 * size.candidates if rule == "scores" else 0)
    return max(1, math.ceil(held / GPU_BYTES))
