from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from lesion.io.formats import LesionError, read_parquet, write_parquet
from lesion.masks.lesion import lesioned
from lesion.masks.store import read_mask, write_mask
from lesion.models import generate
from lesion.models.chat import Completion
from lesion.models.generate import complete
from lesion.models.likelihood import response_kl, response_nll
from lesion.models.record import candidate_shapes
from lesion.models.text import encode_prompt
from lesion.models.vllm_engine import PYTHON
from lesion.pairs.tables import answer_start, encode_pairs
from lesion.responses import COMPLETIONS, NLL
from lesion.responses.ask import respond_variant
from lesion.responses.attacks import PLACEHOLDER
from lesion.responses.jobs import AttackWords, ResponsesJob
from lesion.responses.variant import EvaluatedVariant
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion_testing import make, tiny

BUILT = {
    "direct": AttackWords(wording=PLACEHOLDER, prefill=""),
    "prefill": AttackWords(wording=PLACEHOLDER, prefill=tiny.PREFILL),
}
HOW = ResponsesJob(
    variant="toy",
    roles={"alpha": "harm", "letters": "benign", "denials": "refusal"},
    attacks=BUILT,
    prefill=tiny.PREFILL,
    max_new_tokens=4,
    benign_prompts=2,
    batch_size=8,
    batch_tokens=400,
    engine="transformers",
    device=Device(dtype="float32", threads=1, device_map=None),
)


def changed(**changes: Any) -> ResponsesJob:
    """The job with other settings."""
    return HOW.model_copy(update=changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("responses"))


