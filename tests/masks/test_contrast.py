"""Masks that leave out what harmless answers on the same topics depend on too."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lesion.io.formats import LesionError, read_json, read_parquet, write_json
from lesion.masks.choose import Chosen, choose_point
from lesion.masks.jobs import MasksJob, Selection, SweepJob
from lesion.masks.run import write_masks
from lesion.masks.select import Point
from lesion.masks.store import read_mask
from lesion.masks.sweep import SWEEP, ScoreSet, _broken_below, sweep
from lesion.scores.jobs import Coverage
from lesion.scores.store import Contrast, Pooled, Remembered, StoredScores
from lesion.scores.tail import write_tail
from lesion.study.job import Behaviours, Device
from lesion_testing import scored_study
from lesion_testing.scored import Held, brute
from lesion_testing.scored_study import Tiny

MATCHED = Behaviours(harm=["alpha", "beta"], benign=["sums"], matched={"letters": "alpha"})
CUT = Selection(rule="budget", scope="global", pool="max", at_least=2, benign_contrast=0.0)
P, Q = 0.1, 0.02


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return scored_study.made(tmp_path_factory.mktemp("study"))


def _expected(study: Tiny, name: str, contrast: float, benign: float = 0.0) -> list[int]:
    """A harm type's mask by sorting everything."""
    scores, importance = study.snips[name], study.importances["sums"]
    if contrast:
        importance = np.maximum(importance, study.importances["letters"])
        if name == "alpha":
            difference = scores - np.float32(contrast) * study.snips["letters"]
            difference -= np.float32(benign) * study.snips["sums"]
            scores = np.where(scores < 0, difference, np.float32(0))
    layout = study.layout
    return brute(Held(scores, layout), Held(importance, layout), P, Q, "budget", "global")


def _shared(study: Tiny, contrast: float) -> list[int]:
    votes = Counter(place for name in MATCHED.harm for place in _expected(study, name, contrast))
    return sorted(place for place, count in votes.items() if count == 2)


def _sweep(
    study: Tiny,
    out: Path,
    contrasts: Sequence[float],
    qs: Sequence[float] = (Q,),
    stop: float = 1000.0,
) -> pl.DataFrame:
    points = [(P, q, contrast) for q in qs for contrast in contrasts]
    device = Device(dtype="float32")
    job = SweepJob(
        behaviours=MATCHED,
        selection=CUT,
        points=points,
        stop=stop,
        batch_tokens=200,
        device=device,
    )
    pairs = {name: study.pairs / f"{name}.parquet" for name in MATCHED.names}
    sweep(study.model, study.score_folders, pairs, out, job)
    return read_parquet(out, SWEEP)


def test_no_larger_mask_is_tried_than_one_that_breaks_the_model(
    study: Tiny, tmp_path: Path
) -> None:
    qs, out = (Q / 4, Q / 2, Q), tmp_path / "sweep.parquet"
    every = _sweep(study, tmp_path / "every.parquet", [0.0, 1.0], qs)
    assert every.height == 6
    # Between what the first and the second mask of the plain rule add.
    added = (every["benign_nll"] - every["benign_nll_unmodified"]).to_list()
    plain, contrast = added[:3], added[3:]
    stop = (plain[0] + plain[1]) / 2
    assert plain[0] < stop < plain[1]
    kept = [0, 1] + [3 + n for n in range(3) if all(nll <= stop for nll in contrast[:n])]
    measured = _sweep(study, out, [0.0, 1.0], qs, stop)
    assert measured.equals(every[kept])
    # Whatever was measured before, the table is the same.
    assert _sweep(study, out, [0.0, 1.0], qs).equals(every)
    assert _sweep(study, out, [0.0, 1.0], qs, stop).equals(measured)
    assert _sweep(study, tmp_path / "few.parquet", [0.0], qs[:2], stop).height == 2
    assert _sweep(study, tmp_path / "few.parquet", [0.0, 1.0], qs, stop).equals(measured)


def test_only_smaller_masks_of_the_same_p_and_contrast_stop_a_point() -> None:
    rows = [
        {"p": p, "q": q, "contrast": 0.0, "key": key}
        for p, q, key in ((0.1, 0.1, "a"), (0.1, 0.2, "b"), (0.2, 0.1, "c"), (0.2, 0.2, "b"))
    ]
    nlls = {"a": 9.0, "b": 9.0, "c": 1.0}
    known = {key: {"benign_nll": nll, "benign_nll_unmodified": 1.0} for key, nll in nlls.items()}
    broken = [_broken_below(row, rows, known, 1.0) for row in rows]
    assert broken == [False, True, False, False]
    known["a"]["benign_nll"] = float("nan")
    assert _broken_below(rows[1], rows, known, 1.0)
    assert not _broken_below(rows[1], rows, {}, 1.0)


