"""The record beside a checkpoint's own files; reading it needs no torch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lesion.io.checksums import file_checksum
from lesion.io.formats import BadFile, digest, read_json, sha256_file
from lesion.models.files import RECORD as RECORD
from lesion.models.files import kept_files

FORMAT = 5


def content_digest(folder: Path) -> str:
    """Digest of a checkpoint folder's content, plain or made by the `models` stage."""
    # The tokenizer and its chat template determine completions as much as the weights do.
    files = kept_files(folder)
    with ThreadPoolExecutor(2) as pool:
        sums = pool.map(sha256_file, files)
        return digest({path.name: sha256 for path, sha256 in zip(files, sums, strict=True)})


def parse_record(path: Path) -> dict[str, Any]:
    """The content of a record, for those who do not read the checkpoint.

    Raises:
        BadFile: the record is of another version.
    """
    record: dict[str, Any] = read_json(path)
    if record.get("format") != FORMAT:
        raise BadFile(f"{path}: is of another version. Delete it and run again.")
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """Digest, sizes of files, candidates, architecture, chat format and licence of a checkpoint.

    Raises:
        BadFile: the record is of another version, or a file does not have the recorded size.
    """
    record = parse_record(folder / RECORD)
    for name, size in record["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise BadFile(
                f"{path}: is missing or cut short ({size} bytes expected). Delete "
                f"{folder / RECORD} and run `snakemake` again."
            )
    return record


def check_weights(folder: Path) -> None:
    """Compare the weights' bytes with the record.

    Raises:
        BadFile: as `read_record`; or a bit has changed since the record was made.
    """
    for name, wanted in read_record(folder).get("checksums", {}).items():
        if file_checksum(folder / name) != wanted:
            raise BadFile(
                f"{folder / name}: is not as it was written: a bit has changed. Delete "
                f"{folder / RECORD} and run `snakemake` again."
            )


def candidate_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the candidate weights, in the model's order."""
    return {name: tuple(shape) for name, shape in read_record(folder)["candidates"]}


def transposed(folder: Path) -> list[str]:
    """Candidates stored as [inputs, outputs] (GPT-2's): their rows are inputs."""
    return list(read_record(folder)["transposed"])


def unstored(folder: Path) -> list[str]:
    """Candidates that the files store under another name or in other parts, such as experts.

    `lesion.models.conversion` finds them. Empty for a plain folder, whose files are not inspected.
    """
    return list(read_record(folder)["unstored"]) if (folder / RECORD).is_file() else []


TEMPLATE_FILES = ("chat_template.json", "processor_config.json", "preprocessor_config.json")
"""Files of processors, which may have a chat template that tokenizers do not read."""


def has_template(folder: Path) -> bool:
    """Whether a checkpoint folder, plain or prepared, has a chat template of its own.

    Raises:
        BadFile: one of the files that may hold it is not valid JSON.
    """
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if "chat" in record:
        return record["chat"]["template"] is not None
    if (folder / "chat_template.jinja").is_file() or any(
        folder.glob("additional_chat_templates/*.jinja")
    ):
        return True
    paths = [folder / name for name in ("tokenizer_config.json", *TEMPLATE_FILES)]
    contents = [read_json(path) for path in paths if path.is_file()]
    return any(
        isinstance(content, dict) and bool(content.get("chat_template")) for content in contents
    )
