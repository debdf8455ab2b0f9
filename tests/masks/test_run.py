"""Every mask and table of a tiny study, counted again by brute force."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lesion.io.formats import LesionError, read_json, write_json
from lesion.masks.choose import Chosen
from lesion.masks.controls import CONTROLS
from lesion.masks.jobs import MasksJob, Selection
from lesion.masks.run import sharing_table, write_masks
from lesion.masks.select import Point
from lesion.masks.store import Mask, read_mask
from lesion.masks.where import CONCENTRATION, LINES, WHERE
from lesion.models.layout import FlatIndices, Layout
from lesion.scores.jobs import Coverage
from lesion.scores.tail import write_tail
from lesion_testing import scored_study
from lesion_testing.scored import Held, brute
from lesion_testing.scored_study import BEHAVIOURS, EXAMPLES, Tiny

P, Q = 0.1, 0.02
SHARES = (0.125, 0.25, 0.5, 1.0)
CUT = Selection(rule="budget", scope="global", pool="mean", at_least=2, benign_contrast=0.0)
JOB = MasksJob(behaviours=BEHAVIOURS, selection=CUT, controls=list(CONTROLS), own_q=None, seed=0)
SHARED = {"shared": 2, "shared-all": 3}
TABLES = ("overlap", "where", "concentration", "lines", "sharing")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return scored_study.made(tmp_path_factory.mktemp("study"))


def _run(study: Tiny, out: Path, job: MasksJob = JOB, q: float = Q) -> Path:
    chosen = out.with_name(f"{out.name}.json")
    write_json(Chosen(P, q, 0.0, 1.0, 0)._asdict(), chosen)
    write_masks(study.model, study.score_folders, chosen, out, job)
    return out


def _with(cut: Selection = CUT, **changes: Any) -> MasksJob:
    return JOB.model_copy(update={"selection": cut, **changes})


@pytest.fixture(scope="module")
def out(study: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(study, tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def masks(out: Path) -> dict[str, Mask]:
    return {path.stem: read_mask(path) for path in out.glob("*.safetensors")}


@pytest.fixture(scope="module")
def importance(study: Tiny) -> Held:
    weights = [EXAMPLES[name] for name in BEHAVIOURS.benign]
    each = [study.importances[name] for name in BEHAVIOURS.benign]
    return Held(np.average(each, axis=0, weights=weights), study.layout)


@pytest.fixture(scope="module")
def sorted_out(study: Tiny, importance: Held) -> Callable[[str, float], list[int]]:
    """A behaviour's mask at the chosen p and some q, by sorting everything."""

    def of(name: str, q: float) -> list[int]:
        held = Held(study.snips[name], study.layout)
        return brute(held, importance, P, q, "budget", "global")

    return of


def _votes(masks: list[list[int]], at_least: int) -> list[int]:
    counts = Counter(place for mask in masks for place in mask)
    return sorted(place for place, count in counts.items() if count >= at_least)


def test_every_mask_and_table_is_there(out: Path) -> None:
    names = [*BEHAVIOURS.names, *SHARED, *CONTROLS]
    wanted = {f"{name}.safetensors" for name in names} | {f"{name}.parquet" for name in TABLES}
    assert {path.name for path in out.iterdir()} == wanted


def test_every_behaviours_mask_is_what_sorting_gives(
    masks: dict[str, Mask], sorted_out: Callable[[str, float], list[int]]
) -> None:
    for name in BEHAVIOURS.names:
        assert masks[name].flat().tolist() == sorted_out(name, Q)


def test_shared_ones_are_votes(masks: dict[str, Mask]) -> None:
    harm = [masks[name].flat().tolist() for name in BEHAVIOURS.harm]
    for name, least in SHARED.items():
        assert masks[name].flat().tolist() == _votes(harm, least)
        assert masks[name].metadata["made"] == f"in at least {least} of alpha, beta, gamma"
    assert 0 < masks["shared-all"].size < masks["shared"].size


