"""All claims, in the order of the table and of the page; every list of claims is made of these."""

from collections.abc import Mapping, Sequence
from typing import Any

from lesion.tables.claims import dissociated, harm, training
from lesion.tables.claims.claim import Claim
from lesion.tables.claims.outcome import CANNOT_TELL, SUPPORTED, together
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


def missing_numbers(number: int, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of numbers without which the paper's claim of a number cannot be supported.

    A number that is about several variants is needed of each, and every number of an experiment in
    each experiment: what one of them shows is not known of the others.

    Args:
        number: of the paper's claim.
        rows: all rows of CLAIMS of this claim, of one model or family.
    """
    names = []
    needed = [claim for claim in REGISTRY if claim.number == number and claim.needed_for_outcome]
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        own = [row for row in rows if row["experiment"] == experiment]
        of_variants = [claim for claim in needed if not claim.variant and claim.variant is not None]
        variants = {row["variant"] for row in own for claim in of_variants if claim.matches(row)}
        for claim in needed:
            of = sorted(variants) if claim in of_variants and variants else [None]
            known = {row["variant"] for row in own if claim.matches(row)}
            alike = sum(other.name == claim.name for other in needed) > 1
            by = f", by {claim.statistic.replace('_', ' ')}" if alike else ""
            names += [
                claim.name.format(**claim.words(variant)) + by
                for variant in of
                if (variant not in known if variant is not None else not known)
            ]
    return [*dict.fromkeys(names)]


def outcome_together(number: int, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """The outcome of the paper's claim, and what is missing for "supported".

    It is not supported if one of its numbers is not, and "can't tell" if a number that it needs was
    not measured; the arguments are as in `missing_numbers`.
    """
    outcome, missing = together(row["verdict"] for row in rows), missing_numbers(number, rows)
    return (CANNOT_TELL if outcome == SUPPORTED and missing else outcome), missing


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
