from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lesion.io.formats import BadFile, LesionError, read_parquet, write_parquet
from lesion.masks.choose import Chosen, choose, choose_point, read_chosen
from lesion.masks.jobs import ChooseJob, Selection, SweepJob
from lesion.masks.lesion import lesioned
from lesion.masks.select import Point
from lesion.masks.sweep import SWEEP, sweep
from lesion.models.layout import FlatIndices
from lesion.models.likelihood import response_nll
from lesion.models.load import load
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.study.job import Behaviours, Device
from lesion_testing import scored_study
from lesion_testing.scored import Held, brute
from lesion_testing.scored_study import BEHAVIOURS, Tiny

UNMODIFIED = (2.0, 1.0)
CUT = Selection(rule="budget", scope="global", pool="max", at_least=2, benign_contrast=0.0)
POINTS = [Point(0.1, 0.01), Point(0.1, 0.02), Point(0.3, 0.01)]
JOB = SweepJob(
    stop=1000.0,
    behaviours=BEHAVIOURS,
    selection=CUT,
    points=[(*point, 0.0) for point in POINTS],
    batch_tokens=200,
    device=Device(dtype="float32"),
)


def _sweep(*points: tuple[float, float, int, float, float]) -> pl.DataFrame:
    """Points as (p, q, weights, added harm NLL, added benign NLL)."""
    rows = [
        {
            "p": p,
            "q": q,
            "contrast": 0.0,
            "weights": weights,
            "key": "key",
            "harm_nll": UNMODIFIED[0] + harm,
            "benign_nll": UNMODIFIED[1] + benign,
            "harm_nll_unmodified": UNMODIFIED[0],
            "benign_nll_unmodified": UNMODIFIED[1],
            "harm_pairs": 10,
            "benign_pairs": 10,
        }
        for p, q, weights, harm, benign in points
    ]
    return pl.DataFrame(rows, schema=SWEEP)


def test_a_mask_of_which_nothing_is_known_does_not_win() -> None:
    """Sorted, NaN comes before every number."""
    nan = float("nan")
    table = _sweep((0.2, 0.01, 5, 2.0, 0.2), (0.2, 0.02, 9, nan, 0.1), (0.2, 0.03, 9, 9.0, nan))
    assert choose_point(table, 0.3).row == 0
    matched = pl.Series([0.5, nan, 0.5])
    table = _sweep((0.2, 0.01, 5, 2.0, 0.2), (0.2, 0.02, 9, 3.0, 0.1), (0.2, 0.03, 9, 9.0, 0.9))
    of_matched = table.with_columns(matched_nll=matched, matched_nll_unmodified=pl.lit(0.5))
    assert choose_point(of_matched, 0.3).row == 0


def test_a_sweep_of_nothing_but_nan_is_told_from_one_that_costs_too_much() -> None:
    nan = float("nan")
    with pytest.raises(LesionError, match=r"the model gives NaN. Set `responses.dtype`"):
        choose_point(_sweep((0.1, 0.01, 5, nan, 0.1)), 0.3)
    with pytest.raises(LesionError, match=r"least: 0\.400"):
        choose_point(_sweep((0.1, 0.01, 5, nan, 0.1), (0.1, 0.02, 9, 1.0, 0.4)), 0.3)


def test_the_most_harm_within_the_limit_wins() -> None:
    table = _sweep((0.1, 0.01, 5, 1.0, 0.1), (0.2, 0.01, 5, 2.0, 0.2), (0.2, 0.02, 9, 9.0, 0.5))
    assert choose_point(table, 0.3) == (0.2, 0.01, 0.0, 0.3, 1)
    assert choose_point(table, 0.6) == (0.2, 0.02, 0.0, 0.6, 2)
    assert choose_point(table, 0.15) == (0.1, 0.01, 0.0, 0.15, 0)


def test_among_equals_the_smaller_p_then_q() -> None:
    points = [(p, q, 5, 1.0, 0.0) for p in (0.3, 0.1, 0.2) for q in (0.02, 0.01)]
    assert choose_point(_sweep(*points), 0.1)[:2] == (0.1, 0.01)


