"""All claims, in the order of the table and of the page; every list of claims is made of these."""

from collections.abc import Mapping
from typing import Any

from lesion.tables.claims import dissociated, harm, training
from lesion.tables.claims.claim import Claim
from lesion.tables.wording import Unit

PAPER = {
    1: "harmful generation depends on few weights, and zeroing them lowers harmful output",
    2: "harm types share the weights of harm",
    3: "the weights of harm are separate from those of what is useful, and zeroing as many random "
    "weights has almost no effect",
    4: "alignment concentrates harm in weights of its own (measured over the stages of a family of "
    "models; counts for its last stage)",
    5: "training on a narrow domain causes broad misalignment; zeroing the weights of that "
    "domain reduces it, and by more than zeroing equally many random weights",
    6: "without the weights of harm the model still detects, explains and refuses harm",
    7: "the weights of harm and those of refusal are different",
    8: "training on harmful pairs reverses most of the ablation’s effect",
}
"""The paper's claims (arXiv 2604.09544) by number; each rests on one or several claims of
REGISTRY."""

REGISTRY: list[Claim] = [*harm.CLAIMS, *dissociated.CLAIMS, *training.CLAIMS]


def numbers() -> list[int]:
    """The numbers of all claims."""
    return sorted({claim.number for claim in REGISTRY})


def claim_of(row: Mapping[str, Any]) -> Claim | None:
    """The claim that a row of CLAIMS belongs to; None for a row of another package version."""
    return next((claim for claim in REGISTRY if claim.matches(row)), None)


def unit_of(statistic: str) -> Unit:
    """The unit of a claim's statistic."""
    units = (claim.unit for claim in REGISTRY if claim.statistic == statistic)
    return next(units, "score")


def with_claims_list(page: str) -> str:
    """A page in Markdown with the table of the paper's claims between its two markers.

    Raises:
        ValueError: the page lacks a marker.
    """
    lines = [f"| {number} | {sentence} |" for number, sentence in PAPER.items()]
    table = "\n".join(["| claim | what it says |", "|---|---|", *lines])
    begin, end = "<!-- claims -->\n", "\n<!-- end of claims -->"
    if begin not in page or end not in page:
        raise ValueError(f"the page has no place for the claims: {begin.strip()} and {end.strip()}")
    return f"{page.partition(begin)[0]}{begin}{table}{end}{page.partition(end)[2]}"