def test_controls_have_the_shared_ones_size_in_every_matrix(masks: dict[str, Mask]) -> None:
    wanted = {name: part.size for name, part in masks["shared"].indices.items()}
    for name, control in CONTROLS.items():
        assert {key: part.size for key, part in masks[name].indices.items()} == wanted, name
        about = masks[name].metadata
        assert (about["role"], about["made"], about["seed"]) == (
            "control",
            control.description,
            "0",
        )
    assert len({masks[name].flat().tobytes() for name in ("shared", *CONTROLS)}) == 1 + len(
        CONTROLS
    )


def test_headers_say_what_made_the_mask(masks: dict[str, Mask]) -> None:
    for name, mask in masks.items():
        about = mask.metadata
        assert about["mask"] == name
        assert (about["p"], about["q"], about["rule"]) == ("0.1", "0.02", "budget")
        assert (about["scope"], about["pool"]) == ("global", "mean")
        assert about["weights"] == str(mask.size)
    for name in BEHAVIOURS.names:
        about = masks[name].metadata
        assert about["pairs_digest"] == f"of {name}"
        assert about["role"] == BEHAVIOURS.role(name)


def test_overlap_has_every_two_behaviours(out: Path, masks: dict[str, Mask]) -> None:
    table = pl.read_parquet(out / "overlap.parquet")
    pairs = list(combinations(BEHAVIOURS.names, 2))
    assert table.select("a", "b").rows() == pairs
    for row in table.iter_rows(named=True):
        a, b = (set(masks[row[side]].flat().tolist()) for side in "ab")
        assert (row["size_a"], row["size_b"], row["shared"]) == (len(a), len(b), len(a & b))
        assert [row["role_a"], row["role_b"]] == [BEHAVIOURS.role(row[one]) for one in "ab"]
    harm = table.filter(role_a="harm", role_b="harm")
    assert harm["p_rows_columns"].max() < 1e-6
    others = table.filter(pl.col("role_b") != "harm")
    assert others["p_rows_columns"].min() > 1e-4


def test_tables_of_places_add_up_to_the_masks(out: Path, masks: dict[str, Mask]) -> None:
    sizes = {name: mask.size for name, mask in masks.items()}
    for name, schema in (("where", WHERE), ("concentration", CONCENTRATION)):
        table = pl.read_parquet(out / f"{name}.parquet")
        assert table.schema == schema
        counted = table.group_by("mask").agg(pl.col("weights").sum()).rows()
        assert dict(counted) == sizes, name
    lines = pl.read_parquet(out / "lines.parquet")
    assert lines.schema == LINES
    assert set(lines["mask"]) == set(sizes)
    assert lines.group_by("mask", "axis").len()["len"].to_list() == [10] * 2 * len(sizes)


def _expected(masks: list[list[int]], at_least: int, layout: Layout) -> float:
    """The sum over matrices of cells times the chance that so many of the masks hold one."""
    total = 0.0
    for first, last in zip(layout.offsets[:-1], layout.offsets[1:], strict=True):
        cells = int(last - first)
        inside = [np.searchsorted(mask, [first, last]) for mask in masks]
        chances = [float(end - begin) / cells for begin, end in inside]
        for holds in product((False, True), repeat=len(masks)):
            if sum(holds) >= at_least:
                each = (a if held else 1 - a for a, held in zip(chances, holds, strict=True))
                total += cells * float(np.prod(list(each)))
    return total


def test_sharing_by_size_is_counted_right(
    out: Path, study: Tiny, sorted_out: Callable[[str, float], list[int]]
) -> None:
    rows = pl.read_parquet(out / "sharing.parquet").rows(named=True)
    assert [(row["q"], row["at_least"]) for row in rows] == [
        (Q * share, least) for share in SHARES for least in (1, 2, 3)
    ]
    for row in rows:
        each = [sorted_out(name, row["q"]) for name in BEHAVIOURS.harm]
        assert (row["p"], row["of"], row["size"]) == (P, 3, round(row["q"] * study.layout.size))
        assert row["weights"] == len(_votes(each, row["at_least"]))
        assert row["expected"] == pytest.approx(_expected(each, row["at_least"], study.layout))
    assert rows[-1]["weights"] > 20 * rows[-1]["expected"]


