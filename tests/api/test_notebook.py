"""The notebook of the docs runs from its first cell to its last, and shows what it shows."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from lesion_testing import ROOT, make

NOTEBOOK = ROOT / "docs" / "tutorial" / "notebook.ipynb"
PNG = "image/png"


def _notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def _outputs(notebook: Any) -> tuple[str, int]:
    """All printed text, and the number of pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    return text, sum(PNG in output.get("data", {}) for output in outputs)


def test_the_notebook_is_kept_with_the_output_of_one_run() -> None:
    cells = [cell for cell in _notebook().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text, pictures = _outputs(_notebook())
    assert pictures == 1
    assert "Jaccard with the mask in memory: 1.0" in text
    # Nothing of the machine that it ran on.
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = _notebook()
    # A tiny model that knows the words of the notebook.
    model = make.llama(tmp_path / "model", [cell.source for cell in notebook.cells])
    monkeypatch.setenv("LESION_NOTEBOOK_MODEL", str(model))
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text, pictures = _outputs(notebook)
    assert pictures == 1
    sizes = re.findall(r"^(?:cooking|gardening): (\d+) weights$", text, re.MULTILINE)
    assert len(sizes) == 2
    # q of the tiny model's 20,480 candidate weights.
    assert set(sizes) == {"2"}
    assert "Jaccard with the mask in memory: 1.0" in text
