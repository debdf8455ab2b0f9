"""lesion: which weights does a behaviour depend on, and what is left when they are zeroed?

    scores = lesion.score(model, tokenizer, harmful, prefill="Sure, here is")
    benign = lesion.score(model, tokenizer, everyday, importance=True)
    mask = lesion.select(scores, preserve=benign, p=0.15, q=1e-4)
    with lesion.ablated(model, mask):
        ...

`lesion.api` documents these; the command `lesion` and Snakemake run whole studies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lesion.api import ModelMask as Mask
    from lesion.api import PairScores as Scores
    from lesion.api import ablated
    from lesion.api import score_pairs as score
    from lesion.api import select_mask as select

__all__ = ["Mask", "Scores", "ablated", "score", "select"]
__version__ = "0.1.0"

_NAMES = {
    "Mask": "ModelMask",
    "Scores": "PairScores",
    "ablated": "ablated",
    "score": "score_pairs",
    "select": "select_mask",
}
"""The library's short names, and those in `lesion.api`."""


def __getattr__(name: str) -> Any:
    """Import the library only if it is used: torch takes seconds, and most commands need none."""
    if name not in _NAMES:
        raise AttributeError(f"module `lesion` has no attribute `{name}`")
    return getattr(import_module("lesion.api"), _NAMES[name])
