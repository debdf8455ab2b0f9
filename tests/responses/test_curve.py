from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lesion.io.formats import LesionError, read_parquet, write_parquet
from lesion.masks.curve import CURVE_MASKS
from lesion.masks.lesion import lesioned
from lesion.models.generate import complete
from lesion.models.layout import FlatIndices, layout_of
from lesion.models.likelihood import response_nll
from lesion.models.text import encode_prompt
from lesion.pairs.tables import encode_pairs
from lesion.responses import CURVE, CURVE_COMPLETIONS
from lesion.responses.curve import respond_family
from lesion.responses.jobs import Completing, CurveJob
from lesion.study.job import Device
from lesion_testing import tiny

HOW = CurveJob(
    family="shared",
    roles={"alpha": "harm", "beta": "harm", "letters": "benign"},
    pairs=None,
    batch_tokens=400,
    completing=Completing(prompts=2, prefill=tiny.PREFILL, max_new_tokens=4, batch_size=8),
    device=Device(dtype="float32", threads=1, device_map=None),
)
SIZE_RATIOS = (0.5, 1.0, 2.0)


def _places(seed: int, size_ratio: float) -> FlatIndices:
    every = int(12 / size_ratio)
    return np.arange(seed, 20_480, every)


def _masks() -> pl.DataFrame:
    rows = [("unmodified", 3, 0.0, [])]
    rows += [
        ("shared", 3, size_ratio, _places(3, size_ratio).tolist()) for size_ratio in SIZE_RATIOS
    ]
    # Two of three sizes round to the same mask.
    rows += [
        ("random", seed, size_ratio, _places(seed, max(size_ratio, 1.0)).tolist())
        for seed in (3, 4)
        for size_ratio in SIZE_RATIOS
    ]
    return pl.DataFrame(rows, schema=CURVE_MASKS, orient="row").sample(
        fraction=1, shuffle=True, seed=0
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("curve"))