def test_an_empty_mask_is_never_chosen() -> None:
    table = _sweep((0.1, 0.01, 0, 0.0, 0.0), (0.2, 0.01, 3, -0.5, 0.0))
    assert choose_point(table, 0.1) == (0.2, 0.01, 0.0, 0.1, 1)


def test_no_point_within_the_limit_is_an_error_with_the_least() -> None:
    table = _sweep((0.1, 0.01, 5, 1.0, 0.25), (0.2, 0.01, 5, 2.0, 0.5))
    with pytest.raises(LesionError, match=r"within 0\.1 nats \(least: 0\.250\)\. Add smaller"):
        choose_point(table, 0.1)


def test_the_choice_is_written_once_for_every_later_stage(tmp_path: Path) -> None:
    write_parquet(_sweep((0.1, 0.3, 5, 1.0, 0.1)), tmp_path / "sweep.parquet")
    choose(tmp_path / "sweep.parquet", tmp_path / "chosen.json", ChooseJob(limit=0.2))
    assert read_chosen(tmp_path / "chosen.json") == Chosen(0.1, 0.3, 0.0, 0.2, 0)
    (tmp_path / "chosen.json").write_text('{"p": 0.1, "q": 0.3}')
    with pytest.raises(BadFile, match=r"chosen\.json: .*run again"):
        read_chosen(tmp_path / "chosen.json")


def test_behaviours_know_their_roles() -> None:
    behaviours = Behaviours(harm=["a", "b"], benign=["c"], refusal=["d"])
    assert behaviours.names == ["a", "b", "c", "d"]
    assert [behaviours.role(name) for name in "abcd"] == ["harm", "harm", "benign", "refusal"]


class _Sweeps:
    """Sweeps of the tiny study into one file."""

    def __init__(
        self, study: Tiny, out: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.CaptureFixture
    ) -> None:
        self.study, self.out, self.said = study, out, said
        self.pairs = study.pairs
        self.tries = 0

        def counted(*args: Any) -> list[float]:
            self.tries += 1
            return response_nll(*args)

        monkeypatch.setattr("lesion.masks.validate.response_nll", counted)

    def __call__(self, *points: Point, **changes: Any) -> tuple[int, str]:
        """How often the model was tried, and what was said in the end."""
        self.tries = 0
        self.said.readouterr()
        pairs = {name: self.pairs / f"{name}.parquet" for name in BEHAVIOURS.names}
        with_contrast = [(*point, 0.0) for point in points]
        job = JOB.model_copy(update={"points": with_contrast, **changes})
        sweep(self.study.model, self.study.score_folders, pairs, self.out, job)
        return self.tries, self.said.readouterr().err.splitlines()[-1]

    @property
    def table(self) -> pl.DataFrame:
        return read_parquet(self.out, SWEEP)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return scored_study.made(tmp_path_factory.mktemp("study"))


