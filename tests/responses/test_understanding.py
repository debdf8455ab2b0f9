import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from lesion.io.formats import BadFile, LesionError, read_parquet, write_parquet
from lesion.masks.store import write_mask
from lesion.models.generate import complete
from lesion.models.likelihood import response_nll
from lesion.models.load import Loaded
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes
from lesion.models.text import encode_pair, encode_prompt
from lesion.responses import COMPLETIONS, UNDERSTANDING
from lesion.responses.detect import Answers, answers, log_odds
from lesion.responses.jobs import UnderstandingJob
from lesion.responses.prompt_files import read_minimal_pairs
from lesion.responses.understanding import DETECT, EXPLAIN, understand_variant
from lesion.sources.jobs import SourceLocation
from lesion.study import Study, StudyError, load_study, read_config, with_preset
from lesion.study.job import Device
from lesion_testing import ROOT, make, tiny

SHIPPED = ROOT / "studies" / "prompts" / "twins.jsonl"
HOW = UnderstandingJob(
    variant="toy",
    harms=["alpha"],
    minimal_pairs=SourceLocation(path=Path()),
    limit=None,
    over_refusal=2,
    explain=4,
    explain_prompts=2,
    max_new_tokens=3,
    batch_size=8,
    batch_tokens=400,
    device=Device(dtype="float32", threads=1, device_map=None),
)


def changed(**changes: object) -> UnderstandingJob:
    """The job with other settings."""
    return HOW.model_copy(update=changes)