class Family:
    """Families' inputs and outputs in a folder, and what the last run said."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.capsys = model, folder, capsys
        self.pairs = {name: tiny.pairs(name, 3) for name in HOW.roles}
        self.masks = _masks()

    def run(self, family: str = "shared", how: CurveJob = HOW) -> str:
        paths = {name: self.folder / f"{name}.parquet" for name in self.pairs}
        for name, table in self.pairs.items():
            write_parquet(table, paths[name])
        write_parquet(self.masks, self.folder / "masks.parquet")
        out, completions = (self.folder / "out" / f"{family}{end}.parquet" for end in ("", "-c"))
        respond_family(
            how.model_copy(update={"family": family}),
            self.model,
            self.folder / "masks.parquet",
            list(paths.values()),
            out,
            completions if how.completing else None,
        )
        return self.capsys.readouterr().err

    def nll(self, family: str = "shared") -> pl.DataFrame:
        return read_parquet(self.folder / "out" / f"{family}.parquet", CURVE)

    def completions(self, family: str = "shared") -> pl.DataFrame:
        return read_parquet(self.folder / "out" / f"{family}-c.parquet", CURVE_COMPLETIONS)


@pytest.fixture
def family(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Family:
    return Family(model, tmp_path, capsys)


def test_every_size_is_measured_as_its_mask_alone(family: Family) -> None:
    assert "shared: measured 27 of 27 NLLs" in family.run()
    table = family.nll()
    loaded, layout = tiny.loaded(family.model), layout_of(family.model)
    examples = encode_pairs(loaded.chat, pl.concat(family.pairs.values()))
    assert table["size_ratio"].unique(maintain_order=True).to_list() == list(SIZE_RATIOS)
    for size_ratio in SIZE_RATIOS:
        mask = _places(3, size_ratio)
        with lesioned(loaded.model, layout.by_name(mask)):
            wanted = response_nll(loaded.model, examples, 1)
        rows = table.filter(size_ratio=size_ratio)
        assert rows["nll"].to_list() == pytest.approx(wanted, rel=1e-4)
        assert rows["weights"].unique().to_list() == [mask.size]
        assert rows["role"].to_list() == ["harm"] * 6 + ["benign"] * 3
        assert rows["behaviour"].to_list() == [name for name in HOW.roles for _ in range(3)]
    least, most = (
        table.filter(size_ratio=size_ratio)["nll"].to_list() for size_ratio in (0.5, 2.0)
    )
    assert least != pytest.approx(most, rel=1e-2)


def test_unmodified_is_the_model_itself(family: Family) -> None:
    family.run("shared")
    family.run("unmodified")
    table = family.nll("unmodified")
    loaded = tiny.loaded(family.model)
    examples = encode_pairs(loaded.chat, pl.concat(family.pairs.values()))
    wanted = response_nll(loaded.model, examples, 1)
    assert table["nll"].to_list() == pytest.approx(wanted, rel=1e-4)
    assert table.select("size_ratio", "weights").unique().rows() == [(0.0, 0)]


def test_some_harmful_prompts_are_completed_under_the_prefill(family: Family) -> None:
    assert "shared: generated 12 of 12 completions" in family.run()
    table = family.completions()
    counts = table.group_by("variant", "behaviour", "role", "attack", "prefill").len()
    assert sorted(counts.rows()) == [
        (f"shared@{size_ratio}", name, "harm", "prefill", tiny.PREFILL, 2)
        for size_ratio in SIZE_RATIOS
        for name in ("alpha", "beta")
    ]
    loaded, layout = tiny.loaded(family.model), layout_of(family.model)
    for row in table.iter_rows(named=True):
        mask = _places(3, float(row["variant"].removeprefix("shared@")))
        assert (row["weights"], row["user_turn"]) == (mask.size, row["prompt"])
        asked = encode_prompt(loaded.chat, row["prompt"], row["prefill"])
        with lesioned(loaded.model, layout.by_name(mask)):
            (alone,) = complete(loaded.model, loaded.chat, [asked], 4, 1)
        assert (row["completion"], row["tokens"], row["finished"]) == alone[:3]
        assert tuple(row["token_ids"]) == alone.ids


def test_every_draw_is_measured_and_the_first_is_completed(family: Family) -> None:
    said = family.run("random")
    # Three sizes of two draws and nine pairs; two sizes are the same mask.
    assert "random: measured 36 of 54 NLLs" in said
    assert "random: generated 8 of 12 completions" in said
    table = family.nll("random")
    for seed in (3, 4):
        half, whole = (
            table.filter(seed=seed, size_ratio=size_ratio)["nll"].to_list()
            for size_ratio in (0.5, 1.0)
        )
        assert half == whole
    one, other = (table.filter(seed=seed, size_ratio=1.0)["nll"].to_list() for seed in (3, 4))
    assert one != pytest.approx(other, rel=1e-3)


def test_completions_are_made_only_if_asked_for(family: Family) -> None:
    said = family.run(how=HOW.model_copy(update={"completing": None}))
    assert "measured 27 of 27 NLLs" in said
    assert "completions" not in said


def test_only_what_changed_is_made_again(family: Family) -> None:
    family.run()
    before = (family.folder / "out" / "shared.parquet").read_bytes()
    said = family.run()
    assert "measured 0 of 27 NLLs" in said
    assert "generated 0 of 12 completions" in said
    assert (family.folder / "out" / "shared.parquet").read_bytes() == before
    table = family.pairs["beta"]
    second = pl.int_range(pl.len()) == 1
    family.pairs["beta"] = table.with_columns(
        prompt=pl.when(second).then(pl.lit("hide the piano")).otherwise("prompt")
    )
    said = family.run()
    assert "measured 3 of 27 NLLs" in said
    assert "generated 3 of 12 completions" in said


def test_a_size_more_is_the_only_one_measured(family: Family) -> None:
    every = family.masks
    family.masks = every.filter(pl.col("size_ratio") != 1.0)
    assert "measured 18 of 18 NLLs" in family.run()
    family.masks = every
    said = family.run()
    assert "measured 9 of 27 NLLs" in said
    assert "generated 4 of 12 completions" in said


def test_as_many_pairs_of_each_behaviour_as_are_asked_for(family: Family) -> None:
    family.run(how=HOW.model_copy(update={"pairs": 2}))
    counts = family.nll().group_by("size_ratio", "behaviour").len()
    assert counts["len"].unique().to_list() == [2]
    said = family.run(how=HOW)
    assert "measured 9 of 27 NLLs" in said


def test_pairs_that_were_not_kept_are_not_measured(family: Family) -> None:
    family.pairs["letters"] = family.pairs["letters"].with_columns(outcome=pl.lit("refused"))
    assert "measured 18 of 18 NLLs" in family.run()


def test_an_unknown_family_says_where_to_ask_for_it(family: Family) -> None:
    with pytest.raises(LesionError, match=r"no mask of the family `gamma`.*`curve\.families`"):
        family.run("gamma")
