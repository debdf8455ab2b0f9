"""The names of masks that are not a behaviour's: the shared ones, controls, masks of equal cost.

A control is a mask of the same size as `shared` in every matrix that is selected by another rule:
one of lesion's own (`lesion.masks.controls`), or one of a plug-in.
"""

from collections.abc import Collection, Iterable
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, WithJsonSchema

from lesion.study.plugins import Plugins
from lesion.study.types import Name

BuiltControl = Literal[
    "random",
    "random-magnitude",
    "unsigned",
    "wanda",
    "unimportant",
    "benign-signed",
    "opposite-sign",
    "second-q",
    "random-importance",
    "random-magnitude-importance",
    "random-lines",
]
"""lesion's own controls."""
BUILT_CONTROLS: tuple[str, ...] = get_args(BuiltControl)
SHARED_MASKS = ("shared", "shared-all")
GROWN_MASKS = ("plain", "matched", "refusals")
"""Masks that only `equal_cost` makes."""

TAKEN_MASKS: dict[str, str] = {
    **dict.fromkeys((*SHARED_MASKS, *BUILT_CONTROLS, *GROWN_MASKS), "a built-in mask"),
    **dict.fromkeys(("unmodified", "intact"), "the model without a mask"),
    **dict.fromkeys(("curve", "retraining"), "a folder of the responses"),
    "refusal-ablation": "the mask of the attacks of this name",
    "lookalikes": "the harmless halves of the minimal pairs",
}
"""Names that neither a behaviour nor a plug-in's control may have, and what uses them."""

NEEDS_ALL_SCORES = frozenset(
    {
        "unsigned",
        "unimportant",
        "benign-signed",
        "opposite-sign",
        "second-q",
        "random-importance",
        "random-magnitude-importance",
    }
)
"""lesion's own controls that name `scores` in `lesion.masks.controls`."""


def _accepted(name: str, loaded: Any) -> Any:
    # By name, because `masks` is a higher layer of the package.
    if not isinstance(loaded, resolve_name("lesion.masks.controls:ControlRule")):
        raise TypeError("must name a `ControlRule` (lesion.masks.controls)")
    return loaded


CONTROL_PLUGINS = Plugins[Any](
    "lesion.controls", "control", lambda: BUILT_CONTROLS, _accepted, reserved=TAKEN_MASKS
)
"""The `lesion.masks.controls.ControlRule`s of plug-ins."""


def _known(name: str) -> str:
    CONTROL_PLUGINS.check(name)
    return name


Control = Annotated[
    Name,
    AfterValidator(_known),
    WithJsonSchema(
        {"anyOf": [{"enum": list(BUILT_CONTROLS), "type": "string"}, {"type": "string"}]}
    ),
]
"""The name of a control. The schema of a study leaves room for those of plug-ins, and is the same
whichever are installed."""


def controls_among(masks: Iterable[str], behaviours: Collection[str]) -> list[str]:
    """Those of a study's masks that are controls, given the names of its behaviours."""
    others = {"unmodified", *SHARED_MASKS, *GROWN_MASKS, *behaviours}
    return [name for name in masks if name not in others]


def needing_all_scores(masks: Iterable[str], behaviours: Collection[str]) -> list[str]:
    """Those of a study's masks that are controls which truncated scores cannot make: the rank of a
    weight depends on scores that are not stored.
    """

    def needs(name: str) -> bool:
        rule = CONTROL_PLUGINS.get(name)
        return name in NEEDS_ALL_SCORES if rule is None else rule.scores is not None

    return sorted(filter(needs, controls_among(masks, behaviours)))
