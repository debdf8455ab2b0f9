"""The files that come with lesion beside its code: workflow, profiles, prompts and tasks.

They are in the checkout, or, if lesion was installed from a wheel, inside of the package.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from lesion.io.formats import LesionError

_PACKAGE = Path(__file__).parents[1]
_WHEEL, _CHECKOUT = _PACKAGE / "bundle", _PACKAGE.parents[1]


BUNDLED = "lesion:"
"""The beginning of an address, or of a path, of a file that comes with lesion."""


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


def portable(value: Any) -> Any:
    """A value of JSON in which the paths of such files begin with `lesion:`, wherever they are.

    So a job is not stale because lesion has been installed in another place.
    """
    text = json.dumps(value, ensure_ascii=False)
    folder = json.dumps(f"{bundle()}/", ensure_ascii=False).strip('"')
    return json.loads(text.replace(f"file:{folder}", BUNDLED).replace(folder, BUNDLED))


def _opened(value: Any) -> Any:
    text = str(value)
    return str(bundle() / text.removeprefix(BUNDLED)) if text.startswith(BUNDLED) else value


PortablePath = Annotated[
    Path,
    BeforeValidator(_opened),
    PlainSerializer(lambda path: portable(str(path)), return_type=str, when_used="json"),
]
"""A path of a job's specification that may be of a file that comes with lesion."""
