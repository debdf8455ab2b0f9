"""The validation NLL, from which (p, q) is chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lesion.io.progress import progress
from lesion.masks.jobs import SweepJob
from lesion.masks.lesion import lesioned
from lesion.models.layout import FlatIndices
from lesion.models.likelihood import response_nll
from lesion.models.load import load
from lesion.models.text import Example
from lesion.pairs.tables import encode_pairs, kept_pairs


def validation_nll(
    model: Path,
    pairs: Mapping[str, Path],
    job: SweepJob,
    masks: Sequence[Mapping[str, FlatIndices]],
) -> list[dict[str, float | None]]:
    """The mean NLL over the behaviours of each role with each mask zeroed, and without.

    Each behaviour has the same weight, regardless of its number of pairs.

    Args:
        model: checkpoint folder.
        pairs: tables of PAIRS by behaviour; those of the validation split are used.
        job: how the NLL is measured.
        masks: flat indices by parameter.

    Returns:
        For each mask, the columns of SWEEP that are measured; null for matched requests, if the
        study has none.
    """
    loaded = load(model, job.device)
    sides: dict[str, dict[str, list[Example]]] = {}
    by_side = {role: job.behaviours.of_role(role) for role in ("harm", "benign", "matched")}
    for side, names in by_side.items():
        kept = {name: kept_pairs(pairs[name], "validation") for name in names}
        sides[side] = {
            name: encode_pairs(loaded.chat, own) for name, own in kept.items() if own.height
        }
    examples = [example for own in sides.values() for each in own.values() for example in each]
    sizes = {f"{side}_pairs": sum(map(len, own.values())) for side, own in sides.items()}
    with progress("sweep", (1 + len(masks)) * len(examples), "pair") as advance:

        def means(mask: Mapping[str, FlatIndices], ending: str = "") -> dict[str, float | None]:
            with lesioned(loaded.model, mask):
                losses = iter(response_nll(loaded.model, examples, job.batch_tokens, advance))
            nlls: dict[str, float | None] = {}
            for side, own in sides.items():
                each = [sum(next(losses) for _ in some) / len(some) for some in own.values()]
                nlls[f"{side}_nll{ending}"] = sum(each) / len(each) if each else None
            return nlls

        rest = {**means({}, "_unmodified"), **sizes}
        return [{**means(mask), **rest} for mask in masks]
