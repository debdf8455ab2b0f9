"""What is selected from tails is what is selected from all scores, or an error."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.io.formats import BadFile, LesionError, write_parquet
from lesion.masks.jobs import Selection
from lesion.masks.select import Point, select_masks
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import FlatIndices, layout_of
from lesion.scores.jobs import Coverage, ScoresJob
from lesion.scores.run import score_model
from lesion.scores.shards import index_name, shard_names, write_index, write_shard
from lesion.scores.store import Pooled, Source, StoredScores
from lesion.scores.tail import tail_indices, write_tail
from lesion.study.job import Behaviours, Device
from lesion.study.sections import Memory
from lesion_testing import scored, tiny
from lesion_testing.scored import LAYOUT, Held, flat, write_scores

SCOPES = ("global", "matrix", "row")
ABOUT = {"examples": "1"}

few = settings(max_examples=60, deadline=None)
scopes = st.sampled_from(SCOPES)
parts = st.sampled_from([0.0, 0.3, 0.77, 1.0])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of seven scores, so that small arrays are read in many."""
    for module in ("lesion.masks.select", "lesion.scores.lowest", "lesion.scores.tail"):
        monkeypatch.setattr(f"{module}.BLOCK", 7)


def _tail(held: Source, folder: Path, kind: str, tail: Coverage) -> StoredScores:
    write_tail(held, folder, kind, 2, LAYOUT, tail, ABOUT)
    return StoredScores(folder, kind, LAYOUT.stored_shapes)


def _full(held: Held, folder: Path, kind: str) -> StoredScores:
    shapes = LAYOUT.stored_shapes.items()
    scores = {name: torch.tensor(held.open(name)).view(shape) for name, shape in shapes}
    write_scores(scores, folder, kind, 2, ABOUT)
    return StoredScores(folder, kind, LAYOUT.stored_shapes)


def _selected(
    snip: Source, importance: Source, points: Sequence[Point], rule: str, scope: str
) -> list[list[int]] | str:
    """The masks, or the message of the error."""
    try:
        found = select_masks({"one": snip}, importance, LAYOUT, points, rule=rule, scope=scope)
    except LesionError as error:
        return str(error)
    return [mask.tolist() for mask in found["one"]]


