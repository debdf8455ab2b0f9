from pathlib import Path

import pytest

from lesion.io.addresses import Address, AddressError, is_address, local_files, parse, slug

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pypi:toy.set==1.0.post2/toy/data.csv#", ("pypi", "toy.set", "1.0.post2", "toy/data.csv")),
        ("hf:org/repo@main/data/a.jsonl#", ("hf", "org/repo", "main", "data/a.jsonl")),
        ("file:../data/a b.csv#", ("file", "../data/a b.csv", "", "")),
    ],
)
def test_addresses_with_a_digest(text: str, wanted: tuple[str, str, str, str]) -> None:
    full = f"{text}sha256={SHA}"
    assert parse(full) == Address(*wanted, SHA, full)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hf:gpt2@v1.0", ("hf", "gpt2", "v1.0", "")),
        ("hf:datasets/org/repo@main", ("hf", "datasets/org/repo", "main", "")),
        ("hf:org/repo@abc123", ("hf", "org/repo", "abc123", "")),
        ("file:/data/set", ("file", "/data/set", "", "")),
    ],
)
def test_addresses_without_one(text: str, wanted: tuple[str, str, str, str]) -> None:
    assert parse(text) == Address(*wanted, None, text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "toy",
        "file:",
        "http://example.org/a",
        "pypi:toy/data.csv",
        "pypi:toy==1.0",
        "pypi:-r==1/x",
        "hf:a/b/c@main",
        "hf:--flag@main",
        "hf:org/repo@-x",
    ],
)
def test_what_is_no_address_is_told_the_forms(text: str) -> None:
    with pytest.raises(AddressError, match="is not an address of the form `pypi:"):
        parse(text)


@pytest.mark.parametrize("member", ["../x", "a/../../x", "/etc/hosts"])
def test_a_member_stays_inside(member: str) -> None:
    for text in (f"pypi:toy==1/{member}#sha256={SHA}", f"hf:org/repo@main/{member}"):
        with pytest.raises(AddressError, match="must lie inside"):
            parse(text)


def test_a_wheel_needs_its_digest() -> None:
    with pytest.raises(AddressError, match="give the wheel's digest"):
        parse("pypi:toy==1/data.csv")


def test_a_digest_of_a_whole_repository_is_not_passed_over() -> None:
    with pytest.raises(AddressError, match="a sha256 pins a single file"):
        parse(f"hf:org/repo@main#sha256={SHA}")


@pytest.mark.parametrize(
    "end",
    [
        "#sha256=12",
        f"#{SHA}",
        f"#md5={SHA}",
        f"#sha256={SHA.upper()}",
        f"#SHA256={SHA}",
        "#sha256=",
    ],
)
def test_a_digest_of_another_form_is_refused(end: str) -> None:
    with pytest.raises(AddressError, match="64 hexadecimal digits"):
        parse(f"file:a.csv{end}")


@pytest.mark.parametrize("path", ["a#b.jsonl", "my #1/x.jsonl", "#", "x#", "a#sha.csv", "a:b #c"])
def test_a_path_may_hold_a_number_sign(path: str) -> None:
    assert parse(f"file:{path}") == Address("file", path, "", "", None, f"file:{path}")
    full = f"file:{path}#sha256={SHA}"
    assert parse(full) == Address("file", path, "", "", SHA, full)
    assert slug(f"file:{path}") != slug(full)


def test_a_path_as_browsers_write_it() -> None:
    assert parse("file:///data/a b.csv").name == "/data/a b.csv"
    for text in ("file://data/a.csv", "file://~/a.csv"):
        with pytest.raises(AddressError, match=r"write `file:/path`"):
            parse(text)


def test_names_are_no_addresses() -> None:
    assert is_address("file:a.csv")
    assert not is_address("pranks")


def test_slugs_are_safe_and_differ() -> None:
    texts = ["file:../A b.csv", "file:../A-b.csv", f"file:{'long/' * 40}a.csv", "file:ü"]
    slugs = [slug(text) for text in texts]
    assert len(set(slugs)) == 4
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for one in slugs)
    assert max(map(len, slugs)) <= 49
    assert slug("file:a.csv") == slug("file:a.csv")


def test_local_files_are_sorted_and_deep(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    wanted = [tmp_path / name for name in ("a/c", "a/z", "b")]
    assert local_files(tmp_path) == wanted
    assert local_files(tmp_path / "b") == [tmp_path / "b"]
