"""The NLL of test pairs with masks of different rules that cost the same on benign text."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lesion.io.formats import digest, read_parquet
from lesion.io.progress import progress
from lesion.io.reuse import fill_rows, key, write_rows
from lesion.masks.equal_cost import EQUAL_COST_MASKS
from lesion.models.layout import layout_of
from lesion.pairs.tables import encode_pairs
from lesion.responses import EQUAL_COST, read_tests
from lesion.responses.jobs import EqualCostJob
from lesion.responses.variant import EvaluatedVariant


def respond_equal_cost(
    job: EqualCostJob, model: Path, masks: Path, pairs: Sequence[Path], out: Path
) -> None:
    """Write the NLLs of all masks; unchanged rows are reused from an earlier `out`.

    Args:
        job: batches and device.
        model: checkpoint folder.
        masks: table of EQUAL_COST_MASKS.
        pairs: tables of PAIRS, in the order of the job's `roles`.
        out: table of EQUAL_COST, with a row for each mask and kept test pair, in nats per token.
    """
    subject = EvaluatedVariant(model, None, job.device)
    kept = read_tests(job.roles, pairs).filter(outcome="kept")
    examples = encode_pairs(subject.chat, kept)
    known = kept.select("behaviour", "role", "prompt").rows(named=True)
    table, layout = read_parquet(masks, EQUAL_COST_MASKS), layout_of(model)
    about = table.drop("flat_indices").rows(named=True)
    flat = [indices.to_numpy() for indices in table["flat_indices"]]
    rows = [
        {
            **mask,
            **pair,
            "key": key(example=example, **{**subject.identity, "mask": digest(indices.tolist())}),
        }
        for mask, indices in zip(about, flat, strict=True)
        for pair, example in zip(known, examples, strict=True)
    ]

    def make(todo: list[int]) -> list[dict[str, Any]]:
        from lesion.masks.lesion import lesioned
        from lesion.models.likelihood import response_nll

        loaded = subject.load()
        nlls = []
        with progress("equal cost: NLL", len(todo), "pair") as advance:
            for number, indices in groupby(todo, lambda index: index // len(examples)):
                chosen = [examples[index % len(examples)] for index in indices]
                with lesioned(loaded.model, layout.by_name(flat[number])):
                    nlls += response_nll(loaded.model, chosen, job.batch_tokens, advance)
        return [{"nll": nll} for nll in nlls]

    log = "equal cost: measured {} of {} NLLs"
    write_rows(fill_rows(rows, out, EQUAL_COST, make, log), out)
