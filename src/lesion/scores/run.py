"""Score one behaviour of one model: load, one pass over its train pairs, write the shards."""

import sys
from pathlib import Path
from typing import NamedTuple

from lesion import __version__
from lesion.formats import digest
from lesion.models.candidates import find_candidates
from lesion.models.load import load, resolve_dtype
from lesion.models.record import read_record
from lesion.models.text import batches
from lesion.pairs.encode import encode_pairs
from lesion.pairs.tables import kept_pairs
from lesion.progress import progress
from lesion.scores.collect import score
from lesion.scores.store import write_scores

LOSS = "mean over examples of the mean NLL (nats) of the response tokens"


class Scoring(NamedTuple):
    """How a behaviour is scored; `preservation` is None for behaviours that are not preserved."""

    dtype: str
    batch_tokens: int
    shards: int
    preservation: str | None
    threads: int


def run(model: Path, pairs: Path, folder: Path, behaviour: str, how: Scoring) -> None:
    """Write `snip` scores, and `preservation` importance where asked for, into `folder`."""
    loaded = load(model, how.dtype, how.threads)
    table = kept_pairs(pairs, "train")
    examples = encode_pairs(loaded, table)
    candidates = find_candidates(loaded.model)
    with progress(f"{behaviour}: scores", len(examples), "pair") as advance:
        found = score(
            loaded.model,
            candidates,
            batches(examples, how.batch_tokens),
            preservation=how.preservation == "per-example",
            advance=advance,
        )
    print(
        f"{behaviour}: mean train NLL {found.loss:.4f} over {found.examples} pairs", file=sys.stderr
    )
    common = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "behaviour": behaviour,
        "loss": LOSS,
        "examples": str(found.examples),
        "pairs_digest": digest(table.rows()),
        "dtype": str(resolve_dtype(how.dtype)).removeprefix("torch."),
    }
    definition = {"definition": "W * dL/dW", "sign": "signed; negative promotes the response"}
    if how.preservation == "mean":
        benign = {name: value.abs() for name, value in found.snip.items()}
        write_scores(benign, folder, "preservation", how.shards, {**common, **_MEAN})
    if found.preservation is not None:
        write_scores(found.preservation, folder, "preservation", how.shards, {**common, **_EACH})
    write_scores(found.snip, folder, "snip", how.shards, {**common, **definition})


_EACH = {"definition": "mean over examples of |W * dL(x)/dW|", "sign": "unsigned"}
_MEAN = {"definition": "|W * dL/dW|", "sign": "unsigned"}
