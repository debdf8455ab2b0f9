"""Bad input stops before any model runs, in one message with the key or file and the fix."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, ROOT, STUDY, Done, Place, run
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.study import StudyError, load_study

MODEL_JOBS = ("pairs/llama", "scores", "masks", "responses")
ZEROS = "0" * 64


def _refused(done: Done, *said: str) -> None:
    """It failed, said everything in `said`, and was not a crash."""
    assert done.code != 0, done.text
    assert "Traceback" not in done.text, done.text
    for text in said:
        assert text in done.text, done.text


def _refused_in_a_job(place: Place, *said: str, times: int = 1, **environment: str) -> None:
    """The same for what only a job can find out; no job that runs a model was started."""
    done = place.snakemake(**environment)
    _refused(done, *said)
    assert done.text.count("\nlesion: ") == times, done.text
    assert not [name for name in MODEL_JOBS if (place.made / "logs" / name).exists()], done.text


# Found while the config is read: nothing runs, not even a dry run.

Change = Callable[[dict[str, Any]], object]


def _behaviour(name: str, **settings: Any) -> Change:
    return lambda config: config["behaviours"][name].update(settings)


def _section(name: str, **settings: Any) -> Change:
    return lambda config: config[name].update(settings)


BAD: dict[str, tuple[Change, tuple[str, ...]]] = {
    "misspelt key": (
        lambda config: config.update(mask=config.pop("masks")),
        ("study.yaml", "`mask`: unknown key. Did you mean `masks`?"),
    ),
    "misspelt key of a behaviour": (
        _behaviour("alpha", promt="prompt"),
        ("`behaviours.alpha.promt`: unknown key. Did you mean `prompt`?",),
    ),
    "unknown key": (
        _section("masks", zzz=1),
        ("`masks.zzz`: unknown key. Known: rule, scope, p, q",),
    ),
    "wrong type": (
        _section("scores", batch_tokens="many"),
        ("`scores.batch_tokens`: Input should be a valid integer", "found 'many'"),
    ),
    "a value where keys belong": (
        lambda config: config.update(masks=3),
        ("`masks`: ", "dictionary", "found 3"),
    ),
    "a choice that there is not": (
        _section("masks", rule="budgets"),
        ("`masks.rule`: Input should be 'budget' or 'difference'", "found 'budgets'"),
    ),
    "p out of range": (
        _section("masks", p=1.5),
        ("`masks.p.0`: Input should be less than 1", "found 1.5"),
    ),
    "q out of range": (
        _section("masks", q=[0.01, 0]),
        ("`masks.q.1`: Input should be greater than 0", "found 0"),
    ),
    "a missing section": (
        lambda config: config.pop("judgements"),
        ("`judgements`: is missing; add it",),
    ),
    "a name that is no safe path": (
        lambda config: config["behaviours"].update({"../x": config["behaviours"]["beta"]}),
        ("`behaviours.../x`: is not a safe name: use small letters, digits",),
    ),
    "a study's name that is no safe path": (
        lambda config: config.update(study="../tiny"),
        ("`study`: is not a safe name",),
    ),
    "a name that a built-in mask has": (
        lambda config: config["behaviours"].update(shared=config["behaviours"]["beta"]),
        ("`behaviours.shared`", "taken by a built-in mask; rename it"),
    ),
    "a source that there is not": (
        _behaviour("beta", source="prank"),
        ("`behaviours.beta.source`: no source is named `prank`. Did you mean `pranks`?",),
    ),
    "an address of no known form": (
        _behaviour("beta", source="http://example.org/x.jsonl"),
        ("`behaviours.beta.source`: `http://example.org/x.jsonl` is not an address", "file:path"),
    ),
    "a checkpoint that is not made": (
        lambda config: config.update(checkpoints=["denials"]),
        ("`checkpoints`: `denials` is not a mask of role harm",),
    ),
    "a missing file": (
        _behaviour("letters", source="file:inputs/letter.jsonl"),
        ("`behaviours.letters.source`: inputs/letter.jsonl: there is no such file",),
    ),
    "a missing model": (
        lambda config: config["models"]["llama"].update(source="file:inputs/models"),
        ("`models.llama.source`: inputs/models: there is no such file or folder",),
    ),
    "a file without a prompt column": (
        _behaviour("letters", prompt="question"),
        ("inputs/letters.jsonl: has no column `question`; it has prompt",),
    ),
    "a filter on a column that there is not": (
        _behaviour("beta", where={"column": "sort", "equals": "beta"}),
        ("inputs/pranks.jsonl: has no column `sort`; it has prompt, response, kind",),
    ),
    "a harm type whose filter leaves nothing": (
        _behaviour("beta", where={"column": "kind", "equals": "betas"}),
        ("inputs/pranks.jsonl: gives 0 prompts after the filter", "equals='betas'", "widen"),
    ),
    "a harm type with too few prompts": (
        _behaviour("beta", where={"column": "prompt", "contains": "hide apple"}),
        ("inputs/pranks.jsonl: gives ", "at least 12 are needed. Add prompts"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_snakemake_refuses_before_anything_runs(fresh: Place, name: str) -> None:
    change, said = BAD[name]
    fresh.configure(change)
    done = fresh.snakemake()
    _refused(done, *said)
    assert done.text.count(said[-1]) == 1, "said more than once"
    assert not (fresh.folder / "results").exists()
    assert "Building DAG" not in done.text


def test_two_harm_types_of_one_name(fresh: Place) -> None:
    again = 'behaviours:\n  alpha: {role: harm, source: "file:inputs/letters.jsonl"}\n'
    fresh.edit("study.yaml", lambda text: text.replace("behaviours:\n", again))
    _refused(fresh.snakemake(), "study.yaml, line ", "`alpha` is given twice; rename one")
    assert not (fresh.folder / "results").exists()


def test_an_empty_file_of_prompts(fresh: Place) -> None:
    (fresh.inputs / "letters.jsonl").write_text("", encoding="utf-8")
    _refused(fresh.snakemake(), "inputs/letters.jsonl")
    assert not (fresh.folder / "results").exists()


@pytest.mark.parametrize("rows", ["not json\n", '{"prompt": 1}\n["prompt"]\n'])
def test_a_file_of_prompts_that_is_none(fresh: Place, rows: str) -> None:
    (fresh.inputs / "letters.jsonl").write_text(rows, encoding="utf-8")
    _refused(fresh.snakemake(), "inputs/letters.jsonl")
    assert not (fresh.folder / "results").exists()


def test_lesion_check_says_the_same(fresh: Place) -> None:
    command = [str(BIN / "lesion"), "check", "study.yaml"]
    good = run(command, fresh.folder)
    assert good.code == 0, good.text
    assert "the study `tiny` can run" in good.text
    change, said = BAD["misspelt key of a behaviour"]
    fresh.configure(change)
    _refused(run(command, fresh.folder), *said)


# Found by the first jobs, before a model runs.


def test_a_q_that_selects_no_weight(fresh: Place) -> None:
    fresh.configure(_section("masks", q=[0.05, 0.00001]))
    said = ("q=1e-05 of 20480 candidate weights selects no weight", "Raise `masks.q`")
    _refused_in_a_job(fresh, *said)
    # Once the model is known, not even a job is needed.
    fresh.configure(_section("masks", q=0.05))
    assert fresh.snakemake("results/tiny/models/llama/lesion.json").code == 0
    fresh.configure(_section("masks", q=0.00001))
    _refused(fresh.snakemake("-n"), *said)


def test_a_digest_that_does_not_match(fresh: Place) -> None:
    address = f"file:inputs/pranks.jsonl#sha256={ZEROS}"
    fresh.configure(_section("sources", pranks=address))
    _refused_in_a_job(
        fresh, "inputs/pranks.jsonl", "its sha256 is ", f"not {ZEROS}", "the study's `sources`"
    )


def test_no_network(fresh: Place) -> None:
    address = f"pypi:lesion-no-such-data==1.0/prompts.jsonl#sha256={ZEROS}"
    fresh.configure(_section("sources", pranks=address))
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}
    _refused_in_a_job(fresh, address, "pip could not download", "no network?", **offline)


def test_an_unknown_architecture(fresh: Place) -> None:
    def change(text: str) -> str:
        return json.dumps(
            json.loads(text) | {"model_type": "abacus", "architectures": ["AbacusForCausalLM"]}
        )

    fresh.edit("inputs/model/config.json", change)
    _refused_in_a_job(fresh, "llama: transformers does not know this architecture", "abacus")


def test_a_model_without_safetensors(fresh: Place) -> None:
    (fresh.inputs / "model" / "model.safetensors").rename(
        fresh.inputs / "model" / "pytorch_model.bin"
    )
    _refused_in_a_job(fresh, "inputs/model: holds no safetensors", "Convert it")


def test_a_fetched_file_without_a_prompt_column(fresh: Place) -> None:
    sha = subprocess.check_output(["sha256sum", fresh.inputs / "refusals.jsonl"], text=True)
    address = f"file:inputs/refusals.jsonl#sha256={sha.split()[0]}"
    fresh.configure(_behaviour("letters", source=address))
    _refused_in_a_job(fresh, "refusals.jsonl: has no column `prompt`; it has response")


# During a run


def _is_named(place: Place, path: Path, *said: str) -> None:
    done = place.snakemake()
    _refused(done, str(path.relative_to(place.folder)), *said)


def test_a_truncated_shard_is_named_not_read(done: Place) -> None:
    shard = done.made / "scores" / "llama" / "alpha" / "snip-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    done.configure(_section("masks", q=0.06))
    _is_named(done, shard, "cut short", "Delete it and run `snakemake` again")
    shard.unlink()
    assert "scores alpha" in done.plan()


def test_a_truncated_table_is_named_not_read(done: Place) -> None:
    table = done.made / "pairs" / "llama" / "beta.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    _is_named(done, table, "not a whole parquet file", "Delete it and run `snakemake` again")
    table.unlink()
    plan = done.plan()
    assert "pairs beta" in plan
    assert "pairs alpha" not in plan


@pytest.fixture
def small_disk(fresh: Place) -> Iterator[Place]:
    """The study with `results` on a disk of 100 KiB, less than the model takes."""
    results = fresh.folder / "results"
    results.mkdir()
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(results)], Path("/"))
    if mounted.code != 0:
        pytest.skip(f"a small disk needs root and mount: {mounted.text.strip()}")
    yield fresh
    subprocess.run(["umount", results], check=True)


def test_a_full_disk_is_reported_as_such(small_disk: Place) -> None:
    record = "results/tiny/models/llama/lesion.json"
    done = small_disk.snakemake(record)
    _refused(done, "results/tiny/models/llama: the disk is full", "free some space")
    assert not list((small_disk.made / "models").rglob("*.safetensors"))
    # So full that not even the log can be written.
    with pytest.raises(OSError, match="No space left"):
        (small_disk.folder / "results" / "filler").write_bytes(bytes(200_000))
    _refused(small_disk.snakemake(record), "the disk is full")


# The config alone, quickly and in breadth


@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(
        [("masks", "p"), ("masks", "q"), ("pairs", "batch_size"), ("tables", "resamples")]
    ),
    value=st.one_of(
        st.none(),
        st.text(max_size=5).filter(lambda text: not re.search(r"\d", text)),
        st.floats(min_value=1, exclude_min=True, allow_infinity=True).map(lambda x: x + 0.25),
        st.integers(max_value=0),
        st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    ),
)
def test_any_wrong_value_is_named_by_its_key(path: tuple[str, str], value: object) -> None:
    section, key = path
    config = {**STUDY, section: {**STUDY[section], key: value}}
    with pytest.raises(StudyError, match=rf"`{section}\.{key}"):
        load_study(config)


def test_the_default_study_is_a_good_one(tmp_path: Path) -> None:
    for name in ("config.yaml", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = run([str(BIN / "lesion"), "check"], tmp_path)
    assert done.code == 0, done.text
    assert "the study `default` can run" in done.text
