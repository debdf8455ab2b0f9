"""The model card of a pruned checkpoint."""

from pathlib import Path

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
    base, meta = made["base"], made["mask"]
    weights, candidates = int(meta["weights"]), int(meta["candidates"])
    percent = 100 * weights / max(1, candidates)
    p, q = meta.get("p", "?"), meta.get("q", "?")
    facts = {
        "Mask": meta.get("made"),
        "Importance": meta.get("score"),
        "Left out": f"the {p} of weights that benign use depends on most (p)",
        "Taken": f"{q} of the candidates of a harm type (q), {meta.get('scope', '')}".rstrip(", "),
        "Rule": meta.get("rule"),
        "Base's digest": f"`{made['base_digest']}`",
        "This one's": f"`{made['digest']}`",
    }
    rows = "\n".join(f"| {name} | {text} |" for name, text in facts.items() if text)
    measured = "What this changes in the model's behaviour was not measured with it.\n"
    if table is not None:
        measured = f"""## Before and after

{table.strip()}

Measured under the attacks and on the harm types of its study, and on nothing else.
"""
    card = f"""---
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
{rows}

{measured}
This is a research artefact, and no replacement for safety training. `{FOLDER}/` says what it was
made from and how to make it again; it holds the mask. Made by lesion {__version__}.
"""
    with atomic(checkpoint / CARD) as part:
        part.write_text(card, encoding="utf-8")
