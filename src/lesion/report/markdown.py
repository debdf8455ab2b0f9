"""The before/after table as Markdown, for a model card."""

from pathlib import Path

from lesion.report.headline import headline
from lesion.tables.lookup import estimate_of
from lesion.tables.read import Headline, read_study_tables
from lesion.tables.rows import RANDOM, SHARED
from lesion.tables.wording import with_interval


def before_after(tables: Path, model: str, mask: str) -> str | None:
    """What a mask changed, as the report shows it; None if the study did not evaluate it.

    Args:
        tables: the study's tables folder.
        model: the study's model.
        mask: the mask that was zeroed.

    Raises:
        BadFile: a table is missing or damaged.
    """
    inputs = read_study_tables(tables).of(model)
    if inputs.measurements.filter(variant=mask).is_empty():
        return None
    # The random control matches the shared mask in size, so it is no control for another mask.
    shown = Headline(mask, RANDOM if mask == SHARED else None)
    complied = bool(inputs.judged_harm([model]))
    rows = headline(inputs.measurements, inputs.where, shown, compliance=complied)
    columns = ["as many at random" if name == "random" else name for name in shown.columns]
    # All warnings but that about the judge are about the headline mask.
    of_headline = mask == inputs.headline.mask
    warned = inputs.notices([model]) if of_headline else inputs.judged_harm([model])
    lines = [line for notice in warned for line in (f"**{notice}**", "")]
    lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for (label, note), group in rows.group_by("label", "note", maintain_order=True):
        cells = [
            with_interval(estimate_of(row), row["unit"], digits=2)
            for row in group.iter_rows(named=True)
        ]
        lines.append(f"| {label}: {note} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nBrackets: {inputs.confidence:.0%} interval.\n"
