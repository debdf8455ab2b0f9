"""Parts of sentences about claims: the changes that a mask causes, as the page writes them."""

from lesion.tables.lookup import find
from lesion.tables.read import StudyTables
from lesion.tables.wording import Unit, with_interval


def added(found: StudyTables, variant: str, metric: str = "nll_added", role: str = "harm") -> str:
    """The NLL that a mask adds to some responses: `0.31 [0.25, 0.38]`."""
    return with_interval(find(found.measurements, variant, metric, role), "nats")


def from_to(
    found: StudyTables, unit: Unit, metric: str, role: str = "harm", attack: str = "none"
) -> str:
    """`0.62 [0.57, 0.67] to 0.20 [0.15, 0.25]`: unmodified, and with the shared mask zeroed."""
    unmodified, shared = (
        with_interval(find(found.measurements, variant, metric, role, attack), unit)
        for variant in ("unmodified", "shared")
    )
    return f"{unmodified} to {shared}"
