from pathlib import Path

import make
import numpy as np
import polars as pl
import pytest
import tiny

from lesion.formats import read_parquet, write_parquet
from lesion.masks.store import write_mask
from lesion.models.generate import complete
from lesion.models.likelihood import response_nll
from lesion.models.record import candidate_shapes
from lesion.models.text import encode_prompt
from lesion.pairs.encode import encode_pairs
from lesion.responses import COMPLETIONS, NLL
from lesion.responses.ask import Asking, respond_variant
from lesion.responses.subject import Device

HOW = Asking(["direct", "prefill"], tiny.PREFILL, 4, 2, 8, 400, Device("float32", 1, None))
ROLES = {"alpha": "harm", "letters": "benign"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("responses"))


class Variant:
    """A variant's inputs and outputs in a folder, and what its last run said."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.capsys = model, folder, capsys
        self.pairs = {name: tiny.pairs(name, 3) for name in ROLES}
        self.mask: Path | None = None

    def run(self, out: str = "out", how: Asking = HOW) -> str:
        paths = {name: self.folder / f"{name}.parquet" for name in self.pairs}
        for name, table in self.pairs.items():
            write_parquet(table, paths[name])
        respond_variant(
            self.model,
            self.mask,
            paths,
            ROLES,
            self.folder / out / "completions.parquet",
            self.folder / out / "nll.parquet",
            "toy",
            how,
        )
        return self.capsys.readouterr().err

    def read(self, out: str = "out") -> tuple[pl.DataFrame, pl.DataFrame]:
        folder = self.folder / out
        return (
            read_parquet(folder / "completions.parquet", COMPLETIONS),
            read_parquet(folder / "nll.parquet", NLL),
        )

    def change(self, place: int, **columns: object) -> None:
        changed = [
            pl.when(pl.int_range(pl.len()) == place).then(pl.lit(value)).otherwise(name).alias(name)
            for name, value in columns.items()
        ]
        self.pairs["alpha"] = self.pairs["alpha"].with_columns(changed)


@pytest.fixture
def variant(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Variant:
    return Variant(model, tmp_path, capsys)


def test_harm_is_asked_under_every_attack_and_benign_prompts_under_the_prefill(
    variant: Variant,
) -> None:
    said = variant.run()
    assert "generated 8 of 8 completions" in said
    assert "measured 6 of 6 NLLs" in said
    completions, nll = variant.read()
    counts = (
        completions.group_by("behaviour", "attack", "prefill").len().sort("behaviour", "attack")
    )
    assert counts.rows() == [
        ("alpha", "direct", "", 3),
        ("alpha", "prefill", tiny.PREFILL, 3),
        ("letters", "prefill", tiny.PREFILL, 2),
    ]
    assert nll["role"].to_list() == ["harm"] * 3 + ["benign"] * 3
    loaded = tiny.loaded(variant.model)
    for row in completions.iter_rows(named=True):
        asked = encode_prompt(loaded.tokenizer, row["prompt"], row["prefill"])
        (alone,) = complete(loaded.model, loaded.tokenizer, [asked], 4, 1)
        assert (row["completion"], row["tokens"], row["finished"]) == alone
    examples = encode_pairs(loaded, pl.concat(variant.pairs.values()))
    wanted = response_nll(loaded.model, examples, 1)
    assert nll["nll"].to_list() == pytest.approx(wanted, rel=1e-4)


def test_two_runs_write_the_same_bytes(variant: Variant) -> None:
    variant.run("one")
    variant.run("other")
    for name in ("completions.parquet", "nll.parquet"):
        one, other = (variant.folder / run / name for run in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_only_what_changed_is_made_again(variant: Variant) -> None:
    variant.run()
    before = (variant.folder / "out" / "completions.parquet").read_bytes()
    said = variant.run()
    assert "generated 0 of 8 completions" in said
    assert "measured 0 of 6 NLLs" in said
    assert (variant.folder / "out" / "completions.parquet").read_bytes() == before
    variant.change(1, prompt=make.prompts("beta", 1)[0]["prompt"])
    said = variant.run()
    assert "generated 2 of 8 completions" in said
    assert "measured 1 of 6 NLLs" in said
    variant.run("anew")
    reused, anew = variant.read(), variant.read("anew")
    assert reused[0].equals(anew[0])
    assert reused[1]["nll"].to_list() == pytest.approx(anew[1]["nll"].to_list(), rel=1e-5)


def test_a_response_that_is_now_finished_is_measured_again(variant: Variant) -> None:
    variant.run()
    assert not variant.pairs["alpha"]["finished"][1]
    variant.change(1, finished=True)
    said = variant.run()
    assert "generated 0 of 8 completions" in said
    assert "measured 1 of 6 NLLs" in said


def test_another_length_is_generated_again_and_not_measured(variant: Variant) -> None:
    variant.run()
    said = variant.run(how=HOW._replace(max_new_tokens=5))
    assert "generated 8 of 8 completions" in said
    assert "measured 0 of 6 NLLs" in said


def test_a_mask_makes_another_variant(variant: Variant) -> None:
    variant.run()
    intact = variant.read()
    shapes = candidate_shapes(variant.model)
    variant.mask = variant.folder / "mask"
    write_mask(np.arange(0, 20_480, 4), shapes, {}, variant.mask)
    said = variant.run()
    assert "generated 8 of 8 completions" in said
    assert "measured 6 of 6 NLLs" in said
    lesioned = variant.read()
    assert lesioned[0]["completion"].to_list() != intact[0]["completion"].to_list()
    assert lesioned[1]["nll"].to_list() != pytest.approx(intact[1]["nll"].to_list(), rel=1e-3)


def test_pairs_that_were_not_kept_are_asked_but_not_measured(variant: Variant) -> None:
    variant.change(2, outcome="refused")
    said = variant.run()
    assert "generated 8 of 8 completions" in said
    assert "measured 5 of 5 NLLs" in said
