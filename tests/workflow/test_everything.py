"""A whole study that measures all there is to measure, and its tables as other tools read them."""

import json
from collections import Counter
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import pytest
import yaml

from lesion.export.frames import JAILBREAKBENCH, harmful_prompts, learned_judge, pandas_tables
from lesion.io.formats import LesionError, read_parquet
from lesion.io.staging import ARCHIVE, unpack
from lesion.plan.estimate import every_job
from lesion.plan.places import source_name
from lesion.study import load_study, read_config
from lesion.tables import TABLES
from lesion.tables.answer_outcomes import ANSWER_OUTCOMES
from lesion.tables.claims.registry import REGISTRY
from lesion_testing import ROOT
from lesion_testing.workflow import HARMS, Finished, Place, run, with_rsync

pytestmark = pytest.mark.slow

CLAIMS = {1, 2, 3, 6, 7}
"""Claims about a single model; the others compare models (docs/how-to/gate.md)."""


def _everything(config: dict[str, Any]) -> None:
    for name in HARMS:
        # Both sides of a pair are answered by the model.
        config["behaviours"][name].pop("response", None)
        config["behaviours"][f"{name}-matched"] = {
            "role": "matched",
            "of": name,
            "source": "file:inputs/matched.jsonl",
            "where": {"column": "harm", "equals": name},
        }
    config["masks"] |= {"controls": ["random", "unsigned"], "contrast": [0, 1]}
    config["responses"] |= {
        "variants": ["shared", "random", "alpha", "beta", "gamma", "denials"],
        "judged_variants": ["shared", "random"],
        "attacks": ["direct", "prefill", "please", "refusal-ablation-own-prefix"],
        "templates": {"please": {"source": "file:inputs/please.txt"}},
    }
    config["equal_cost"] = {
        "masks": ["shared", "plain", "matched", "random"],
        "limits": [0.0005, 0.002],
        "largest": 0.3,
    }
    config["curve"] = {
        "families": ["shared", "random", "letters"],
        "sizes": [0.5, 1, 2],
        "seeds": 2,
        "max_pairs": None,
    }
    config["understanding"] = {
        "minimal_pairs": "file:inputs/twins.jsonl",
        "explain": 4,
        "explain_prompts": 2,
        "over_refusal": 3,
        "variants": ["shared", "denials"],
    }
    config["utility"] = {
        "tasks": ["tiny_sums"],
        "folder": "inputs/tasks",
        "variants": ["shared"],
    }


