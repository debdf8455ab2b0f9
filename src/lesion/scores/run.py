"""The scoring of one behaviour of one model: passes over its train pairs, written as shards."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lesion import __version__
from lesion.io.formats import digest
from lesion.io.progress import progress
from lesion.models.candidates import Candidate, find_candidates
from lesion.models.layout import layout_of
from lesion.models.load import Loaded, load, resolve_dtype
from lesion.models.record import read_record
from lesion.models.text import Example
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.collect import CollectedScores, Wanted, score
from lesion.scores.jobs import ScoresJob
from lesion.scores.memory import Plan, free_memory, make_plan, need
from lesion.scores.resume import FinishedPasses
from lesion.scores.store import (
    NORMS,
    StoredScores,
    index_name,
    shard_groups,
    shard_names,
    write_index,
    write_shard,
)
from lesion.scores.tail import write_tail

logger = logging.getLogger(__name__)

LOSS = "mean over examples of the mean NLL (nats) of the response tokens"


def score_model(
    model: Path, pairs: Path, folder: Path, job: ScoresJob, save_minutes: float
) -> None:
    """Write `snip` scores, and `preservation` importance if requested, into `folder`.

    A killed job resumes from its last saved sums, which are in `.scoring` in the folder until all
    shards are written; the resulting bytes are the same.

    Args:
        model: checkpoint folder.
        pairs: table of PAIRS.
        folder: folder of the behaviour's scores.
        job: how they are computed and stored.
        save_minutes: least time between two saves of the unfinished sums.
    """
    loaded = load(model, job.device)
    table = kept_pairs(pairs, "train")
    examples = encode_pairs(loaded.chat, table)
    candidates = find_candidates(loaded.model)
    plan = _planned(loaded, candidates, job)
    metadata = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "behaviour": job.behaviour,
        "loss": LOSS,
        "examples": str(len(examples)),
        "pairs_digest": digest(table.rows()),
        "dtype": str(resolve_dtype(job.device.dtype)).removeprefix("torch."),
    }
    decides = {
        **metadata,
        "tokens": digest(examples),
        "plan": plan._replace(why=""),
        # The plan already has what the memory settings amount to.
        "job": job.model_dump(exclude={"code", "memory"}),
    }
    place = FinishedPasses(folder / ".scoring", digest(decides))
    scoring = _Run(job, plan, place, metadata, save_minutes)
    loss = scoring.passes(loaded, candidates, examples)
    logger.info(f"{job.behaviour}: mean train NLL {loss:.4f} over {len(examples)} pairs")
    scoring.publish(folder, model)


def _planned(loaded: Loaded, candidates: Mapping[str, Candidate], job: ScoresJob) -> Plan:
    wanted = need(loaded.model, candidates, job.batch_tokens, job.preservation == "per-example")
    plan = make_plan(wanted, free_memory(loaded.model.device), job.memory, job.shards)
    logger.info(f"scores: {plan.why}")
    return plan


class _Run(NamedTuple):
    job: ScoresJob
    plan: Plan
    place: FinishedPasses
    metadata: dict[str, str]
    save_minutes: float

    @property
    def kinds(self) -> list[str]:
        return ["snip", *(["preservation"] if self.job.preservation else [])]

    def about(self, kind: str) -> dict[str, str]:
        key = "signed" if kind == "snip" else str(self.job.preservation)
        return {**self.metadata, **_DEFINITIONS[key]}

    def passes(
        self, loaded: Loaded, candidates: Mapping[str, Candidate], examples: Sequence[Example]
    ) -> float:
        """Write every shard into the working folder; each pass writes a range of shards."""
        groups = shard_groups(
            {name: one.weight.numel() for name, one in candidates.items()}, self.job.shards
        )
        wanted = Wanted(
            preservation=self.job.preservation == "per-example",
            norms=self.job.norms,
            offload=self.plan.offload,
            checkpointing=self.plan.checkpointing,
        )
        loss = 0.0
        total = self.plan.passes * len(examples)
        with progress(f"{self.job.behaviour}: scores", total, "pair") as advance:
            for number in range(self.plan.passes):
                edges = [n * len(groups) // self.plan.passes for n in (number, number + 1)]
                shards = range(*edges)
                names = [name for shard in shards for name in groups[shard]]
                noted = self.place.finished(number, self._files(shards, number))
                if noted is None:
                    found = score(
                        loaded.model,
                        {name: candidates[name] for name in names},
                        examples,
                        self.job.batch_tokens,
                        wanted,
                        saved=self.place.sums(number, 60 * self.save_minutes),
                        advance=advance,
                    )
                    self._write(found, {shard: groups[shard] for shard in shards}, number)
                    noted = {"loss": found.loss}
                    self.place.finish(number, noted)
                else:
                    advance(len(examples))
                loss = noted["loss"]
        return loss

    def _files(self, shards: range, number: int) -> list[str]:
        """The files that a pass writes into the working folder."""
        each = [shard_names(kind, self.job.shards) for kind in self.kinds]
        names = [own[shard] for own in each for shard in shards]
        return [*names, f"{number}-{NORMS}"] if self.job.norms else names

    def _write(self, found: CollectedScores, groups: Mapping[int, list[str]], number: int) -> None:
        kinds: dict[str, dict[str, Tensor]] = {"snip": found.snip}
        if self.job.preservation == "mean":
            # `abs` makes new tensors, because the signed scores are written as well.
            kinds["preservation"] = {name: one.abs() for name, one in found.snip.items()}
        if found.preservation is not None:
            kinds["preservation"] = found.preservation
        for kind, scores in kinds.items():
            names = shard_names(kind, self.job.shards)
            for shard, group in groups.items():
                tensors = {name: scores[name].cpu() for name in group}
                write_shard(tensors, self.place.folder / names[shard], self.about(kind))
        if found.norms is not None:
            norms = {name: one.cpu() for name, one in found.norms.items()}
            write_shard(norms, self.place.folder / f"{number}-{NORMS}", self.metadata)

    def publish(self, folder: Path, model: Path) -> None:
        """Move the finished files to their destination, or write truncated scores from them."""
        layout = layout_of(model)
        sizes = {
            name: rows * cols
            for name, (rows, cols) in zip(layout.names, layout.shapes, strict=True)
        }
        groups = shard_groups(sizes, self.job.shards)
        for kind in self.kinds:
            write_index(self.place.folder, kind, groups, self.about(kind))
            if self.job.tail:
                full = StoredScores(self.place.folder, kind, layout.stored_shapes)
                write_tail(
                    full, folder, kind, self.job.shards, layout, self.job.tail, self.about(kind)
                )
            else:
                names = [*shard_names(kind, self.job.shards), index_name(kind)]
                self.place.move(names, folder)
        if self.job.norms:
            self._publish_norms(folder)
        self.place.remove()

    def _publish_norms(self, folder: Path) -> None:
        from safetensors.torch import load_file

        parts = sorted(self.place.folder.glob(f"*-{NORMS}"))
        norms: dict[str, Any] = {}
        for part in parts:
            norms |= load_file(part)
        write_shard(norms, folder / NORMS, self.metadata)


_DEFINITIONS = {
    "signed": {"definition": "W * dL/dW", "sign": "signed; negative promotes the response"},
    "per-example": {"definition": "mean over examples of |W * dL(x)/dW|", "sign": "unsigned"},
    "mean": {"definition": "|W * dL/dW|", "sign": "unsigned"},
}
