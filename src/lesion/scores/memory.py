"""The memory that scoring needs, and a plan that fits the free memory."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from torch import nn

from lesion.io.formats import LesionError
from lesion.models.candidates import Candidate
from lesion.study.sections import Memory

_NO_LIMIT = 2**62
_SPARE = 0.9
"""The share of the free memory that a plan may use."""


class Need(NamedTuple):
    """Bytes: of the weights, of all sums, and of a batch's activations."""

    weights: int
    sums: int
    activations: int
    checkpointed: int


class Plan(NamedTuple):
    """How scoring will use memory, and why."""

    offload: bool
    passes: int
    checkpointing: bool
    why: str


class Free(NamedTuple):
    """Free bytes on the model's device and in the CPU's memory; `same` for a model on the CPU."""

    device: int
    host: int
    same: bool


def need(
    model: nn.Module, candidates: Mapping[str, Candidate], batch_tokens: int, preservation: bool
) -> Need:
    """Estimate what scoring needs.

    Activations are the inputs and outputs of every candidate, half as much again for the operations
    between them, and the logits with their fp32 copy and gradient. With gradient checkpointing they
    are only the blocks' inputs and one block.
    """
    size = next(model.parameters()).element_size()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    numel = sum(candidate.weight.numel() for candidate in candidates.values())
    widths = [sum(candidate.weight.shape[-2:]) for candidate in candidates.values()]
    inner = int(1.5 * batch_tokens * sum(widths) * size)
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None else None
    vocabulary = int(getattr(text, "vocab_size", 0))
    layers = max(1, int(getattr(text, "num_hidden_layers", 1)))
    logits = batch_tokens * vocabulary * (size + 8)
    hidden = batch_tokens * int(getattr(text, "hidden_size", 0)) * size
    return Need(
        weights,
        numel * 4 * (2 if preservation else 1),
        inner + logits,
        inner // layers + layers * hidden + logits,
    )


def free_memory(device: torch.device) -> Free:
    """The memory that is free now; on a CPU at most what the job's control group allows."""
    host = psutil.virtual_memory().available
    base = Path("/sys/fs/cgroup")
    # The cgroup of this process: of its SLURM job or its container.
    with suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().split("::")[-1].strip().lstrip("/")
        host = min(host, group_limit(base, base / own))
    if device.type == "cuda":
        return Free(torch.cuda.mem_get_info(device)[0], host, same=False)
    return Free(host, host, same=True)


def group_limit(base: Path, own: Path) -> int:
    """The least memory that is left in a group or in one that encloses it, in bytes.

    Groups are mounted at `base`, in a container the container's own; `own` is `base` or inside it.
    """
    left = [_NO_LIMIT]
    groups = [own, *own.parents]
    for group in groups[: groups.index(base) + 1]:
        # `memory.max` is the word `max` where there is no limit.
        with suppress(OSError, ValueError):
            used = int((group / "memory.current").read_text())
            left.append(max(0, int((group / "memory.max").read_text()) - used))
    return min(left)


def make_plan(need: Need, free: Free, wish: Memory, shards: int) -> Plan:
    """The first plan that fits: all at once, checkpointed, sums on the CPU, several passes.

    Raises:
        LesionError: no plan fits; the message says what would.
    """
    passes = wish.passes or (shards if wish.plan == "passes" else 1)
    if passes > shards:
        raise LesionError(
            f"scores: {passes} passes need at least as many shards, and `scores.shards` is "
            f"{shards}. Raise `scores.shards`."
        )
    auto = wish.plan == "auto"
    # On a CPU, sums beside the model and sums on the CPU are the same.
    offloads = [False, True] if auto and not free.same else [wish.plan == "offload"]
    tries = [
        Plan(offload, count, again, why)
        for count in (range(1, shards + 1) if auto and not wish.passes else [passes])
        for offload in offloads
        for again in ([wish.checkpointing] if wish.checkpointing is not None else [False, True])
        if (why := _fits(need, free, count, offload, again))
    ]
    if tries:
        return tries[0]
    if not auto:  # the user decides, since the estimate may be wrong
        return Plan(wish.plan == "offload", passes, bool(wish.checkpointing), "asked for")
    least = need.checkpointed + need.sums // shards
    raise LesionError(
        f"scores: {free.device / 2**30:.1f} GiB are free, and even with gradient checkpointing and "
        f"a pass for each of {shards} shards about {least / 2**30:.1f} GiB are needed. Lower "
        "`scores.batch_tokens`, raise `scores.shards`, or score with `scores.dtype: bfloat16`."
    )


def _fits(need: Need, free: Free, passes: int, offload: bool, checkpointing: bool) -> str:
    """Why this plan fits, for the log; empty if it does not."""
    sums = -(-need.sums // passes)
    active = need.checkpointed if checkpointing else need.activations
    device = active + (0 if offload and not free.same else sums)
    if device > int(free.device * _SPARE) or (offload and sums > free.host * _SPARE):
        return ""
    where = "on the CPU" if offload else "beside the model"
    return (
        f"sums of {sums / 2**20:.0f} MiB {where} in {passes} pass(es), activations of "
        f"{active / 2**20:.0f} MiB{' (checkpointed)' if checkpointing else ''}; "
        f"{free.device / 2**20:.0f} MiB are free beside the weights' {need.weights / 2**20:.0f}"
    )
