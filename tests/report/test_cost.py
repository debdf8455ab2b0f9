"""What the stages took, from whatever Snakemake noted."""

from pathlib import Path

import pytest

from lesion.report.cost import cost_of, read_jobs
from lesion_testing.rules import files_below

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def _job(folder: Path, name: str, seconds: str, memory: str, processor: str) -> None:
    path = folder / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}{seconds}\t0:00:00\t{memory}\t1\t1\t1\t0\t0\t50\t{processor}\n")


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    _job(tmp_path, "scores/smol/physical", "20", "2048", "12")
    _job(tmp_path, "scores/smol/code", "30", "1024", "8")
    _job(tmp_path, "responses/smol/unmodified", "40", "512", "60")
    _job(tmp_path, "responses/smol/curve/shared", "6", "512", "19")
    _job(tmp_path, "models/smol", "4", "NA", "NA")
    _job(tmp_path, "another/smol", "0", "10", "1")
    _job(tmp_path, "report", "1000", "1", "1000")
    return tmp_path


def test_stages_come_in_the_order_of_the_work(benchmarks: Path) -> None:
    found = cost_of(read_jobs(benchmarks))
    assert found.stages.rows() == [
        ("models", "1", "4", "4.0%", "0", "–"),
        ("scores", "2", "50", "50%", "20", "2.0"),
        ("responses", "2", "46", "46%", "79", "0.5"),
        ("all", "5", "100", "100%", "99", "2.0"),
    ]


def test_every_rule_has_its_place_in_the_order(tmp_path: Path) -> None:
    names = {name.removesuffix(".tsv") for name in files_below("benchmarks")}
    for name in (*names, "aaa"):
        _job(tmp_path, f"{name}/smol", "1", "1", "1")
    *known, total = cost_of(read_jobs(tmp_path)).stages["stage"]
    assert set(known) == names - {"report"}
    assert total == "all"


def test_evaluation_has_its_share(benchmarks: Path) -> None:
    sentence = cost_of(read_jobs(benchmarks)).sentence
    assert sentence.startswith("5 jobs took 0.03 processor hours. Evaluation (responses and")
    assert sentence.endswith("took 80% of that, and 46% of the wall time.")


@pytest.mark.parametrize(
    "text", ["", "nothing\n", f"{HEAD}", f"{HEAD}12", "s\tcpu_time\nx\t1\n", "\xff\x00\n\n\t"]
)
def test_what_is_cut_off_is_left_out(benchmarks: Path, text: str) -> None:
    before = cost_of(read_jobs(benchmarks)).stages.row(-1)
    (benchmarks / "masks").mkdir()
    (benchmarks / "masks" / "sweep.tsv").write_text(text, encoding="latin-1")
    after = cost_of(read_jobs(benchmarks)).stages.row(-1)
    # A line that ends after its seconds still says how many they were.
    assert after == before or (after[1:3] == ("6", "112") and text.endswith("12"))


def test_without_benchmarks_there_is_nothing(tmp_path: Path) -> None:
    found = cost_of(read_jobs(tmp_path / "benchmarks"))
    assert found.stages.is_empty()
    assert found.sentence == ""
