"""The model card of a pruned checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesion import __version__
from lesion.checkpoints.reproduce import FACTS, FOLDER
from lesion.io.formats import atomic, read_json

CARD = "README.md"


def write_card(checkpoint: Path, table: str | None = None) -> None:
    """Write a checkpoint's README.md anew, from its `reproduce/`.

    Args:
        checkpoint: a folder that `write_checkpoint` wrote.
        table: the study's measurements before and after, in Markdown; None if there are none.
    """
    made = read_json(checkpoint / FOLDER / FACTS)
    with atomic(checkpoint / CARD) as part:
        part.write_text(_card(made, table), encoding="utf-8")


def _card(made: Mapping[str, Any], table: str | None) -> str:
    base, meta = made["base"], made["mask"]
    weights, candidates = int(meta["weights"]), int(meta["candidates"])
    percent = 100 * weights / max(1, candidates)
    return f"""---
base_model: {base}
base_model_relation: finetune
license: {made["license"]}
tags: [lesion, pruned, safety]
---

# {base}, without its `{meta.get("mask", "harm")}` weights

{weights:,} of {candidates:,} candidate weights of `{base}` ({percent:.2g}%) are zero here:
those that generating harmful text depends on most. Every other byte of the model's files is the
base's; all were compared after writing.

| | |
|---|---|
{_facts(made)}

{_measured(table)}
This is a research artefact, and no replacement for safety training. `{FOLDER}/` says what it was
made from and how to make it again; it holds the mask. Made by lesion {__version__}.
"""


def _facts(made: Mapping[str, Any]) -> str:
    meta = made["mask"]
    p, q = meta.get("p", "?"), meta.get("q", "?")
    told = {
        "Mask": meta.get("made"),
        "Importance": meta.get("score"),
        "Left out": f"the {p} of weights that benign use depends on most (p)",
        "Taken": f"{q} of the candidates of a harm type (q), {meta.get('scope', '')}".rstrip(", "),
        "Rule": meta.get("rule"),
        "Base's digest": f"`{made['base_digest']}`",
        "This one's": f"`{made['digest']}`",
    }
    return "\n".join(f"| {name} | {text} |" for name, text in told.items() if text)


def _measured(table: str | None) -> str:
    if table is None:
        return """What this changes in the model's behaviour was not measured with it.
"""
    return f"""## Before and after

{table.strip()}

Measured under the attacks and on the harm types of its study, and on nothing else.
"""