@pytest.fixture
def run(
    study: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> _Sweeps:
    return _Sweeps(study, tmp_path / "sweep.parquet", monkeypatch, capsys)


def _shared(study: Tiny, point: Point, at_least: int = 2) -> FlatIndices:
    """What at least so many harm types select, by sorting everything."""
    importance = Held(np.max(list(study.importances.values()), axis=0), study.layout)
    votes = Counter(
        place
        for name in BEHAVIOURS.harm
        for place in brute(
            Held(study.snips[name], study.layout), importance, *point, "budget", "global"
        )
    )
    return np.array(sorted(place for place, n in votes.items() if n >= at_least), np.int64)


def _nll(study: Tiny, names: list[str], mask: FlatIndices) -> float:
    """The mean over behaviours of the mean NLL of their validation pairs without the weights."""
    loaded, means = load(study.model, Device(dtype="float32")), []
    with lesioned(loaded.model, study.layout.by_name(mask)):
        for name in names:
            pairs = kept_pairs(study.pairs / f"{name}.parquet", "validation")
            losses = response_nll(loaded.model, encode_pairs(loaded.chat, pairs), 1)
            means.append(sum(losses) / len(losses))
    return sum(means) / len(means)


def test_every_point_has_the_nll_of_its_shared_mask(run: _Sweeps, study: Tiny) -> None:
    tries, said = run(*POINTS)
    assert (tries, said) == (1 + 3, "sweep: measured 3 of 3 points")
    nothing = np.empty(0, np.int64)
    for row, point in zip(run.table.rows(named=True), POINTS, strict=True):
        mask = _shared(study, point)
        assert (row["p"], row["q"], row["weights"]) == (*point, mask.size)
        for side, names in (("harm", BEHAVIOURS.harm), ("benign", BEHAVIOURS.benign)):
            assert row[f"{side}_nll"] == pytest.approx(_nll(study, names, mask), rel=1e-4)
            unmodified = _nll(study, names, nothing)
            assert row[f"{side}_nll_unmodified"] == pytest.approx(unmodified, rel=1e-4)
            assert row[f"{side}_nll"] != pytest.approx(unmodified, rel=1e-4)
            assert row[f"{side}_pairs"] == 3 * len(names)
    assert run.table["key"].n_unique() == 3


def test_a_new_point_measures_only_itself(run: _Sweeps) -> None:
    run(*POINTS)
    before = run.table
    new = Point(0.2, 0.015)
    tries, said = run(POINTS[0], new, *POINTS[1:])
    assert (tries, said) == (1 + 1, "sweep: measured 1 of 4 points")
    assert run.table.filter(pl.col("p") != new.p).equals(before)
    assert run.table["p"].to_list() == [0.1, 0.2, 0.1, 0.3]


def test_masks_that_have_not_changed_are_not_tried_again(run: _Sweeps) -> None:
    run(*POINTS)
    before = run.out.read_bytes()
    assert run(*POINTS) == (0, "sweep: measured 0 of 3 points")
    assert run.out.read_bytes() == before
    assert run(*POINTS[::-1])[0] == 0
    assert run.table["q"].to_list() == [one.q for one in POINTS[::-1]]


def test_points_of_one_mask_are_tried_once(run: _Sweeps, study: Tiny) -> None:
    least = 0.4 / study.layout.size  # rounds to no weight
    tries, said = run(Point(0.0, 0.01), Point(least, 0.01))
    assert (tries, said) == (1 + 1, "sweep: measured 1 of 2 points")
    first, second = run.table.drop("p").rows()
    assert first == second


def test_what_changes_the_nll_is_tried_again(run: _Sweeps, study: Tiny, tmp_path: Path) -> None:
    run(*POINTS)
    assert run(*POINTS, device=Device(dtype="bfloat16"))[0] == 1 + 3
    assert run(*POINTS, batch_tokens=50, device=Device(dtype="bfloat16"))[0] == 0
    assert run(*POINTS, selection=CUT.model_copy(update={"at_least": 3}))[0] == 1 + 3
    run.pairs = tmp_path / "pairs"
    for name in BEHAVIOURS.names:
        write_parquet(
            pl.read_parquet(study.pairs / f"{name}.parquet"), run.pairs / f"{name}.parquet"
        )
    assert run(*POINTS, selection=CUT.model_copy(update={"at_least": 3}))[0] == 0
    changed = pl.read_parquet(study.pairs / "sums.parquet").with_columns(response=pl.lit("apple"))
    write_parquet(changed, run.pairs / "sums.parquet")
    assert run(*POINTS, selection=CUT.model_copy(update={"at_least": 3}))[0] == 1 + 3


def test_an_earlier_file_that_is_damaged_is_made_anew(run: _Sweeps) -> None:
    run(*POINTS)
    whole = run.out.read_bytes()
    (copy,) = run.out.parent.glob(f".{run.out.name}.rows")
    copy.write_bytes(whole[:-20])
    run.out.unlink()  # as Snakemake does before a job
    assert run(*POINTS)[0] == 1 + 3
    assert run.out.read_bytes() == whole == copy.read_bytes()
