"""Without a network, pip's own refusal becomes one message with the ways out."""

from pathlib import Path

import pytest

from lesion.io.addresses import parse
from lesion.sources import fetch as sources
from lesion.sources.fetch import FetchError, fetch


def test_pip_without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setattr(sources, "_PAUSE", 0)
    monkeypatch.setattr(sources, "RETRIES", 1)
    address = parse(f"pypi:lesion-toy==1.0/toy/data#sha256={'0' * 64}")
    with pytest.raises(FetchError) as caught:
        fetch([address], tmp_path / "toy", tmp_path / "toy.json")
    told = str(caught.value)
    assert address.text in told
    assert "pip could not download lesion-toy==1.0" in told
    assert "No matching distribution found for lesion-toy==1.0" in told
    assert "`file:path`" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["links"]