class Variant:
    """A variant's inputs and outputs in a folder, and what its last run said."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.capsys = model, folder, capsys
        self.pairs = {name: tiny.pairs(name, 3) for name in HOW.roles}
        self.mask: Path | None = None

    def run(self, out: str = "out", how: ResponsesJob = HOW, ablation: Path | None = None) -> str:
        paths = {name: self.folder / f"{name}.parquet" for name in self.pairs}
        for name, table in self.pairs.items():
            write_parquet(table, paths[name])
        respond_variant(
            how,
            self.model,
            self.mask,
            list(paths.values()),
            self.folder / out / "completions.parquet",
            self.folder / out / "nll.parquet",
            ablation,
        )
        return self.capsys.readouterr().err

    def read(self, out: str = "out") -> tuple[pl.DataFrame, pl.DataFrame]:
        folder = self.folder / out
        return (
            read_parquet(folder / "completions.parquet", COMPLETIONS),
            read_parquet(folder / "nll.parquet", NLL),
        )

    def lesion(self, **about: str) -> None:
        self.mask = self.folder / "mask"
        shapes = candidate_shapes(self.model)
        write_mask(np.arange(0, 20_480, 4), shapes, about, self.mask)

    def change(self, place: int, **columns: object) -> None:
        changed = [
            pl.when(pl.int_range(pl.len()) == place).then(pl.lit(value)).otherwise(name).alias(name)
            for name, value in columns.items()
        ]
        self.pairs["alpha"] = self.pairs["alpha"].with_columns(changed)


@pytest.fixture
def variant(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Variant:
    return Variant(model, tmp_path, capsys)


def test_harm_is_asked_under_every_attack_and_benign_prompts_under_the_prefill(
    variant: Variant,
) -> None:
    said = variant.run()
    assert "generated 8 of 8 completions" in said
    assert "measured 9 of 9 NLLs" in said
    completions, nll = variant.read()
    assert completions["user_turn"].equals(completions["prompt"])
    counts = (
        completions.group_by("behaviour", "attack", "prefill").len().sort("behaviour", "attack")
    )
    assert counts.rows() == [
        ("alpha", "direct", "", 3),
        ("alpha", "prefill", tiny.PREFILL, 3),
        ("letters", "prefill", tiny.PREFILL, 2),
    ]
    assert nll["role"].to_list() == ["harm"] * 3 + ["benign"] * 3 + ["refusal"] * 3
    assert nll["kl"].to_list() == [None] * 3 + [0.0] * 3 + [None] * 3
    loaded = tiny.loaded(variant.model)
    for row in completions.iter_rows(named=True):
        asked = encode_prompt(loaded.chat, row["prompt"], row["prefill"])
        (alone,) = complete(loaded.model, loaded.chat, [asked], 4, 1)
        assert (row["completion"], row["tokens"], row["finished"]) == alone[:3]
        assert tuple(row["token_ids"]) == alone.ids
    examples = encode_pairs(loaded.chat, pl.concat(variant.pairs.values()))
    wanted = response_nll(loaded.model, examples, 1)
    assert nll["nll"].to_list() == pytest.approx(wanted, rel=1e-4)


def test_two_runs_write_the_same_bytes(variant: Variant) -> None:
    variant.run("one")
    variant.run("other")
    for name in ("completions.parquet", "nll.parquet"):
        one, other = (variant.folder / run / name for run in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_only_what_changed_is_made_again(variant: Variant) -> None:
    variant.run()
    before = (variant.folder / "out" / "completions.parquet").read_bytes()
    said = variant.run()
    assert "generated 0 of 8 completions" in said
    assert "measured 0 of 9 NLLs" in said
    assert (variant.folder / "out" / "completions.parquet").read_bytes() == before
    variant.change(1, prompt=make.prompts("beta", 1)[0]["prompt"])
    said = variant.run()
    assert "generated 2 of 8 completions" in said
    assert "measured 1 of 9 NLLs" in said
    variant.run("anew")
    reused, anew = variant.read(), variant.read("anew")
    assert reused[0].equals(anew[0])
    assert reused[1]["nll"].to_list() == pytest.approx(anew[1]["nll"].to_list(), rel=1e-5)


def test_a_response_that_is_now_finished_is_measured_again(variant: Variant) -> None:
    variant.run()
    assert not variant.pairs["alpha"]["finished"][1]
    variant.change(1, finished=True)
    said = variant.run()
    assert "generated 0 of 8 completions" in said
    assert "measured 1 of 9 NLLs" in said


def test_another_length_is_generated_again_and_not_measured(variant: Variant) -> None:
    variant.run()
    said = variant.run(how=changed(max_new_tokens=5))
    assert "generated 8 of 8 completions" in said
    assert "measured 0 of 9 NLLs" in said


def test_a_mask_makes_another_variant(variant: Variant) -> None:
    variant.run()
    unmodified = variant.read()
    variant.lesion()
    said = variant.run()
    assert "generated 8 of 8 completions" in said
    assert "measured 9 of 9 NLLs" in said
    lesioned = variant.read()
    assert lesioned[0]["completion"].to_list() != unmodified[0]["completion"].to_list()
    assert lesioned[1]["nll"].to_list() != pytest.approx(unmodified[1]["nll"].to_list(), rel=1e-3)


def test_pairs_that_were_not_kept_are_asked_but_not_measured(variant: Variant) -> None:
    variant.change(2, outcome="refused")
    said = variant.run()
    assert "generated 8 of 8 completions" in said
    assert "measured 8 of 8 NLLs" in said


def test_benign_pairs_are_compared_with_the_unmodified_model(variant: Variant) -> None:
    variant.lesion()
    variant.run()
    _, nll = variant.read()
    assert nll["kl"].is_null().to_list() == [True] * 3 + [False] * 3 + [True] * 3
    assert variant.mask is not None
    indices = read_mask(variant.mask).indices
    whole, lesioned_ = tiny.loaded(variant.model), tiny.loaded(variant.model)
    with torch.no_grad(), lesioned(lesioned_.model, indices):
        for row, (tokens, start) in zip(
            nll.filter(role="benign").iter_rows(named=True),
            encode_pairs(whole.chat, variant.pairs["letters"]),
            strict=True,
        ):
            before, after = (
                one.model(input_ids=torch.tensor([tokens]))
                .logits[0, start - 1 : -1]
                .double()
                .log_softmax(-1)
                for one in (whole, lesioned_)
            )
            wanted = float((before.exp() * (before - after)).sum(-1).mean())
            assert row["kl"] == pytest.approx(wanted, rel=1e-4)
            assert wanted > 0.01
    # The NLL beside it is the lesioned model's, as that of the others is.
    subject = EvaluatedVariant(variant.model, variant.mask, HOW.device)
    examples = encode_pairs(subject.load().chat, pl.concat(variant.pairs.values()))
    found = response_nll(subject.load().model, examples, 1)
    assert nll["nll"].to_list() == pytest.approx(found, rel=1e-4)


def test_the_lesion_is_taken_back_for_a_moment_and_holds_after(variant: Variant) -> None:
    variant.lesion()
    assert variant.mask is not None
    subject = EvaluatedVariant(variant.model, variant.mask, HOW.device)
    pruned = {name: one.clone() for name, one in subject.load().model.state_dict().items()}
    whole = tiny.loaded(variant.model).model.state_dict()
    with subject.unmodified() as (model, _):
        assert all(torch.equal(one, whole[name]) for name, one in model.state_dict().items())
    after = subject.load().model.state_dict()
    assert all(torch.equal(one, pruned[name]) for name, one in after.items())
    assert any(not torch.equal(one, whole[name]) for name, one in pruned.items())
    examples = encode_pairs(subject.load().chat, variant.pairs["letters"])
    with pytest.raises(RuntimeError, match="stop"), subject.unmodified():
        raise RuntimeError("stop")
    (first, *_) = response_kl(subject.load().model, subject.unmodified, examples, 400)
    assert first.kl > 0.01


def test_an_attack_puts_the_prompt_in_its_words(variant: Variant) -> None:
    variant.run()
    template = AttackWords(wording="{{ x }} walnut {{ prompt }} wagon", prefill="Sure")
    said = variant.run(how=changed(attacks={**BUILT, "wagon": template}))
    # What was asked before is not asked again.
    assert "generated 3 of 11 completions" in said
    completions, _ = variant.read()
    loaded = tiny.loaded(variant.model)
    rows = completions.filter(attack="wagon")
    assert rows["prompt"].to_list() == variant.pairs["alpha"]["prompt"].to_list()
    for row in rows.iter_rows(named=True):
        assert row["user_turn"] == f"{{{{ x }}}} walnut {row['prompt']} wagon"
        assert row["prefill"] == "Sure"
        asked = encode_prompt(loaded.chat, row["user_turn"], "Sure")
        (alone,) = complete(loaded.model, loaded.chat, [asked], 4, 1)
        assert (row["completion"], row["tokens"], row["finished"]) == alone[:3]
        assert tuple(row["token_ids"]) == alone.ids


def _table(variant: Variant, texts: dict[str, str]) -> AttackWords:
    rows = [{"prompt": prompt, "attacked": text} for prompt, text in texts.items()]
    path = make.write_rows(variant.folder / "attacked.jsonl", rows)
    return AttackWords(wording=SourceLocation(path=path), prefill="")


def test_a_table_without_a_test_prompt_is_an_error_before_the_model_is_loaded(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EvaluatedVariant, "load", lambda _: pytest.fail("the model was loaded"))
    given = _table(variant, dict.fromkeys(variant.pairs["alpha"]["prompt"][:2], "x"))
    with pytest.raises(LesionError, match="lacks 1 of 3 harmful test prompts"):
        variant.run(how=changed(attacks={"gcg": given}))


def test_a_prompt_beyond_the_context_is_an_outcome(variant: Variant) -> None:
    # The model's context is 256 tokens; with the answer's 4 the second is one too long.
    first, second, third = variant.pairs["alpha"]["prompt"]
    room = 256 - 4 - len(encode_prompt(tiny.loaded(variant.model).chat, ""))
    words = {first: room, second: room + 1, third: 10_000}
    given = _table(variant, {prompt: "wagon " * n for prompt, n in words.items()})
    said = variant.run(how=changed(attacks={"flood": given}))
    assert "flood: 2 prompts have no completion, because they exceed" in said
    harm = variant.read()[0].filter(role="harm")
    assert harm.select("completion", "tokens", "finished").rows()[1:] == [("", 0, False)] * 2
    assert harm["tokens"][0] > 0 or harm["finished"][0]


ODD = ["", "\x00\x01\x1b[2J\r\u2028\ufffd", " " * 1_000_000, "\n\n", "\N{GRINNING FACE}\u0301"]


def test_odd_completions_survive_the_table(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(model: object, tokenizer: object, prompts: list[list[int]], *_: object) -> object:
        return [Completion(ODD[n % len(ODD)], n, n % 2 == 0) for n in range(len(prompts))]

    monkeypatch.setattr(generate, "complete", odd)
    variant.run()
    before = variant.read()[0]
    assert before["completion"].to_list() == [ODD[n % len(ODD)] for n in range(8)]
    assert "generated 0 of 8 completions" in variant.run()
    assert variant.read()[0].equals(before)


@pytest.mark.parametrize("role", ["benign", "matched"])
def test_a_variant_that_answers_nothing_has_its_nll_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    variant = Variant(model, tmp_path, capsys)
    variant.lesion()
    roles = {**HOW.roles, "letters": role}
    variant.run(how=changed(attacks={}, benign_prompts=0, roles=roles))
    completions, nll = variant.read()
    assert completions.is_empty()
    assert nll["nll"].null_count() == 0
    assert nll["kl"].null_count() == nll.height


def test_a_model_without_refusals_is_never_written_for_vllm(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    served = changed(engine="vllm")
    variant.lesion(role="refusal")
    assert "memory only" in variant.run("out", served)
    # Its rows are transformers'.
    assert "generated 0 of 8" in variant.run("out", HOW)
    variant.lesion(role="harm")
    assert "generated 0 of 8" in variant.run("out", HOW)
    with pytest.raises(LesionError, match=PYTHON):
        variant.run("out", served)
    assert "generated 0 of 8" in variant.run("out", HOW)
    assert {path.name for path in (variant.folder / "out").iterdir()} == {
        "completions.parquet",
        "nll.parquet",
    } | {path.name for path in (variant.folder / "out").glob(".*.rows")}


OWN = AttackWords(wording=PLACEHOLDER, prefill="", own_prefix=2)
ABLATED = AttackWords(wording=PLACEHOLDER, prefill="", ablated=True)


def _refusal_mask(variant: Variant) -> Path:
    path = variant.folder / "refusal"
    write_mask(np.arange(1, 20_480, 3), candidate_shapes(variant.model), {"role": "refusal"}, path)
    return path


def test_the_own_prefix_is_the_beginning_of_the_pairs_answer(variant: Variant) -> None:
    variant.change(1, outcome="refused")
    said = variant.run(how=changed(attacks={"own-prefix": OWN}))
    assert "own-prefix: 1 of 3 prompts of alpha are left out" in said
    rows = variant.read()[0].filter(role="harm")
    chat = tiny.loaded(variant.model).chat
    kept = variant.pairs["alpha"].filter(outcome="kept")
    assert rows["prompt"].to_list() == kept["prompt"].to_list()
    for row, pair in zip(rows.iter_rows(named=True), kept.iter_rows(named=True), strict=True):
        assert row["prefill"].startswith(tiny.PREFILL)
        added = row["prefill"].removeprefix(tiny.PREFILL).strip()
        assert pair["response"].strip().startswith(added)
        assert len(chat.tokenizer(added)["input_ids"]) == 2


def test_tokens_that_the_model_wrote_are_counted_as_written(variant: Variant) -> None:
    chat = tiny.loaded(variant.model).chat
    pair = variant.pairs["alpha"].row(0, named=True)
    ids = chat.tokenizer(pair["response"])["input_ids"]
    for count in (1, 3, len(ids)):
        start = answer_start(chat, {**pair, "token_ids": ids}, count)
        assert start == answer_start(chat, pair, count)
        assert start == f"{tiny.PREFILL} {chat.tokenizer.decode(ids[:count])}"


def test_weights_of_refusal_are_zeroed_on_top_of_the_variants(variant: Variant) -> None:
    how, mask = changed(attacks={**BUILT, "refusal-ablation": ABLATED}), _refusal_mask(variant)
    variant.lesion()
    said = variant.run(how=how, ablation=mask)
    assert "generated 11 of 11 completions" in said
    rows = variant.read()[0].filter(attack="refusal-ablation")
    loaded = tiny.loaded(variant.model)
    assert variant.mask is not None
    both = [read_mask(path).indices for path in (variant.mask, mask)]
    prompts = [encode_prompt(loaded.chat, prompt) for prompt in rows["prompt"]]
    with lesioned(loaded.model, both[0]), lesioned(loaded.model, both[1]):
        wanted = complete(loaded.model, loaded.chat, prompts, 4, 8)
    assert rows["completion"].to_list() == [one.text for one in wanted]
    direct = variant.read()[0].filter(attack="direct")
    assert direct["completion"].to_list() != rows["completion"].to_list()
    # The rows of the other attacks are those of a study without it.
    variant.run("without")
    assert variant.read("without")[0].equals(
        variant.read()[0].filter(pl.col("attack") != "refusal-ablation")
    )


def test_another_refusal_mask_generates_only_its_attacks_anew(variant: Variant) -> None:
    how, mask = changed(attacks={**BUILT, "refusal-ablation": ABLATED}), _refusal_mask(variant)
    variant.run(how=how, ablation=mask)
    write_mask(np.arange(40), candidate_shapes(variant.model), {"role": "refusal"}, mask)
    assert "generated 3 of 11 completions" in variant.run(how=how, ablation=mask)
    assert "generated 0 of 11 completions" in variant.run(how=how, ablation=mask)
    with pytest.raises(LesionError, match="refusal-ablation need a refusal mask"):
        variant.run(how=how)


def test_masked_weights_may_be_scaled_and_then_are_another_variants(variant: Variant) -> None:
    halved = changed(ablation=0.5)
    variant.run("zero")
    # Nothing of the unmodified model is masked, so nothing of it is made again.
    assert "generated 0 of 8" in variant.run("zero", halved)
    variant.lesion()
    assert "generated 8 of 8" in variant.run("zero")
    assert "generated 8 of 8" in variant.run("halved", halved)
    assert "generated 8 of 8" in variant.run("zero", changed(ablation="mean"))
    assert variant.mask is not None
    loaded = tiny.loaded(variant.model)
    examples = encode_pairs(loaded.chat, pl.concat(variant.pairs.values()))
    with lesioned(loaded.model, read_mask(variant.mask).indices, 0.5):
        wanted = response_nll(loaded.model, examples, 1)
    nll = variant.read("halved")[1]["nll"].to_list()
    assert nll == pytest.approx(wanted, rel=1e-4)
    # vLLM would read a checkpoint, in which masked weights are zero.
    said = variant.run("halved", halved.model_copy(update={"engine": "vllm"}))
    assert "`responses.ablation: 0.5` is applied in memory only" in said
    assert "generated 0 of 8" in said
