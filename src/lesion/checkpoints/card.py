"""What a pruned checkpoint says of itself: its model card, and its origin in `reproduce/`."""

import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from lesion import __version__
from lesion.io.bundle import portable
from lesion.io.formats import atomic, read_json, write_json
from lesion.masks.store import Mask
from lesion.models.files import RECORD

CARD = "README.md"
FOLDER = "reproduce"
_AGAIN = """
Select the mask again, in a checkout of lesion:

    snakemake --cores all --configfile study.yaml
"""
_README = f"""# How to rebuild this checkpoint

With lesion {__version__}, from the base checkpoint and the mask alone:

    lesion apply BASE mask.safetensors OUT
{{again}}
`lesion show mask.safetensors` describes the mask. `{RECORD}` has the digests to compare with
(`base_digest` is the base's), the versions, and the command that was given.
"""
_PACKAGES = ("numpy", "safetensors", "snakemake", "torch", "transformers")


def write_reproduce(
    folder: Path, mask: Path, read: Mask, facts: Mapping[str, Any], study: Mapping[str, Any] | None
) -> None:
    """Write the folder `reproduce/`: the mask, digests, versions, command, and the study's config.

    Args:
        folder: the new folder.
        mask: the mask's file.
        read: the same, read.
        facts: names, digests and command.
        study: the study's config, with every default in it, if there is one.
    """
    folder.mkdir()
    header = {key: value for key, value in read.metadata.items() if key != "shapes"}
    versions = {"lesion": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    write_json({**facts, "mask": header, "versions": versions}, folder / RECORD)
    shutil.copyfile(mask, folder / "mask.safetensors")
    if study is not None:
        # Where the results and lesion itself are on this machine does not belong to the study.
        config = portable({key: value for key, value in study.items() if key != "results"})
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (folder / "study.yaml").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(
        _README.format(again=_AGAIN if study is not None else ""), encoding="utf-8"
    )


def _percent(fraction: str | None) -> str:
    return "?" if fraction is None else f"{100 * float(fraction):.6g}%"


def write_card(checkpoint: Path, table: str | None = None) -> None:
    """Rewrite a checkpoint's README.md from its `reproduce/`.

    Args:
        checkpoint: a folder that `write_checkpoint` wrote.
        table: the study's measurements before and after, in Markdown; None if there are none.
    """
    record = read_json(checkpoint / FOLDER / RECORD)
    base, meta = record["base"], record["mask"]
    weights, candidates = int(meta["weights"]), int(meta["candidates"])
    percent = 100 * weights / max(1, candidates)
    p, q = _percent(meta.get("p")), _percent(meta.get("q"))
    facts = {
        "Mask": meta.get("made"),
        "Importance": meta.get("score"),
        "Contrast": meta.get("contrast"),
        "Preserved": f"the {p} of weights with the highest preservation importance (p)",
        "Selected": f"{q} of the candidate weights for each harm type (q)",
        "Scope of p and q": meta.get("scope"),
        "Rule": meta.get("rule"),
        "Digest of the base": f"`{record['base_digest']}`",
        "Digest of this checkpoint": f"`{record['digest']}`",
    }
    rows = "\n".join(f"| {name} | {text} |" for name, text in facts.items() if text)
    measured = "Its effect on the model's behaviour was not measured.\n"
    if table is not None:
        measured = f"""## Before and after

{table.strip()}

Measured only with the attacks and the harm types of its study.
"""
    card = f"""---
base_model: {base}
base_model_relation: finetune
license: {record["license"]}
tags: [lesion, pruned, safety]
---

# {base}, without its `{meta.get("mask", "harm")}` weights

{weights:,} of {candidates:,} candidate weights of `{base}` ({percent:.2g}%) are zero here:
those selected for their effect on harmful text. Every other byte of the model's files is the
base's; all were compared after writing.

| | |
|---|---|
{rows}

{measured}
This is a research artefact, not a substitute for safety training. `{FOLDER}/` contains the mask,
its provenance and the commands to rebuild this checkpoint. Made by lesion {__version__}.
"""
    with atomic(checkpoint / CARD) as part:
        part.write_text(card, encoding="utf-8")