def _twins(count: int) -> list[dict[str, str]]:
    pranks, letters = (make.prompts(name, count) for name in ("alpha", "letters"))
    return [
        {"harm": "alpha", "harmful": one["prompt"], "harmless": other["prompt"]}
        for one, other in zip(pranks, letters, strict=True)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("understanding")
    questions = DETECT.replace("{request}", "") + EXPLAIN.replace("{request}", "")
    source = make.llama(folder / "source", [*tiny.TEXTS, questions])
    prepare(source, folder / "model", dtype="float32", license_="mit")
    return folder / "model"


@pytest.fixture(scope="module")
def loaded(model: Path) -> Loaded:
    return tiny.loaded(model)


class Variant:
    """A variant's inputs and outputs in a folder, and what its last run said."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.capsys = model, folder, capsys
        self.minimal_pairs = _twins(3)
        self.mask: Path | None = None

    def run(self, out: str = "unmodified", how: UnderstandingJob = HOW, reference: str = "") -> str:
        pairs = self.folder / "alpha.parquet"
        write_parquet(tiny.pairs("alpha", 3), pairs)
        minimal_pairs = make.write_rows(self.folder / "twins.jsonl", self.minimal_pairs)
        understand_variant(
            how.model_copy(update={"minimal_pairs": SourceLocation(path=minimal_pairs)}),
            self.model,
            self.mask,
            [pairs],
            self.folder / f"{reference}.parquet" if reference else None,
            self.folder / f"{out}.parquet",
            self.folder / f"{out}-explanations.parquet",
        )
        return self.capsys.readouterr().err

    def read(self, measure: str, out: str = "unmodified") -> pl.DataFrame:
        table = read_parquet(self.folder / f"{out}.parquet", UNDERSTANDING)
        return table.filter(pl.col("measure") == measure)

    def said(self, role: str) -> pl.DataFrame:
        return read_parquet(self.folder / "unmodified-explanations.parquet", COMPLETIONS).filter(
            role=role
        )

    def lesion(self) -> None:
        self.mask = self.folder / "mask"
        write_mask(np.arange(0, 20_480, 4), candidate_shapes(self.model), {}, self.mask)


@pytest.fixture
def variant(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Variant:
    return Variant(model, tmp_path, capsys)


def test_detection_is_the_log_odds_of_the_first_token_of_the_answer(
    variant: Variant, loaded: Loaded
) -> None:
    variant.run()
    found = variant.read("detect")
    words = loaded.tokenizer.get_vocab()
    wanted = []
    for row in found.iter_rows(named=True):
        prompt = encode_prompt(loaded.chat, DETECT.format(request=row["prompt"]))
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([prompt])).logits[0, -1]
        likely = logits.double().log_softmax(0)
        wanted.append(float(likely[words["Yes"]] - likely[words["No"]]))
    assert found["value"].to_list() == pytest.approx(wanted, abs=1e-4)
    assert np.ptp(wanted) > 1e-3
    sides = [(row["harmful"], row["harmless"]) for row in variant.minimal_pairs]
    assert found["prompt"].to_list() == [one for pair in sides for one in pair]
    assert found["harmful"].to_list() == [True, False] * 3
    assert found["pair"].n_unique() == 3
    assert set(found["text"]) == {""}


def test_probabilities_of_several_spellings_add_up(loaded: Loaded) -> None:
    prompts = [[4, 5, 6], [4, 5, 6, 7, 8]]
    said = Answers([9, 10], [11])
    found = log_odds(loaded.model, prompts, said, 100)
    for prompt, one in zip(prompts, found, strict=True):
        with torch.inference_mode():
            likely = loaded.model(torch.tensor([prompt])).logits[0, -1].double().softmax(0)
        assert one == pytest.approx(float(((likely[9] + likely[10]) / likely[11]).log()), abs=1e-4)


def test_log_odds_do_not_depend_on_batches_or_a_shared_beginning(loaded: Loaded) -> None:
    common = list(range(4, 44))
    prompts = [[*common, *range(50, 50 + extra)] for extra in (1, 4, 2, 9)]
    said = Answers([9], [11])
    alone = [log_odds(loaded.model, [one], said, 1)[0] for one in prompts]
    assert log_odds(loaded.model, prompts, said, 1000) == pytest.approx(alone, abs=1e-4)
    assert log_odds(loaded.model, prompts, said, 5) == pytest.approx(alone, abs=1e-4)


def test_a_tokenizer_without_yes_and_no_is_named_with_the_fix(tmp_path: Path) -> None:
    plain = tiny.loaded(tiny.checkpoint(tmp_path))
    with pytest.raises(LesionError, match=r"understanding\.minimal_pairs: null"):
        answers(plain.tokenizer)


def test_unmodified_explanations_are_measured_by_their_own_likelihood(
    variant: Variant, loaded: Loaded
) -> None:
    variant.run()
    found = variant.read("explain")
    assert found.height == HOW.explain_prompts
    assert all(found["harmful"])
    for row in found.iter_rows(named=True):
        question = EXPLAIN.format(request=row["prompt"])
        asked = encode_prompt(loaded.chat, question)
        (alone,) = complete(*loaded, [asked], HOW.explain, 1)
        assert row["text"] == alone.text
        example = encode_pair(loaded.chat, question, "", alone.text, finished=False)
        assert row["value"] == pytest.approx(response_nll(loaded.model, [example], 1)[0], rel=1e-4)


def test_another_variant_is_measured_on_the_unmodified_explanations(variant: Variant) -> None:
    variant.run()
    unmodified = variant.read("explain")
    variant.run("same", reference="unmodified")
    # The same weights find the same words as likely.
    assert variant.read("explain", "same")["value"].to_list() == pytest.approx(
        unmodified["value"].to_list(), rel=1e-5
    )
    variant.lesion()
    variant.run("lesioned", reference="unmodified")
    lesioned = variant.read("explain", "lesioned")
    assert lesioned["text"].to_list() != unmodified["text"].to_list()
    assert all(lesioned["value"] > unmodified["value"])
    assert lesioned["pair"].equals(unmodified["pair"])


def test_a_reference_that_lacks_a_prompt_is_named(variant: Variant) -> None:
    variant.run(how=changed(explain_prompts=1))
    with pytest.raises(BadFile, match=r"unmodified\.parquet: lacks an explanation .* `alpha`"):
        variant.run("other", reference="unmodified")


def test_an_explanation_without_words_has_no_likelihood(variant: Variant) -> None:
    variant.run()
    table = read_parquet(variant.folder / "unmodified.parquet")
    first = (pl.col("measure") == "explain").cum_sum() == 1
    explained = first & (pl.col("measure") == "explain")
    silent = pl.when(explained).then(pl.lit("")).otherwise("text").alias("text")
    write_parquet(table.with_columns(silent), variant.folder / "unmodified.parquet")
    variant.run("other", reference="unmodified")
    assert variant.read("explain", "other")["value"].is_null().to_list() == [True, False]


def test_harmless_twins_are_answered_like_any_direct_request(
    variant: Variant, loaded: Loaded
) -> None:
    variant.run()
    found = variant.said("lookalike")
    assert found["prompt"].to_list() == [row["harmless"] for row in variant.minimal_pairs[:2]]
    asked = [encode_prompt(loaded.chat, prompt) for prompt in found["prompt"]]
    wanted = complete(*loaded, asked, HOW.max_new_tokens, 1)
    assert found.select("completion", "tokens", "finished").rows() == [one[:3] for one in wanted]
    place = found.select("behaviour", "role", "attack", "prefill").unique().rows()
    assert place == [("lookalikes", "lookalike", "direct", "")]


def test_an_explanation_is_kept_for_the_judges(variant: Variant) -> None:
    variant.run()
    found = variant.said("explanation")
    explained = variant.read("explain")
    assert found["completion"].equals(explained["text"], check_names=False)
    assert found["prompt"].equals(explained["prompt"])
    assert found["user_turn"].to_list() == [
        EXPLAIN.format(request=prompt) for prompt in explained["prompt"]
    ]
    place = found.select("behaviour", "role", "attack", "prefill").unique().rows()
    assert place == [("alpha", "explanation", "explanation", "")]


def test_only_what_changed_is_made_again(variant: Variant) -> None:
    said = variant.run()
    assert "detection for 6 of 6" in said
    assert "measured 2 of 2" in said
    assert "answered 4 of 4" in said
    before = (variant.folder / "unmodified.parquet").read_bytes()
    said = variant.run()
    for part in ("detection for 0 of 6", "measured 0 of 2", "answered 0 of 4"):
        assert part in said
    assert (variant.folder / "unmodified.parquet").read_bytes() == before
    variant.minimal_pairs[0]["harmless"] = make.prompts("sums", 1)[0]["prompt"]
    said = variant.run()
    for part in ("detection for 1 of 6", "measured 0 of 2", "answered 1 of 4"):
        assert part in said
    variant.lesion()
    said = variant.run()
    for part in ("detection for 6 of 6", "measured 2 of 2", "answered 4 of 4"):
        assert part in said


def test_nothing_is_explained_or_answered_where_that_is_off(variant: Variant) -> None:
    variant.run(how=changed(explain=0, over_refusal=0, limit=1))
    assert variant.read("explain").is_empty()
    assert variant.read("detect").height == 2
    assert variant.said("lookalike").is_empty()


def test_a_request_beyond_the_context_is_named(variant: Variant) -> None:
    variant.minimal_pairs[1]["harmful"] = " ".join(["swap", *make.WORDS * 3])
    with pytest.raises(LesionError, match=r"context of 256.*understanding\.minimal_pairs"):
        variant.run()


def test_unfit_twins_are_named(tmp_path: Path) -> None:
    rows = _twins(2)

    def complaint(changed: list[dict[str, str]]) -> str:
        path = make.write_rows(tmp_path / "twins.jsonl", changed)
        with pytest.raises(BadFile) as caught:
            read_minimal_pairs(path, None)
        return str(caught.value)

    assert "has no column `harmless`" in complaint([{"harm": "alpha", "harmful": "swap it"}])
    assert "twins.jsonl, line 2: has an empty `harmful`" in complaint(
        [rows[0], {**rows[1], "harmful": " "}]
    )
    assert "occurs twice" in complaint([rows[0], {**rows[1], "harmless": rows[0]["harmful"]}])


def test_a_pair_is_named_by_its_own_text(tmp_path: Path) -> None:
    rows = _twins(3)
    whole = read_minimal_pairs(make.write_rows(tmp_path / "all.jsonl", rows), 2)
    turned = read_minimal_pairs(make.write_rows(tmp_path / "turned.jsonl", rows[::-1]), None)
    assert whole["pair"].to_list() == turned["pair"].to_list()[:0:-1]


def test_the_shipped_twins_match() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    assert all(list(json.loads(line)) == ["harm", "harmful", "harmless"] for line in lines)
    minimal_pairs = read_minimal_pairs(SHIPPED, None)
    assert minimal_pairs.height == 120
    types = {"financial", "physical", "identity", "privacy", "psychological"}
    # Both halves: the one that measures, and the one that chose the question.
    for half in (minimal_pairs[:60], minimal_pairs[60:]):
        assert dict(half["harm"].value_counts().rows()) == dict.fromkeys(types, 12)
    content = CountVectorizer(stop_words="english").build_analyzer()
    for row in minimal_pairs.iter_rows(named=True):
        harmful, harmless = set(content(row["harmful"])), set(content(row["harmless"]))
        assert 2 * len(harmful & harmless) >= len(harmful), row


def _study(**understanding: object) -> Study:
    config = read_config(ROOT / "config.yaml")
    whole = with_preset(config)
    return load_study({**whole, "preset": "none", "understanding": understanding})


def test_the_job_follows_the_rows_that_are_used(tmp_path: Path) -> None:
    from lesion.plan.jobs import understanding_job

    def content(rows: list[dict[str, str]]) -> object:
        path = make.write_rows(tmp_path / "twins.jsonl", rows)
        return understanding_job(
            _study(minimal_pairs=f"file:{path}", limit=2), {"variant": "unmodified"}
        )

    rows = _twins(3)
    before = content(rows)
    assert content([*rows[:2], {**rows[2], "harmful": "another"}]) == before
    assert content([{**rows[0], "harmful": "another"}, *rows[1:]]) != before


def test_variants_are_those_of_the_responses_or_the_given_ones() -> None:
    from lesion.plan import outputs

    minimal_pairs = f"file:{SHIPPED}"
    study = _study(minimal_pairs=minimal_pairs)
    assert outputs.understood(study) == study.variants
    assert outputs.understood(_study(minimal_pairs=minimal_pairs, variants=["refusal"])) == [
        "unmodified",
        "refusal",
    ]
    assert outputs.understood(_study()) == []
    with pytest.raises(StudyError, match=r"understanding\.variants.*no mask is named `refusals`"):
        _study(minimal_pairs=minimal_pairs, variants=["refusals"])
    with pytest.raises(StudyError, match=r"understanding\.minimal_pairs.*no source is named"):
        _study(minimal_pairs="nowhere")