class Case(NamedTuple):
    """A tail, and points that it should serve."""

    tail: Coverage
    points: list[Point]
    rule: str


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tails and points up to them."""
    tail = Coverage(
        p=draw(st.sampled_from([0.0, 0.1, 0.25, 0.5])),
        q=draw(st.sampled_from([0.05, 0.15, 0.3])),
        scope=draw(scopes),
    )
    inside = st.tuples(parts, st.sampled_from([0.5, 0.8, 1.0]))
    shares = draw(st.lists(inside, min_size=1, max_size=4))
    points = [Point(tail.p * p, tail.q * q) for p, q in shares]
    return Case(tail, points, draw(st.sampled_from(["budget", "difference"])))


@few
@given(st.integers(0, 10_000), cases())
def test_every_selection_within_the_tail_is_that_from_all_scores(seed: int, case: Case) -> None:
    scores, importance = scored.tied(seed)
    rest = (case.points, case.rule, case.tail.scope)
    with TemporaryDirectory() as name:
        snip = _tail(scores, Path(name), "snip", case.tail)
        held = _tail(importance, Path(name), "preservation", case.tail)
        assert _selected(snip, held, *rest) == _selected(scores, importance, *rest)


@few
@given(st.integers(0, 10_000), cases(), st.integers(2, 3))
def test_the_maximum_over_tails_selects_what_that_over_all_scores_does(
    seed: int, case: Case, behaviours: int
) -> None:
    scores, _ = scored.tied(seed)
    each = [scored.tied(seed + n)[1] for n in range(behaviours)]
    highest = Held(np.max([one.values for one in each], axis=0))
    rest = (case.points, case.rule, case.tail.scope)
    with TemporaryDirectory() as name:
        snip = _tail(scores, Path(name), "snip", case.tail)
        tails = [
            _tail(one, Path(name) / str(n), "preservation", case.tail) for n, one in enumerate(each)
        ]
        assert _selected(snip, Pooled(tails, "max"), *rest) == _selected(scores, highest, *rest)


@few
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.4]), st.just(0.1), scopes)
def test_a_tail_is_the_negative_p_plus_q_or_the_top_p(
    seed: int, p: float, q: float, scope: str
) -> None:
    scores, importance = scored.tied(seed)
    tail = Coverage(p=p, q=q, scope=scope)
    signed, top = [], []
    for places in scored.units(LAYOUT, scope):
        count = round(p * places.size) + round(q * places.size)
        lowest = scored.by_value(scores.values, places, count)
        signed += [place for place in lowest if scores.values[place] < 0]
        top += scored.by_value(importance.values, places, round(p * places.size), -1)
    assert tail_indices(scores, "snip", LAYOUT, tail).tolist() == sorted(signed)
    assert tail_indices(importance, "preservation", LAYOUT, tail).tolist() == sorted(top)


@pytest.mark.parametrize("kind", ["snip", "preservation"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_tail_reads_as_its_scores_and_what_is_never_taken(
    tmp_path: Path, kind: str, scope: str
) -> None:
    held = scored.tied(3)[kind == "preservation"]
    tail = Coverage(p=0.2, q=0.1, scope=scope)
    stored = _tail(held, tmp_path, kind, tail)
    wanted = np.full(LAYOUT.size, np.inf if kind == "snip" else -np.inf, np.float32)
    places = tail_indices(held, kind, LAYOUT, tail)
    wanted[places] = held.values[places]
    np.testing.assert_array_equal(flat(stored), wanted)
    for name, size in zip(LAYOUT.names, np.diff(LAYOUT.offsets), strict=True):
        whole = stored.open(name)[0:size]
        for first, last in ((0, 1), (3, 11), (size - 5, size), (4, 4)):
            np.testing.assert_array_equal(stored.open(name)[first:last], whole[first:last])


@pytest.mark.parametrize(
    ("p", "q", "scope", "allowed"),
    [
        (0.2, 0.1, "row", True),
        (0.0, 0.01, "row", True),
        (0.21, 0.1, "row", False),
        (0.2, 0.11, "row", False),
        (0.1, 0.05, "global", False),
    ],
)
def test_what_a_tail_does_not_hold_is_refused(
    tmp_path: Path, p: float, q: float, scope: str, allowed: bool
) -> None:
    scores, _ = scored.tied(0)
    stored = _tail(scores, tmp_path / "tail", "snip", Coverage(p=0.2, q=0.1, scope="row"))
    _full(scores, tmp_path / "full", "snip").check_covers(p, q, scope)
    if allowed:
        stored.check_covers(p, q, scope)
        return
    with pytest.raises(
        LesionError,
        match=rf"tail: .* p up to 0\.2, q up to 0\.1 and scope row; p={p}, q={q}, scope {scope} "
        r".*Raise `scores\.tail`",
    ):
        stored.check_covers(p, q, scope)


def test_a_mean_of_several_tails_is_refused(tmp_path: Path) -> None:
    each = [scored.tied(n)[1] for n in range(2)]
    tail = Coverage(p=0.2, q=0.1, scope="global")
    tails = [_tail(one, tmp_path / str(n), "preservation", tail) for n, one in enumerate(each)]
    full = [_full(one, tmp_path / f"{n}", "preservation") for n, one in enumerate(each, 2)]
    for mixed in (tails, [full[0], tails[1]]):
        with pytest.raises(
            LesionError, match=r"cannot be taken from tails\. Set `masks\.preservation_pooling"
        ):
            Pooled(mixed, "mean")
    Pooled(full, "mean")
    np.testing.assert_array_equal(
        Pooled(tails[:1], "mean").open("a.weight")[0:48], tails[0].open("a.weight")[0:48]
    )


def _stored_tail(folder: Path, places: Sequence[int], values: Sequence[float]) -> StoredScores:
    """A tail of one parameter of ten weights, as it was put down."""
    tensors: Mapping[str, np.ndarray] = {
        "w.indices": np.array(places, np.uint32),
        "w.values": np.array(values, np.float32),
    }
    write_shard(tensors, folder / shard_names("snip", 1)[0], ABOUT)
    write_index(folder, "snip", [["w"]], ABOUT, Coverage(p=0.1, q=0.1, scope="global"))
    return StoredScores(folder, "snip", {"w": (2, 5)})


@pytest.mark.parametrize(
    ("places", "values"),
    [
        ([3, 1], [-1, -2]),
        ([3, 3], [-1, -2]),
        ([3, 10], [-1, -2]),
        ([1, 3], [-1, np.nan]),
        ([1, 3], [-np.inf, -2]),
        ([1, 3], [-1]),
        ([1], [-1, -2]),
    ],
)
def test_a_damaged_tail_is_refused_by_name(
    tmp_path: Path, places: list[int], values: list[float]
) -> None:
    stored = _stored_tail(tmp_path, places, values)
    with pytest.raises(BadFile, match=rf"{shard_names('snip', 1)[0]}: the tail of `w` does not"):
        stored.open("w")


def test_whole_and_empty_tails_are_read(tmp_path: Path) -> None:
    whole = flat(_stored_tail(tmp_path / "a", [0, 9], [-1, -2]))
    assert whole.tolist() == [-1, *[np.inf] * 8, -2]
    assert np.isposinf(flat(_stored_tail(tmp_path / "b", [], []))).all()


HOW = ScoresJob(
    behaviour="alpha",
    device=Device(dtype="float32"),
    batch_tokens=200,
    shards=3,
    text="chat",
    preservation="per-example",
    norms=False,
    memory=Memory(plan="all"),
    tail=None,
)
NAMES = ("alpha", "beta")
TAIL = Coverage(p=0.2, q=0.02, scope="global")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and scores of two behaviours: all of them, and tails of each scope."""
    folder = tmp_path_factory.mktemp("tail")
    model = tiny.checkpoint(folder)
    for name in NAMES:
        write_parquet(tiny.pairs(name, 4, "train"), folder / f"{name}.parquet")
        for scope in ("full", *SCOPES):
            tail = None if scope == "full" else TAIL.model_copy(update={"scope": scope})
            job = HOW.model_copy(update={"behaviour": name, "tail": tail})
            score_model(
                model, folder / f"{name}.parquet", folder / scope / name, job, save_minutes=60
            )
    return folder


