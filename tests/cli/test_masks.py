"""The commands about masks and checkpoints, on real files."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from lesion import cli
from lesion.io.formats import LesionError
from lesion.masks.store import write_mask
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, read_record
from lesion_testing import make, tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared checkpoint."""
    folder = tmp_path_factory.mktemp("cli")
    source = make.llama(folder / "source", tiny.TEXTS)
    prepare(source, folder / "base", dtype="auto", license_="apache-2.0")
    return folder / "base"


def _mask(base: Path, path: Path, seed: int = 0, **changes: str) -> Path:
    metadata = {
        "mask": path.stem,
        "role": "harm",
        "model_digest": read_record(base)["digest"],
        "p": "0.1",
        "q": "0.01",
        **changes,
    }
    places = np.sort(np.random.default_rng(seed).choice(20_480, 300, replace=False))
    write_mask(places, candidate_shapes(base), metadata, path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(one) for one in arguments], catch_exceptions=False)


def test_apply_writes_a_checkpoint(base: Path, tmp_path: Path) -> None:
    mask, out = _mask(base, tmp_path / "alpha.safetensors"), tmp_path / "out"
    done = run("apply", base, mask, out, "--name", "org/toy")
    assert done.exit_code == 0
    assert "every byte was compared" in done.stdout
    card = (out / "README.md").read_text()
    assert card.startswith("---\nbase_model: org/toy\n")
    assert "license: apache-2.0" in card
    assert (
        '"command": "lesion apply base alpha.safetensors out"'
        in (out / "reproduce" / "lesion.json").read_text()
    )


def test_apply_refuses_a_folder_that_is_there(base: Path, tmp_path: Path) -> None:
    mask = _mask(base, tmp_path / "alpha.safetensors")
    with pytest.raises(LesionError, match="already exists"):
        run("apply", base, mask, tmp_path)


def test_apply_refuses_another_base(base: Path, tmp_path: Path) -> None:
    mask = _mask(base, tmp_path / "alpha.safetensors", model_digest="f" * 64)
    with pytest.raises(
        LesionError, match=f"with digest {'f' * 64}, but .*base has digest [0-9a-f]{{64}}"
    ):
        run("apply", base, mask, tmp_path / "out")
    with pytest.raises(LesionError, match="not a folder"):
        run("apply", tmp_path / "none", mask, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LesionError, match="holds no safetensors"):
        run("apply", tmp_path / "empty", mask, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_show_says_what_a_mask_is(base: Path, tmp_path: Path) -> None:
    done = run("show", _mask(base, tmp_path / "alpha.safetensors"))
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["role", "harm"] in lines
    assert "300 of 20,480 candidates" in done.stdout
    assert "0.0146 of the candidates" in done.stdout
    layers = [line for line in lines if line and line[0] in ("0", "1", "all")]
    assert [line[0] for line in layers] == ["0", "1", "all"]
    table = np.array([[0 if cell == "·" else int(cell) for cell in line[1:]] for line in layers])
    assert table.shape[1] == 8
    assert (table[0] + table[1] == table[2]).all()
    assert (table[:, :-1].sum(1) == table[:, -1]).all()
    assert table[2, -1] == 300


def test_show_an_empty_mask(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    write_mask(np.empty(0, np.int64), candidate_shapes(base), {"role": "harm"}, path)
    assert "0 of 20,480 candidates" in run("show", path).stdout


def test_overlap_compares_every_two(base: Path, tmp_path: Path) -> None:
    masks = [_mask(base, tmp_path / f"{name}.safetensors", n) for n, name in enumerate("abc")]
    done = run("overlap", *masks)
    assert done.exit_code == 0
    assert "strict [95%]" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row for row in rows if row[:1] == ["a"] and "300" in row]
    assert len([row for row in rows if row and row[0] in "ab" and len(row) > 4]) == 3
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_overlap_of_a_mask_with_its_copy(base: Path, tmp_path: Path) -> None:
    masks = [_mask(base, tmp_path / f"{name}.safetensors", mask="same") for name in "ab"]
    text = run("overlap", *masks).stdout
    assert "1.000" in text
    with pytest.raises(LesionError, match="different masks"):
        run("overlap", masks[0], masks[0])


def test_overlap_refuses_masks_of_two_models(base: Path, tmp_path: Path) -> None:
    one = _mask(base, tmp_path / "a.safetensors")
    two = _mask(base, tmp_path / "b.safetensors", model_digest="e" * 64)
    with pytest.raises(LesionError, match="Only masks of one model can be compared"):
        run("overlap", one, two)


@pytest.mark.parametrize("command", ["apply", "show", "overlap"])
def test_help_has_an_example(command: str) -> None:
    done = run(command, "--help")
    assert f"Example: lesion {command}" in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", ["show", "overlap", "apply"])
def test_weights_that_are_no_mask_are_not_to_be_deleted(
    command: str, base: Path, tmp_path: Path
) -> None:
    weights = base / "model.safetensors"
    rest = {
        "show": [weights],
        "overlap": [weights, base / "config.json"],
        "apply": [base, weights, tmp_path / "out"],
    }
    with pytest.raises(LesionError, match=r"is no mask that lesion wrote\. Give a") as caught:
        run(command, *rest[command])
    assert "Delete" not in str(caught.value)


def test_an_error_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lesion", "show", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err.startswith("lesion: ")
