"""Bad input stops before any model runs, in one message with the key or file and the fix."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.io.formats import sha256_file
from lesion.study import StudyError, load_study
from lesion_testing import ROOT
from lesion_testing.warm import warm
from lesion_testing.workflow import BIN, STUDY, Done, Place, cases, run

pytestmark = pytest.mark.slow

MODEL_JOBS = ("pairs/llama", "scores", "masks", "responses")
ZEROS = "0" * 64


def _refused(done: Done, *said: str) -> None:
    """It failed, said everything in `said`, and was not a crash."""
    assert done.code != 0, done.text
    assert "Traceback" not in done.text, done.text
    for text in said:
        assert text in done.text, done.text


def _failed_in_a_job(place: Place, *said: str, times: int = 1, **environment: str) -> Done:
    """What only a job can find out, said once for each job that did."""
    done = place.snakemake(**environment)
    _refused(done, *said)
    assert done.text.count("\nlesion: ") == times, done.text
    return done


def _refused_in_a_job(place: Place, *said: str, times: int = 1, **environment: str) -> None:
    """The same for what only a job can find out; no job that runs a model was started."""
    done = _failed_in_a_job(place, *said, times=times, **environment)
    assert not [name for name in MODEL_JOBS if (place.made / "logs" / name).exists()], done.text


# Found while the config is read: nothing runs, not even a dry run.

Change = Callable[[dict[str, Any]], object]


def _behaviour(name: str, **settings: Any) -> Change:
    return lambda config: config["behaviours"][name].update(settings)


def _section(name: str, **settings: Any) -> Change:
    return lambda config: config[name].update(settings)


BAD: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a truth value for a number": (
        _section("masks", max_benign_increase=True),
        ("`masks.max_benign_increase`: is a boolean, as YAML reads yes, no, on and off",),
    ),
    "a truth value among numbers": (
        _section("masks", p=[0.1, True]),
        ("`masks.p`: is a boolean",),
    ),
    "a truth value for a whole number": (
        lambda config: config.update(seed=False),
        ("`seed`: is a boolean",),
    ),
    "a word that YAML takes for a truth value": (
        lambda config: config.update(study=False),
        ("`study`: YAML does not read this value as text; put it in quotes (found False)",),
    ),
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
        ("`masks.zzz`: unknown key. Known: rule, scope, preservation_pooling, p, q",),
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
    "no p at all": (
        _section("masks", p=[]),
        ("`masks.p`: List should have at least 1 item",),
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
        ("inputs/letters.jsonl: has no column `question`; it has prompt, response, kind",),
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


THROUGH_SNAKEMAKE = (
    "misspelt key",
    "q out of range",
    "a missing file",
    "a harm type whose filter leaves nothing",
)


@pytest.fixture(scope="module")
def checks(
    request: pytest.FixtureRequest,
    unrun: Place,
    pool: ThreadPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Future[Done]]:
    """What `lesion check` says of each bad study."""

    def checked(bad: str) -> Done:
        place = Place(tmp_path_factory.mktemp("bad"))
        # Only the config is another: everything else is only looked at.
        (place.folder / "inputs").symlink_to(unrun.inputs)
        shutil.copy2(unrun.study, place.study)
        place.configure(BAD[bad][0])
        return _check(place)

    return {bad: pool.submit(checked, bad) for bad in cases(request, "bad")}


@pytest.mark.parametrize("bad", BAD)
def test_lesion_check_refuses(checks: Mapping[str, Future[Done]], bad: str) -> None:
    done = checks[bad].result()
    _refused(done, *BAD[bad][1])
    assert done.text.count("lesion: ") == 1


@pytest.mark.parametrize("name", THROUGH_SNAKEMAKE)
def test_snakemake_refuses_before_anything_runs(fresh: Place, name: str) -> None:
    change, said = BAD[name]
    fresh.configure(change)
    done = fresh.snakemake()
    _refused(done, *said)
    assert done.text.count(said[-1]) == 1, "said more than once"
    assert "Building DAG" not in done.text
    assert not (fresh.folder / "results").exists()


def _check(place: Place) -> Done:
    return run(warm([str(BIN / "lesion"), "check", "study.yaml"]), place.folder)


def test_a_good_study_passes_the_check(unrun: Place) -> None:
    done = _check(unrun)
    assert done.code == 0, done.text
    assert "the study `tiny` can run" in done.text


def test_two_harm_types_of_one_name(fresh: Place) -> None:
    again = 'behaviours:\n  alpha: {role: harm, source: "file:inputs/letters.jsonl"}\n'
    fresh.edit("study.yaml", lambda text: text.replace("behaviours:\n", again))
    said = ("study.yaml, line ", "`alpha` is given twice; rename one")
    _refused(_check(fresh), *said)
    _refused(fresh.snakemake(), *said)
    assert not (fresh.folder / "results").exists()


def test_yaml_that_is_none(fresh: Place) -> None:
    fresh.edit("study.yaml", lambda text: text.replace("study: tiny", "study: [tiny"))
    _refused(_check(fresh), "study.yaml: is not valid YAML", "line ")


@pytest.mark.parametrize("rows", ["", "not json\n", '{"prompt": "one"}\n["two"]\n'])
def test_a_file_that_holds_no_rows(fresh: Place, rows: str) -> None:
    (fresh.inputs / "letters.jsonl").write_text(rows, encoding="utf-8")
    _refused(_check(fresh), "inputs/letters.jsonl")


# Found by the first jobs, before a model runs.


@pytest.fixture
def small(fresh: Place) -> Place:
    """A study of one harm type and one capability, to come to the point sooner."""

    def change(config: dict[str, Any]) -> None:
        config["behaviours"] = {name: config["behaviours"][name] for name in ("beta", "sums")}
        config["masks"]["shared"]["at_least"] = 1
        config["responses"].pop("variants", None)

    fresh.configure(change)
    return fresh


def test_a_q_that_selects_no_weight(small: Place, done: Place) -> None:
    said = ("q=1e-05 of 20480 candidate weights selects no weight", "Raise `masks.q`")
    small.configure(_section("masks", q=[0.05, 0.00001]))
    _refused_in_a_job(small, *said)
    # Where the model is known already, it does not even need a job.
    done.configure(_section("masks", q=0.00001))
    _refused(done.snakemake("-n"), *said)


def test_a_digest_that_does_not_match(small: Place) -> None:
    small.configure(_section("sources", pranks=f"file:inputs/pranks.jsonl#sha256={ZEROS}"))
    said = ("inputs/pranks.jsonl", "its sha256 is ", f"not {ZEROS}", "the study's `sources`")
    # What needs no such file may be under way by then.
    _failed_in_a_job(small, *said)
    assert not (small.made / "pairs" / "prompts" / "beta.parquet").exists()
    assert not (small.made / "logs" / "pairs" / "prompts" / "beta.log").exists()


def test_no_network(small: Place) -> None:
    address = f"pypi:lesion-no-such-data==1.0/prompts.jsonl#sha256={ZEROS}"
    small.configure(_section("sources", pranks=address))
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}
    # It is tried several times; what needs no network may be under way by then.
    _failed_in_a_job(small, address, "pip could not download", "without network", **offline)


def test_a_fetched_file_without_a_prompt_column(small: Place) -> None:
    sha = sha256_file(small.inputs / "refusals.jsonl")
    address = f"file:inputs/refusals.jsonl#sha256={sha}"
    small.configure(_behaviour("sums", source=address))
    # Another behaviour's responses may have been begun meanwhile.
    _failed_in_a_job(small, "refusals.jsonl: has no column `prompt`; it has response")


def test_an_unknown_architecture(small: Place) -> None:
    def change(text: str) -> str:
        return json.dumps({**json.loads(text), "model_type": "abacus", "architectures": ["Abacus"]})

    small.edit("inputs/model/config.json", change)
    _refused_in_a_job(small, "transformers does not know this architecture", "abacus", "llama")


def test_a_model_without_safetensors(small: Place) -> None:
    weights = small.inputs / "model" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    _refused(small.snakemake(), "inputs/model: holds no safetensors", "Convert it")


# During a run


def test_a_truncated_shard_is_named_not_read(done: Place) -> None:
    shard = done.made / "scores" / "llama" / "alpha" / "snip-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    done.configure(_section("masks", q=0.06))
    said = (str(shard.relative_to(done.folder)), "cut short", "Delete it and run `snakemake`")
    _refused(done.snakemake(), *said)
    shard.unlink()
    assert "signed_scores alpha" in done.plan()


def test_a_truncated_table_is_named_not_read(done: Place) -> None:
    table = done.made / "pairs" / "llama" / "beta.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    done.configure(_section("scores", batch_tokens=512))
    scores = "results/tiny/scores/llama/beta/snip.safetensors.index.json"
    said = (str(table.relative_to(done.folder)), "not a complete parquet file", "Delete it and run")
    _refused(done.snakemake(scores), *said)
    table.unlink()
    assert set(done.jobs("-n", scores)) == {"generate_pairs beta", "signed_scores beta"}


@pytest.fixture
def small_disk(fresh: Place) -> Iterator[Place]:
    """The study with `results` on a disk of its own, of 64 KiB."""
    results = fresh.folder / "results"
    results.mkdir()
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(results)], Path("/"))
    if mounted.code != 0:
        pytest.skip(f"a small disk needs root and mount: {mounted.text.strip()}")
    yield fresh
    subprocess.run(["umount", str(results)], check=True)


def test_a_full_disk_is_reported_as_such(small_disk: Place) -> None:
    table = "results/tiny/pairs/prompts/beta.parquet"
    filler = small_disk.folder / "results" / "filler"
    filler.write_bytes(bytes(60 * 1024))  # leaves a page, which the log takes
    said = ("the disk is full", "ree some space", "run the same command again")
    _refused(small_disk.snakemake(table), f"{table}: the disk is full", *said)
    assert not list((small_disk.made / "pairs").rglob("*.part-*"))
    # Now not even the log can be written.
    (small_disk.made / "logs" / "pairs" / "prompts" / "beta.log").unlink()
    filler.write_bytes(bytes(64 * 1024))
    _refused(small_disk.snakemake(table), *said)
    filler.unlink()
    assert small_disk.snakemake(table).code == 0


# The config alone, quickly and in breadth


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    path=st.sampled_from(
        [("masks", "p"), ("masks", "q"), ("pairs", "batch_size"), ("tables", "resamples")]
    ),
    value=st.one_of(
        st.none(),
        st.text(max_size=5).filter(lambda text: not re.search(r"\d", text)),
        st.integers(min_value=1, max_value=10**6).map(lambda whole: whole + 0.25),
        st.just(float("inf")),
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
    done = run(warm([str(BIN / "lesion"), "check"]), tmp_path)
    assert done.code == 0, done.text
    assert "the study `default` can run" in done.text