def test_a_contrast_selects_what_matched_requests_need_less(study: Tiny, tmp_path: Path) -> None:
    table = _sweep(study, tmp_path / "sweep.parquet", [0.0, 0.5, 2.0])
    assert table["contrast"].to_list() == [0.0, 0.5, 2.0]
    sizes = [len(_shared(study, contrast)) for contrast in (0.0, 0.5, 2.0)]
    assert table["weights"].to_list() == sizes
    assert len(set(sizes)) == 3
    assert table["matched_nll"].null_count() == 0
    assert set(table["matched_pairs"]) == {3}
    assert table["matched_nll"].n_unique() == 3


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(("contrast", "benign"), [(0, 0), (0, 0.5), (1, 0), (1, 0.5)])
def test_later_stages_select_by_the_chosen_contrast(
    study: Tiny, tmp_path: Path, contrast: float, benign: float, processes: int
) -> None:
    write_json(Chosen(P, Q, contrast, 1.0, 0)._asdict(), tmp_path / "chosen.json")
    cut = CUT.model_copy(update={"benign_contrast": benign})
    job = MasksJob(behaviours=MATCHED, selection=cut, controls=[], own_q=None, seed=0)
    write_masks(
        study.model, study.score_folders, tmp_path / "chosen.json", tmp_path, job, processes
    )
    masks = {name: read_mask(tmp_path / f"{name}.safetensors") for name in ("alpha", "beta")}
    for name, mask in masks.items():
        expected = _expected(study, name, contrast, benign)
        assert study.layout.by_name(np.array(expected)).keys() == set(mask.indices)
        flat = np.concatenate(
            [
                mask.indices[parameter] + start
                for parameter, start in zip(study.layout.names, study.layout.offsets, strict=False)
                if parameter in mask.indices
            ]
        )
        assert flat.tolist() == expected
        assert ("contrast" in mask.metadata) == (contrast > 0)
    assert (_expected(study, "alpha", contrast, 0.5) == _expected(study, "alpha", contrast)) == (
        contrast == 0
    )
    # The masks of the matched requests themselves have no contrast: they are controls.
    assert (tmp_path / "letters.safetensors").is_file()


def test_only_weights_that_promote_harm_are_selected(study: Tiny) -> None:
    shapes = study.layout.stored_shapes
    harm, matched = (
        StoredScores(study.score_folders[name], "snip", shapes) for name in ("alpha", "letters")
    )
    contrast = Contrast(harm, [(matched, 3.0)])
    for name, size in study.layout.sizes.items():
        scores, values = harm.open(name)[0:size], contrast.open(name)[0:size]
        assert (values[scores >= 0] == 0).all()
        part = contrast.open(name)[7:19]
        assert (part == values[7:19]).all()


def test_several_contrasts_can_read_one_source(study: Tiny) -> None:
    shapes = study.layout.stored_shapes
    alpha, beta, letters, sums = (
        StoredScores(study.score_folders[name], "snip", shapes)
        for name in ("alpha", "beta", "letters", "sums")
    )
    pooled = Pooled([letters, sums], "mean")
    shared = Remembered(pooled)
    for name, size in study.layout.sizes.items():
        opened = [Contrast(scores, [(shared, 0.5)]).open(name) for scores in (alpha, beta)]
        mean = pooled.open(name)
        for first in range(0, size, 50):
            part = slice(first, min(first + 50, size))
            for scores, contrast in zip((alpha, beta), opened, strict=True):
                own = scores.open(name)[part]
                expected = np.where(own < 0, own - np.float32(0.5) * mean[part], np.float32(0))
                assert contrast[part].tolist() == expected.tolist()


def test_the_sweep_chooses_by_harm_less_matched() -> None:
    rows = [
        {"p": 0.1, "q": q, "contrast": contrast, "weights": 9, "key": "", **_nlls(harm, matched)}
        for q, contrast, harm, matched in ((0.1, 0.0, 0.5, 0.4), (0.2, 1.0, 0.3, 0.1))
    ]
    assert choose_point(pl.DataFrame(rows, schema=SWEEP), 0.1) == (0.1, 0.2, 1.0, 0.1, 1)


def _nlls(harm: float, matched: float) -> dict[str, float]:
    added = {"harm": harm, "matched": matched, "benign": 0.05}
    return {f"{side}_nll": 1 + value for side, value in added.items()} | {
        f"{side}_nll_unmodified": 1.0 for side in added
    }


def test_truncated_scores_allow_no_contrast(study: Tiny, tmp_path: Path) -> None:
    shapes = study.layout.stored_shapes
    folders = dict(study.score_folders)
    for name in ("alpha", "letters"):
        full = StoredScores(study.score_folders[name], "snip", shapes)
        metadata = read_json(study.score_folders[name] / "snip.safetensors.index.json")["metadata"]
        about = {key: value for key, value in metadata.items() if isinstance(value, str)}
        tail = Coverage(p=0.5, q=0.5, scope="global")
        folders[name] = tmp_path / name
        folders[name].mkdir()
        write_tail(full, folders[name], "snip", 2, study.layout, tail, about)
    harm, matched = (StoredScores(folders[name], "snip", shapes) for name in ("alpha", "letters"))
    with pytest.raises(LesionError, match="a contrast cannot be taken from truncated scores"):
        Contrast(harm, [(matched, 1.0)])


def test_without_matched_requests_the_contrast_changes_nothing(study: Tiny) -> None:
    plain = Behaviours(harm=["alpha", "beta"], benign=["sums"])
    points = [Point(P, Q)]

    def selected(contrast: float) -> list[int]:
        names = ["alpha"]
        opened = ScoreSet.open(
            study.model, study.score_folders, names, plain, CUT, points, contrast
        )
        return opened.select(points, CUT)["alpha"][0].tolist()

    assert selected(0.0) == selected(1.0) == _expected(study, "alpha", 0.0)