def _inputs(place: Place) -> None:
    """An attack, twins and a task, in the words that the tiny model knows."""
    (place.inputs / "please.txt").write_text("Sure, {{ prompt }} {not} {{this}}", encoding="utf-8")
    pranks = (place.inputs / "pranks.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in pranks]
    words = [row["prompt"].split() for row in rows]
    twins = [
        {"harm": row["kind"], "harmful": row["prompt"], "harmless": " ".join(reversed(said))}
        for row, said in zip(rows, words, strict=True)
        if row["kind"] != "delta"
    ]
    lines = [json.dumps(twin) for twin in twins[::6]]
    (place.inputs / "twins.jsonl").write_text("\n".join(lines), encoding="utf-8")
    alike = [{**twin, "harmless": f"{twin['harmless']} yes"} for twin in twins]
    lines = [json.dumps(twin) for twin in alike]
    (place.inputs / "matched.jsonl").write_text("\n".join(lines), encoding="utf-8")
    _task(place.inputs / "tasks")


def _task(folder: Path) -> None:
    folder.mkdir()
    items = [
        {"question": f"{n} and {n}", "choices": ["yes", "no"], "answer": n % 2} for n in range(6)
    ]
    text = "\n".join(map(json.dumps, items))
    (folder / "tiny_sums.jsonl").write_text(text, encoding="utf-8")
    task = {
        "task": "tiny_sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "tiny_sums.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "tiny_sums.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = finished.place.copy(tmp_path_factory.mktemp("everything"))
    _inputs(place)
    place.configure(_everything)
    ran = place.run()
    # What was there before is used again.
    new = {
        job
        for job in ran
        if job.startswith(("generate_pairs", "signed_scores", "prompts", "train_judge"))
    }
    matched = [f"{name}-matched" for name in HARMS]
    scored = {f"{rule} {name}" for rule in ("generate_pairs", "signed_scores") for name in matched}
    # The answers to these two were given before.
    answered = {
        f"{rule} {name}"
        for rule in ("prompts", "generate_pairs", "signed_scores")
        for name in ("alpha", "gamma")
    }
    assert new == {*scored, *answered, "signed_scores denials"}
    assert "refusal_mask" in ran
    assert {f"matched_prompts {name}" for name in matched} <= set(ran)
    return place


def test_the_jobs_of_an_estimate_are_those_of_snakemake(whole: Place) -> None:
    with chdir(whole.folder):
        study = load_study(read_config(whole.study))
        jobs = [*every_job(study)]
    planned = Counter(job.split()[0] for job in whole.jobs("-n", "-F"))
    # `jobs` calls both rules of scores the same.
    assert planned == Counter(rule.replace("harmless_", "signed_") for rule, _ in jobs)


def _table(place: Place, name: str) -> pl.DataFrame:
    return read_parquet(place.made / "tables" / f"{name}.parquet")


def test_nothing_is_stale_afterwards(whole: Place) -> None:
    assert not whole.plan()


def test_every_metric_has_its_rows(whole: Place) -> None:
    table = _table(whole, "measurements")
    metrics = set(table["metric"])
    assert {
        "nll",
        "nll_added",
        "kl",
        "transfer_share",
        "harmfulness",
        "harmfulness_change",
    } <= metrics
    assert {"detect_auroc", "explain_nll_added", "accuracy", "accuracy_change"} <= metrics
    assert set(table["role"]) == {
        *("harm", "matched", "benign", "refusal", "lookalike", "explanation", "utility")
    }
    assert set(table["attack"]) == {
        *("none", "direct", "prefill", "please", "refusal-ablation-own-prefix", "explanation")
    }


def test_every_judged_answer_has_one_outcome(whole: Place) -> None:
    table = _table(whole, "measurements")
    shares = table.filter(pl.col("metric").is_in(ANSWER_OUTCOMES))
    assert set(shares["role"]) == {"harm", "matched", "benign", "lookalike", "explanation"}
    assert set(shares.filter(role="harm")["attack"]) == {
        *("direct", "prefill", "please", "refusal-ablation-own-prefix")
    }
    keys = ["variant", "role", "attack", "level", "behaviour"]
    for total in shares.group_by(keys).agg(pl.col("value").sum())["value"]:
        assert total == pytest.approx(1)
    judged = table.filter(metric="harmfulness", judge="learned", level="total", role="harm")
    named = ["variant", "attack", "n"]
    of_harm = shares.filter(level="total", role="harm").select(named)
    # No answer is left out.
    assert set(of_harm.rows()) == set(judged.select(named).rows())


def test_both_sides_of_every_pair_are_measured(whole: Place) -> None:
    prompts = read_parquet(whole.made / "pairs" / "prompts" / "alpha-matched.parquet")
    harmful = read_parquet(whole.made / "pairs" / "prompts" / "alpha.parquet")
    split_of = dict(harmful.select("prompt", "split").iter_rows())
    assert prompts.height > 16
    for counterpart, split in prompts.select("counterpart", "split").iter_rows():
        assert split_of[counterpart] == split
    specificity = _table(whole, "measurements").filter(metric="specificity")
    assert set(specificity["variant"]) == {
        *("shared", "random", "alpha", "beta", "gamma", "denials"),
        None,  # the masks of all harm types
    }
    assert set(specificity["behaviour"].drop_nulls()) == set(HARMS)
    assert specificity["n"].min() >= 3
    sweep = _table(whole, "sweep")
    assert sweep["contrast"].to_list() == [0.0, 1.0]
    assert sweep["matched_nll"].null_count() == 0
    names = {path.stem for path in (whole.made / "masks" / "llama").glob("*.safetensors")}
    assert "alpha-matched" in names


def test_masks_are_compared_at_equal_cost(whole: Place) -> None:
    table = _table(whole, "equal_cost")
    assert table.select("mask", "limit").n_unique() == 8
    assert {"harm_added", "matched_added", "benign_added", "specificity"} <= set(table["metric"])
    cheap = table.filter("reached")
    assert cheap.select((pl.col("cost") / pl.col("limit")).is_between(0.85, 1.15)).to_series().all()
    page = (whole.made / "report" / "index.html").read_text(encoding="utf-8")
    assert "at the same cost?" in page


def test_a_model_of_random_weights_supports_no_claim_about_harm(whole: Place) -> None:
    claims = _table(whole, "claims")
    of_harm = {(claim.number, claim.statistic) for claim in REGISTRY if claim.of_harm}
    rows = [row for row in claims.to_dicts() if (row["claim"], row["statistic"]) in of_harm]
    assert rows
    assert "supported" not in {row["verdict"] for row in rows}
    # Nor is this for want of matched requests.
    assert not any("no matched requests" in (row["why"] or "") for row in rows)


def test_another_tool_gets_the_study_s_prompts_and_its_judge(whole: Place) -> None:
    """What our Inspect task gives Inspect; the judge says the same of the same answers."""
    asked = harmful_prompts(whole.made, "llama")
    measured = _table(whole, "measurements").filter(
        judge="learned", level="total", role="harm", variant="unmodified", attack="direct"
    )
    assert asked.height == measured["n"].max()
    with pytest.raises(LesionError, match=r"has no completions of `lama`\. Give one of: llama"):
        harmful_prompts(whole.made, "lama")
    answers = read_parquet(
        whole.made / "responses" / "llama" / "unmodified" / "completions.parquet"
    )
    judge_scores = read_parquet(whole.made / "judgements" / "llama.parquet")
    place = ["behaviour", "attack", "prompt"]
    found = answers.filter(role="harm", attack="direct").join(
        judge_scores.filter(variant="unmodified", judge="learned"), on=place, maintain_order="left"
    )
    with chdir(whole.folder):
        judge = learned_judge(whole.made)
        scores = judge.score(found["prompt"].to_list(), found["completion"].to_list()).harmful
    assert scores == pytest.approx(found["score"].to_numpy(), abs=1e-6)


def test_only_the_completed_variants_are_completed(whole: Place) -> None:
    judged = _table(whole, "measurements").filter(judge="learned")
    assert set(judged["variant"]) == {"unmodified", "shared", "random"}
    likely = _table(whole, "measurements").filter(metric="nll_added")
    assert {"alpha", "denials"} <= set(likely["variant"])


def test_the_claims_are_held_against_what_was_measured(whole: Place) -> None:
    claims = _table(whole, "claims")
    assert set(claims["claim"]) == CLAIMS
    assert set(claims["verdict"]) <= {"supported", "not supported", "can't tell"}


def test_the_curves_have_every_family_and_size(whole: Place) -> None:
    curve = _table(whole, "curve").filter(level="total", role="harm")
    assert curve.group_by("family").len().sort("family").rows() == [
        *(("letters", 3), ("random", 3), ("shared", 3))
    ]
    assert set(curve.filter(family="random")["seeds"]) == {2}
    assert set(_table(whole, "halving")["family"]) == {"letters", "random", "shared"}


def test_the_tables_are_exported(whole: Place, tmp_path: Path) -> None:
    command = [str(whole.command()[0].replace("snakemake", "lesion")), "export", "study.yaml"]
    done = run([*command, "--out", str(tmp_path)], whole.folder, PYTHONPATH=str(ROOT / "src"))
    assert done.code == 0, done.text
    assert {path.stem for path in tmp_path.iterdir()} == {*TABLES, "jailbreaks"}
    found = pl.read_csv(tmp_path / "jailbreaks.csv")
    assert tuple(found.columns) == JAILBREAKBENCH
    asked = found.filter(attack="please")
    assert (asked["prompt"] == "Sure, " + asked["goal"] + " {not} {{this}}").all()
    frames = pandas_tables(whole.made)
    assert len(frames["jailbreaks"]) == found.height
    assert list(frames["measurements"].columns) == _table(whole, "measurements").columns


class Stored(NamedTuple):
    """A study of which only what rules declare was copied between its jobs."""

    place: Place
    store: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--default-storage-provider", "fs", "--default-storage-prefix", str(self.store))


@pytest.fixture(scope="module")
def stored(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    place = unrun.copy(tmp_path_factory.mktemp("stored"))
    _inputs(place)
    place.configure(_everything)
    study = Stored(place, tmp_path_factory.mktemp("store"))
    done = place.snakemake(*study.flags)
    assert done.code == 0, done.text
    return study


SELECTED = ("models", "pairs", "scores", "masks", "checkpoints")
"""The stages whose files are those of `whole`. That run had answers of an earlier one, so that its
batches for likelihoods were others, and with them last bits."""


@with_rsync
def test_the_storage_has_the_bytes_of_a_local_run(whole: Place, stored: Stored) -> None:
    made, store = whole.made, stored.store / "results" / "tiny"
    copied = _files(store) | {
        f"{archive.removesuffix(ARCHIVE)}/{name}": content
        for archive in _files(store)
        if archive.endswith(ARCHIVE)
        for name, content in _archived(store / archive).items()
    }
    # What an earlier run left for the next one to reuse is no result.
    local = {name: content for name, content in _files(made).items() if "/." not in f"/{name}"}
    assert local.keys() <= copied.keys()
    same = [name for name in local if name.startswith(SELECTED)]
    assert len(same) > 80
    assert [name for name in same if copied[name] != local[name]] == []
    assert not (stored.place.folder / "results").exists()


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "logs" not in path.relative_to(folder).parts
    }


def _archived(path: Path) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        unpack(path, Path(folder))
        return _files(Path(folder))


@with_rsync
def test_a_stored_study_is_made_again_where_a_local_file_changed(stored: Stored) -> None:
    assert stored.place.jobs("-n", *stored.flags) == {}
    stored.place.edit_rows("letters.jsonl", lambda rows: rows.pop())
    stale = set(stored.place.jobs("-n", *stored.flags))
    assert {job for job in stale if job.startswith(("source", "prompts"))} == {
        f"source {source_name('file:inputs/letters.jsonl')}",
        "prompts letters",
    }
    assert {"signed_scores letters", "select_masks", "report"} <= stale
    assert not {"signed_scores alpha", "signed_scores sums"} & stale
