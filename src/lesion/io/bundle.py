"""The files that come with lesion beside its code: workflow, profiles, prompts and tasks.

They are in the checkout, or, if lesion was installed from a wheel, inside of the package.
"""

from functools import cache
from pathlib import Path

from lesion.io.formats import LesionError

_PACKAGE = Path(__file__).parents[1]
_WHEEL, _CHECKOUT = _PACKAGE / "bundle", _PACKAGE.parents[1]


@cache
def bundle() -> Path:
    """The folder of the Snakefile; the other files have the same places below it everywhere.

    Raises:
        LesionError: the package was copied without them.
    """
    for folder in (_WHEEL, _CHECKOUT):
        if (folder / "Snakefile").is_file() and (folder / "workflow").is_dir():
            return folder
    raise LesionError(
        f"the workflow that comes with lesion is not beside its code ({_PACKAGE}). Install lesion "
        "again with pip"
    )


def bundled(path: str) -> str:
    """The path of a file that comes with lesion, as seen from the working directory if it lies
    below that, so that a checkout may be moved.
    """
    full = bundle() / path
    here = Path.cwd()
    return str(full.relative_to(here) if full.is_relative_to(here) else full)
