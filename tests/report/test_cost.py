"""What the stages took, from what jobs wrote beside their logs."""

from pathlib import Path

import pytest

from lesion.io.logs import USAGE, USAGE_COLUMNS
from lesion.report.cost import cost_of, read_jobs
from lesion_testing.rules import logs

HEAD = "\t".join(USAGE_COLUMNS) + "\n"


def _job(folder: Path, name: str, seconds: str, memory: str, processor: str) -> None:
    path = folder / f"{name}{USAGE}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}{seconds}\t{processor}\t{memory}\n")


@pytest.fixture
def usages(tmp_path: Path) -> Path:
    _job(tmp_path, "scores/smol/physical", "20", "2048", "12")
    _job(tmp_path, "scores/smol/code", "30", "1024", "8")
    _job(tmp_path, "responses/smol/unmodified", "40", "512", "60")
    _job(tmp_path, "responses/smol/curve/shared", "6", "512", "19")
    _job(tmp_path, "models/smol", "4", "NA", "NA")
    _job(tmp_path, "another/smol", "0", "10", "1")
    _job(tmp_path, "report", "1000", "1", "1000")
    return tmp_path


def test_stages_come_in_the_order_of_the_work(usages: Path) -> None:
    found = cost_of(read_jobs(usages))
    assert found.stages.rows() == [
        ("models", "1", "4", "4.0%", "0", "–"),
        ("scores", "2", "50", "50%", "20", "2.0"),
        ("responses", "2", "46", "46%", "79", "0.5"),
        ("all", "5", "100", "100%", "99", "2.0"),
    ]


def test_every_rule_has_its_place_in_the_order(tmp_path: Path) -> None:
    names = {name.removesuffix(".log") for name in logs()}
    for name in (*names, "aaa"):
        _job(tmp_path, f"{name}/smol", "1", "1", "1")
    *known, total = cost_of(read_jobs(tmp_path)).stages["stage"]
    assert set(known) == names - {"report"}
    assert total == "all"


def test_evaluation_has_its_share(usages: Path) -> None:
    sentence = cost_of(read_jobs(usages)).sentence
    assert sentence.startswith("5 jobs took 0.03 processor hours. Evaluation (responses and")
    assert sentence.endswith("took 80% of that, and 46% of the wall time.")


@pytest.mark.parametrize(
    "text",
    ["", "nothing\n", f"{HEAD}", f"{HEAD}12", "seconds\tprocessor\nx\t1\n", "\xff\x00\n\n\t"],
)
def test_what_is_cut_off_is_left_out(usages: Path, text: str) -> None:
    before = cost_of(read_jobs(usages)).stages.row(-1)
    (usages / "masks").mkdir()
    (usages / "masks" / "sweep.tsv").write_text(text, encoding="latin-1")
    after = cost_of(read_jobs(usages)).stages.row(-1)
    # A line that ends after its seconds still says how many they were.
    assert after == before or (after[1:3] == ("6", "112") and text.endswith("12"))


def test_without_usages_there_is_nothing(tmp_path: Path) -> None:
    found = cost_of(read_jobs(tmp_path / "logs"))
    assert found.stages.is_empty()
    assert found.sentence == ""
