import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lesion.io.formats import LesionError, read_parquet, write_json
from lesion.masks.choose import Chosen
from lesion.masks.controls import CONTROLS
from lesion.masks.curve import CURVE_MASKS, curve_masks
from lesion.masks.jobs import CurveMasksJob, MasksJob, Selection
from lesion.masks.run import write_masks
from lesion.masks.store import read_mask
from lesion.plan.jobs import curve_job, curve_masks_job
from lesion.plan.outputs import curve_families, wants_norms
from lesion.scores.store import StoredScores
from lesion.study import Study, StudyError, load_study, read_config
from lesion_testing import ROOT, scored_study
from lesion_testing.scored_study import BEHAVIOURS, Tiny

P, Q = 0.1, 0.02
SIZES = [0.25, 1.0, 2.0]
BUILT = ["shared", "shared-all", *CONTROLS]
CUT = Selection(rule="budget", scope="global", pool="mean", at_least=2, benign_contrast=0.0)
JOB = CurveMasksJob(
    behaviours=BEHAVIOURS,
    selection=CUT,
    families=[*BUILT, *BEHAVIOURS.names],
    sizes=SIZES,
    seeds=2,
    seed=5,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return scored_study.made(tmp_path_factory.mktemp("study"))


def _chosen(folder: Path, q: float = Q) -> Path:
    """A choice of (P, q)."""
    write_json(Chosen(P, q, 0.0, 1.0, 0)._asdict(), folder / f"{q}.json")
    return folder / f"{q}.json"


def _grow(
    study: Tiny, folder: Path, cut: Selection = CUT, q: float = Q, **changes: Any
) -> pl.DataFrame:
    out = folder / "curve.parquet"
    job = JOB.model_copy(update={"selection": cut, **changes})
    curve_masks(study.model, study.score_folders, _chosen(folder, q), out, job)
    return read_parquet(out, CURVE_MASKS)


def _masks(table: pl.DataFrame) -> dict[tuple[str, int, float], list[int]]:
    return {
        row[:3]: row[3]
        for row in table.select("family", "seed", "size_ratio", "flat_indices").rows()
    }


@pytest.fixture(scope="module")
def table(study: Tiny, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return _grow(study, tmp_path_factory.mktemp("curve"))


def test_every_family_at_every_size_and_draw(table: pl.DataFrame) -> None:
    random = [name for name in JOB.families if name.startswith("random")]
    drawn = [(name, seed) for name in random for seed in (5, 6)]
    others = [(name, 5) for name in JOB.families if name not in random]
    wanted = [(*one, size_ratio) for one in [*drawn, *others] for size_ratio in SIZES]
    found = _masks(table)
    assert sorted(found) == sorted([("unmodified", 5, 0.0), *wanted])
    assert found["unmodified", 5, 0.0] == []
    for places in found.values():
        assert (np.diff(places) > 0).all()


@pytest.mark.parametrize("scope", ["global", "matrix", "row"])
def test_each_size_is_what_the_masks_stage_makes_there(
    study: Tiny, tmp_path: Path, scope: str
) -> None:
    cut, q = CUT.model_copy(update={"scope": scope}), 0.1
    found = _masks(_grow(study, tmp_path, cut, q))
    job = MasksJob(
        behaviours=BEHAVIOURS, selection=cut, controls=list(CONTROLS), own_q=None, seed=JOB.seed
    )
    for size_ratio in SIZES:
        out = tmp_path / f"{size_ratio}"
        write_masks(study.model, study.score_folders, _chosen(tmp_path, q * size_ratio), out, job)
        for name in JOB.families:
            wanted = read_mask(out / f"{name}.safetensors").flat().tolist()
            assert found[name, JOB.seed, size_ratio] == wanted, (name, size_ratio)


def test_draws_differ_in_place_and_not_in_size(study: Tiny, table: pl.DataFrame) -> None:
    found, layout = _masks(table), study.layout
    for size_ratio in SIZES:
        like, *draws = (
            np.array(found[one])
            for one in (
                ("shared", 5, size_ratio),
                ("random", 5, size_ratio),
                ("random", 6, size_ratio),
            )
        )
        counts = [[part.size for part in layout.split(mask)] for mask in (like, *draws)]
        assert counts[0] == counts[1] == counts[2]
        assert draws[0].tolist() != draws[1].tolist()


def test_masks_are_made_of_what_they_need(study: Tiny, table: pl.DataFrame, tmp_path: Path) -> None:
    # Neither the other families nor their order decide a mask.
    families = ["sums", "benign-signed", "random"]
    some = _masks(_grow(study, tmp_path, families=families))
    every = _masks(table)
    assert some == {one: every[one] for one in every if one[0] in ("unmodified", *families)}


def test_scores_are_read_no_more_often_for_more_sizes(
    study: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    read = StoredScores.open

    def counted(self: StoredScores, name: str) -> object:
        opened.append(name)
        return read(self, name)

    monkeypatch.setattr(StoredScores, "open", counted)
    families = ["shared", "unsigned", "unimportant", "benign-signed"]
    counts = []
    for sizes in ([1.0], [0.25, 0.5, 1.0, 1.5, 2.0]):
        opened.clear()
        _grow(study, tmp_path, families=families, sizes=sizes)
        counts.append(len(opened))
    assert counts[0] == counts[1] > 0


def test_sizes_without_room_are_left_out(study: Tiny, tmp_path: Path) -> None:
    cut = CUT.model_copy(update={"scope": "row"})
    found = _grow(study, tmp_path, cut, q=0.02, families=["alpha"])
    # A row has 64 or 32 weights: a fourth of 0.02 of them is none.
    assert found.filter(family="alpha")["size_ratio"].to_list() == [1.0, 2.0]
    with pytest.raises(LesionError, match=r"no size of `curve.sizes` selects .* at least"):
        _grow(study, tmp_path, cut, q=0.02, families=["alpha"], sizes=[0.01, 0.1])


def test_empty_votes_are_left_out(study: Tiny, tmp_path: Path) -> None:
    cut = CUT.model_copy(update={"at_least": 3})
    families = ["shared-all", "random", "alpha"]
    found = _grow(study, tmp_path, cut, families=families, sizes=[0.005, 1.0])
    assert found.filter(family="alpha")["size_ratio"].to_list() == [0.005, 1.0]
    assert found.filter(family="shared-all")["size_ratio"].to_list() == [1.0]
    assert found.filter(family="random", seed=5)["size_ratio"].to_list() == [1.0]


def test_two_runs_write_the_same_bytes(study: Tiny, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _grow(study, tmp_path / name)
        files.append((tmp_path / name / "curve.parquet").read_bytes())
    assert files[0] == files[1]


# What the config is checked for


def _configured(curve: dict[str, Any], **sections: dict[str, Any]) -> Study:
    config = {**load_study(read_config(ROOT / "config.yaml")).model_dump(), "preset": "none"}
    for name, changes in sections.items():
        config[name] |= changes
    return load_study({**config, "curve": curve})


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ({"families": ["sharde"]}, "no mask is named `sharde`. Did you mean `shared`?"),
        ({"families": ["unmodified"]}, "`curve.families`: no mask is named `unmodified`"),
        ({"families": ["shared"], "sizes": [1, 1e4]}, "10000 times q=0.012 is more than all"),
        ({"sizes": [0]}, "`curve.sizes"),
        ({"sizes": []}, "`curve.sizes`"),
        ({"familys": ["shared"]}, "`curve.familys`: unknown key. Did you mean `families`?"),
    ],
)
def test_what_cannot_be_grown_is_an_error_of_the_config(curve: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=re.escape(said)):
        _configured(curve)


def test_sizes_beyond_the_tails_are_an_error_with_the_q_that_serves_them() -> None:
    masks = {"preservation_pooling": "max", "contrast": 0, "q": 1.5e-4}
    scores = {"tail": {"p": 0.2, "q": 2e-4}}
    none: dict[str, list[str]] = {"masks": []}
    curve = {"families": ["shared", "random"], "sizes": [0.5, 2]}
    said = r"2 times q=0\.00015 exceeds the truncated scores, .* 0\.0002\. Raise .* to 0\.0003"
    with pytest.raises(StudyError, match=said):
        _configured(curve, masks=masks, scores=scores, equal_cost=none)
    scores = {"tail": {"p": 0.2, "q": 3e-4}}
    assert _configured(curve, masks=masks, scores=scores, equal_cost=none).curve.sizes == [0.5, 2]
    curve["families"] = ["unsigned", "shared"]
    with pytest.raises(StudyError, match="the controls unsigned need every score"):
        _configured(curve, masks=masks, scores=scores, equal_cost=none)
    # Without families the sizes ask for nothing.
    scores = {"tail": {"p": 0.2, "q": 2e-4}}
    assert not _configured({}, masks=masks, scores=scores, equal_cost=none).curve.families


def test_no_behaviour_may_be_called_as_the_folder_of_curves() -> None:
    behaviour = {"role": "benign", "source": "file:studies/prompts/code.jsonl"}
    with pytest.raises(StudyError, match=r"`behaviours\.curve`: this name is taken"):
        _configured({}, behaviours={"curve": behaviour})


def test_the_order_of_families_and_sizes_decides_nothing() -> None:
    one = _configured({"families": ["shared", "code", "random"], "sizes": [2, 1, 0.5]})
    other = _configured({"families": ["random", "shared", "code"], "sizes": [0.5, 2, 1, 1]})
    assert curve_masks_job(one, {}) == curve_masks_job(other, {})
    assert curve_job(one, {"family": "code"}) == curve_job(other, {"family": "code"})
    assert curve_families(one) == ["unmodified", "code", "random", "shared"]
    assert curve_families(_configured({})) == []


def test_wanda_makes_scoring_note_the_norms() -> None:
    assert not wants_norms(_configured({"families": ["random"]}))
    assert wants_norms(_configured({"families": ["wanda"]}))