def test_unequal_masks_are_expected_to_share_by_their_own_sizes(study: Tiny) -> None:
    dice = np.random.default_rng(0)
    each: dict[str, list[FlatIndices]] = {
        name: [np.sort(dice.choice(study.layout.size, size, replace=False))]
        for name, size in (("a", 400), ("b", 900), ("c", 2500))
    }
    table = sharing_table(list(each.values()), [Point(P, Q)], study.layout)
    for row in table.iter_rows(named=True):
        lists = [one[0].tolist() for one in each.values()]
        wanted = _expected(lists, row["at_least"], study.layout)
        assert row["expected"] == pytest.approx(wanted)
        assert row["weights"] == len(_votes(lists, row["at_least"]))
    assert table["size"].to_list() == [(400 + 900 + 2500) // 3] * 3


def test_sizes_of_no_weight_are_left_out_of_sharing(study: Tiny, tmp_path: Path) -> None:
    least = 2 / study.layout.size
    _run(study, tmp_path, _with(controls=[]), q=least)
    sizes = pl.read_parquet(tmp_path / "sharing.parquet")["size"].unique().to_list()
    assert sorted(sizes) == [1, 2]


@pytest.mark.parametrize("scope", ["matrix", "row"])
@pytest.mark.parametrize("rule", ["budget", "difference"])
def test_every_rule_and_scope_gives_masks_by_sorting(
    study: Tiny, importance: Held, tmp_path: Path, scope: str, rule: str
) -> None:
    _run(study, tmp_path, _with(CUT.model_copy(update={"scope": scope, "rule": rule})), q=0.05)
    for name in BEHAVIOURS.names:
        held = Held(study.snips[name], study.layout)
        wanted = brute(held, importance, P, 0.05, rule, scope)
        assert read_mask(tmp_path / f"{name}.safetensors").flat().tolist() == wanted


def test_masks_made_twice_are_the_same_bytes(study: Tiny, out: Path, tmp_path: Path) -> None:
    _run(study, tmp_path)
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def _cut_to_tails(study: Tiny, folder: Path, tail: Coverage) -> Tiny:
    """The study with tails in place of all scores."""
    folder.mkdir()
    (folder / "model").symlink_to(study.model)
    kinds = {"snip": study.snips, "preservation": study.importances}
    for kind, each in kinds.items():
        for name, values in each.items():
            about = read_json(study.scores / name / f"{kind}.safetensors.index.json")["metadata"]
            kept = {key: about[key] for key in ("examples", "pairs_digest", "loss", "dtype")}
            held = Held(values, study.layout)
            write_tail(held, folder / "scores" / name, kind, 2, study.layout, tail, kept)
    return study._replace(folder=folder)


def test_tails_of_several_harm_types_give_the_same_masks(study: Tiny, tmp_path: Path) -> None:
    cut = CUT.model_copy(update={"pool": "max"})
    job = _with(cut, controls=["random", "random-magnitude"])
    coverage = Coverage(p=P, q=Q, scope="global")
    tails = _cut_to_tails(study, tmp_path / "tails", coverage)
    full, cut_short = (
        _run(one, tmp_path / name, job) for one, name in ((study, "a"), (tails, "b"))
    )
    for path in full.iterdir():
        assert path.read_bytes() == (cut_short / path.name).read_bytes(), path.name
    with pytest.raises(LesionError, match="its scores are a tail"):
        _run(tails, tmp_path / "c", job, q=0.03)


def test_masks_of_single_behaviours_may_have_a_q_of_their_own(
    study: Tiny,
    tmp_path: Path,
    masks: dict[str, Mask],
    sorted_out: Callable[[str, float], list[int]],
) -> None:
    out = _run(study, tmp_path / "own", _with(own_q=Q / 4))
    made = {path.stem: read_mask(path) for path in out.glob("*.safetensors")}
    for name in BEHAVIOURS.names:
        flat = [
            int(index) + int(start)
            for parameter, start in zip(study.layout.names, study.layout.offsets, strict=False)
            for index in made[name].indices.get(parameter, ())
        ]
        assert flat == sorted_out(name, Q / 4)
        assert made[name].metadata["q"] == repr(Q / 4)
    for name in SHARED:
        assert made[name].metadata["q"] == repr(Q)
        for parameter, indices in masks[name].indices.items():
            assert (made[name].indices[parameter] == indices).all()
    sharing = pl.read_parquet(out / "sharing.parquet")
    assert set(sharing["q"]) == {Q * share for share in SHARES}