def _opened(study: Path, storage: str, scope: str, *points: Point, pool: str = "max") -> ScoreSet:
    folders = {name: study / storage / name for name in NAMES}
    cut = Selection(rule="budget", scope=scope, pool=pool, at_least=2, benign_contrast=0.0)
    behaviours = Behaviours(harm=[], benign=list(NAMES))
    return ScoreSet.open(study / "model", folders, NAMES, behaviours, cut, points)


def _masks(study: Path, storage: str, scope: str, rule: str) -> dict[str, list[FlatIndices]]:
    # What promotes a behaviour matters to it: the rule of difference leaves none at a high p.
    high, low = (0.2, 0.1) if rule == "budget" else (0.004, 0.002)
    points = [Point(high, 0.02), Point(low, 0.02), Point(0.0, 0.016)]
    opened = _opened(study, storage, scope, *points)
    return opened.select(
        points, Selection(rule=rule, scope=scope, pool="max", at_least=2, benign_contrast=0.0)
    )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("rule", ["budget", "difference"])
def test_a_job_that_stores_tails_leads_to_the_same_masks(
    study: Path, scope: str, rule: str
) -> None:
    full, tail = (_masks(study, storage, scope, rule) for storage in ("full", scope))
    for name in NAMES:
        assert [one.tolist() for one in tail[name]] == [one.tolist() for one in full[name]]
        assert all(one.size for one in full[name])


def test_a_study_that_asks_for_more_than_its_tails_hold_is_refused(study: Path) -> None:
    for point in (Point(0.3, 0.01), Point(0.1, 0.03)):
        with pytest.raises(LesionError, match="its scores are a tail that serves p up to"):
            _opened(study, "global", "global", Point(0.1, 0.01), point)
        _opened(study, "full", "global", point)
    with pytest.raises(LesionError, match=r"scope global; .* scope row was asked for"):
        _opened(study, "global", "row", Point(0.1, 0.01))
    with pytest.raises(LesionError, match="cannot be taken from tails"):
        _opened(study, "global", "global", Point(0.1, 0.01), pool="mean")


def test_a_tail_takes_eight_bytes_a_kept_weight(study: Path) -> None:
    size = layout_of(study / "model").size
    kept = {"snip": TAIL.p + TAIL.q, "preservation": TAIL.p}
    for kind, share in kept.items():
        tensors = {}
        for storage in ("full", "global"):
            folder = study / storage / NAMES[0]
            stored = StoredScores(folder, kind, layout_of(study / "model").stored_shapes)
            tensors[storage] = stored.metadata["total_size"] / size
            assert (folder / index_name(kind)).is_file()
        print(f"{kind}: {tensors['full']:.2f} bytes a weight, {tensors['global']:.2f} as a tail")
        assert tensors["full"] == 4
        assert tensors["global"] == pytest.approx(8 * share, rel=1e-3)
