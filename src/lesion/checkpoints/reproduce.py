"""The origin of a pruned checkpoint, in its folder `reproduce/`."""

import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from lesion import __version__
from lesion.io.formats import write_json
from lesion.masks.store import Mask

FOLDER = "reproduce"
FACTS = "lesion.json"
_AGAIN = """
Find the mask anew, in a checkout of lesion:

    snakemake --cores all --configfile study.yaml
"""
_README = f"""# How to make this again

With lesion {__version__}, from the base checkpoint and the mask alone:

    lesion apply BASE mask.safetensors OUT
{{again}}
`lesion show mask.safetensors` says what the mask is. `{FACTS}` has the digests to compare with
(`base_digest` is the base's), the versions, and the command that was given.
"""
_PACKAGES = ("numpy", "safetensors", "snakemake", "torch", "transformers")


def write_reproduce(
    folder: Path, mask: Path, read: Mask, about: Mapping[str, Any], study: Mapping[str, Any] | None
) -> None:
    """Write the mask, the digests, the versions, the command, and the study's config if any.

    Args:
        folder: the new folder.
        mask: the mask's file.
        read: the same, read.
        about: names, digests and command.
        study: the study's config, with every default in it.
    """
    folder.mkdir()
    header = {key: value for key, value in read.metadata.items() if key != "shapes"}
    versions = {"lesion": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    write_json({**about, "mask": header, "versions": versions}, folder / FACTS)
    shutil.copyfile(mask, folder / "mask.safetensors")
    if study is not None:
        # The location of the results on this machine does not belong to the study.
        config = {key: value for key, value in study.items() if key != "results"}
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (folder / "study.yaml").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(
        _README.format(again=_AGAIN if study is not None else ""), encoding="utf-8"
    )
