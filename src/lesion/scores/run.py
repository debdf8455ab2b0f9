"""The scoring of one behaviour of one model: passes over its train pairs, written as shards."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from lesion import __version__
from lesion.io.formats import digest
from lesion.io.progress import progress
from lesion.models.candidates import Candidate, find_candidates
from lesion.models.layout import layout_of
from lesion.models.load import Loaded, load, resolve_dtype
from lesion.models.record import read_record
from lesion.models.text import Example, encode_plain
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.collect import CollectedScores, Wanted, score
from lesion.scores.jobs import ScoresJob
from lesion.scores.memory import Plan, free_memory, make_plan, need
from lesion.scores.resume import FinishedPasses
from lesion.scores.shards import (
    NORMS,
    index_name,
    shard_groups,
    shard_names,
    write_index,
    write_shard,
)
from lesion.scores.store import StoredScores
from lesion.scores.tail import write_tail

logger = logging.getLogger(__name__)

LOSS = "mean over examples of the mean NLL (nats) of the response tokens"
_DEFINITIONS = {
    "signed": {"definition": "W * dL/dW", "sign": "signed; negative promotes the response"},
    "per-example": {"definition": "mean over examples of |W * dL(x)/dW|", "sign": "unsigned"},
    "mean": {"definition": "|W * dL/dW|", "sign": "unsigned"},
}


def score_model(
    model: Path, pairs: Path, folder: Path, job: ScoresJob, save_minutes: float
) -> None:
    """Write `snip` scores, and `preservation` importance if requested, into `folder`.

    The pairs are a table of PAIRS. A killed job resumes from its last saved sums, which are in
    `.scoring` in the folder until all shards are written; the resulting bytes are the same. Sums
    are saved at most every `save_minutes`.
    """
    loaded = load(model, job.device)
    table = kept_pairs(pairs, "train")
    if job.text == "plain":
        texts = table.select("prompt", "prefill", "response").iter_rows()
        examples = [encode_plain(loaded.chat, *row) for row in texts]
    else:
        examples = encode_pairs(loaded.chat, table)
    candidates = find_candidates(loaded.model)
    wanted = need(loaded.model, candidates, job.batch_tokens, job.preservation == "per-example")
    plan = make_plan(wanted, free_memory(loaded.model.device), job.memory, job.shards)
    logger.info(f"scores: {plan.why}")
    metadata = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "behaviour": job.behaviour,
        "loss": LOSS,
        "examples": str(len(examples)),
        "pairs_digest": digest(table.rows()),
        "text": job.text,
        "dtype": str(resolve_dtype(job.device.dtype)).removeprefix("torch."),
    }
    identity = {
        **metadata,
        "tokens": digest(examples),
        "plan": plan._replace(why=""),
        # The plan already has what the memory settings amount to.
        "job": job.model_dump(exclude={"code", "memory"}),
    }
    groups = shard_groups(
        {name: candidate.weight.numel() for name, candidate in candidates.items()}, job.shards
    )
    workspace = FinishedPasses(folder / ".scoring", digest(identity))
    scoring = _Run(job, plan, workspace, groups, metadata)
    loss = scoring.passes(loaded, candidates, examples, 60 * save_minutes)
    logger.info(f"{job.behaviour}: mean train NLL {loss:.4f} over {len(examples)} pairs")
    scoring.publish(folder, model)


class _Run(NamedTuple):
    job: ScoresJob
    plan: Plan
    workspace: FinishedPasses
    groups: list[list[str]]
    """Names of the parameters in each shard."""
    metadata: dict[str, str]

    @property
    def kinds(self) -> dict[str, dict[str, str]]:
        """The metadata of each kind of score that is written."""
        kinds = {"snip": "signed"}
        if self.job.preservation:
            kinds["preservation"] = self.job.preservation
        return {kind: {**self.metadata, **_DEFINITIONS[key]} for kind, key in kinds.items()}

    def passes(
        self,
        loaded: Loaded,
        candidates: Mapping[str, Candidate],
        examples: Sequence[Example],
        save_seconds: float,
    ) -> float:
        """Write every shard into the working folder; each pass writes a range of shards."""
        wanted = Wanted(
            preservation=self.job.preservation == "per-example",
            norms=self.job.norms,
            offload=self.plan.offload,
            checkpointing=self.plan.checkpointing,
        )
        loss, passes = 0.0, self.plan.passes
        with progress(f"{self.job.behaviour}: scores", passes * len(examples), "pair") as advance:
            for number in range(passes):
                shards = range(*(n * len(self.groups) // passes for n in (number, number + 1)))
                finished_loss = self.workspace.finished(number)
                if finished_loss is None:
                    collected = score(
                        loaded.model,
                        {name: candidates[name] for shard in shards for name in self.groups[shard]},
                        examples,
                        self.job.batch_tokens,
                        wanted,
                        saved=self.workspace.sums(number, save_seconds),
                        advance=advance,
                    )
                    loss = collected.loss
                    self.workspace.finish(number, loss, self._write(collected, shards, number))
                else:
                    loss = finished_loss
                    advance(len(examples))
        return loss

    def _write(self, collected: CollectedScores, shards: range, number: int) -> list[str]:
        """Write the files of a pass into the working folder; return their names."""
        kinds, written = {"snip": collected.snip}, []
        if self.job.preservation == "mean":
            # `abs` makes new tensors, because the signed scores are written as well.
            kinds["preservation"] = {name: tensor.abs() for name, tensor in collected.snip.items()}
        if collected.preservation is not None:
            kinds["preservation"] = collected.preservation
        for kind, scores in kinds.items():
            names = shard_names(kind, self.job.shards)
            for shard in shards:
                tensors = {name: scores[name].cpu() for name in self.groups[shard]}
                write_shard(tensors, self.workspace.folder / names[shard], self.kinds[kind])
                written.append(names[shard])
        if collected.norms is not None:
            norms = {name: tensor.cpu() for name, tensor in collected.norms.items()}
            written.append(f"{number}-{NORMS}")
            write_shard(norms, self.workspace.folder / written[-1], self.metadata)
        return written

    def publish(self, folder: Path, model: Path) -> None:
        """Move the finished files to their destination, or write truncated scores from them."""
        shards, tail = self.job.shards, self.job.tail
        for kind, about in self.kinds.items():
            write_index(self.workspace.folder, kind, self.groups, about)
            if tail:
                layout = layout_of(model)
                full = StoredScores(self.workspace.folder, kind, layout.stored_shapes)
                write_tail(full, folder, kind, shards, layout, tail, about)
            else:
                self.workspace.move([*shard_names(kind, shards), index_name(kind)], folder)
        if self.job.norms:
            from safetensors.torch import load_file

            norms: dict[str, Tensor] = {}
            for part in sorted(self.workspace.folder.glob(f"*-{NORMS}")):
                norms |= load_file(part)
            write_shard(norms, folder / NORMS, self.metadata)
        self.workspace.remove()
