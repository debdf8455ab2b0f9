"""All claims, in the order of the table and of the page. Whatever lists claims goes by these."""

from collections.abc import Mapping
from typing import Any

from lesion.tables.claims import dissociated, harm, training
from lesion.tables.claims.claim import Claim
from lesion.tables.wording import Unit

PAPER = {
    1: "few weights carry harmful generation, and zeroing them lowers harmful output",
    2: "harm types share them",
    3: "they are apart from what is useful, and random weights are not like them",
    4: "alignment compresses them (over the stages of a family of models; counts for its last "
    "stage)",
    5: "narrow training misaligns broadly, and less so without them, also than without as many "
    "random weights",
    6: "without them the model still detects, explains and refuses",
    7: "harm and refusal come apart",
    8: "training on harmful pairs brings most of it back",
}
"""The paper's claims (arXiv 2604.09544) by their numbers; each rests on one claim of REGISTRY or on
several."""

REGISTRY: list[Claim] = [*harm.CLAIMS, *dissociated.CLAIMS, *training.CLAIMS]


def numbers() -> list[int]:
    """The numbers of all claims."""
    return sorted({claim.number for claim in REGISTRY})


def claim_of(row: Mapping[str, Any]) -> Claim | None:
    """The claim that a row of CLAIMS is of; None for a row of another version of the package."""
    return next((claim for claim in REGISTRY if claim.matches(row)), None)


def unit_of(statistic: str) -> Unit:
    """The unit of a claim's statistic."""
    units = (claim.unit for claim in REGISTRY if claim.statistic == statistic)
    return next(units, "score")


def claims_list() -> str:
    """The paper's claims as a table in Markdown, as README and docs/gate.md show it."""
    lines = [f"| {number} | {sentence} |" for number, sentence in PAPER.items()]
    return "\n".join(["| claim | what it says |", "|---|---|", *lines])
