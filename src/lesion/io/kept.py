"""What takes seconds to compute from lesion's own files, kept beside its compiled modules.

Losing it costs the time alone: what can't be read or written is computed again.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from lesion.io.formats import LesionError, atomic

_FOLDER = Path(__file__).parents[1] / "__pycache__"


def kept_file(name: str) -> Path:
    """Where something is kept; another Python has another file."""
    return _FOLDER / f"{name}-{sys.implementation.cache_tag}.json"


def read_kept(path: Path) -> Any:
    """The JSON value that was kept; None if there is none. It may be of any shape."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def keep(path: Path, value: Any) -> None:
    """Keep a JSON value, unless Python may write no caches."""
    if not sys.dont_write_bytecode:
        with suppress(OSError, LesionError), atomic(path) as part:
            part.write_text(json.dumps(value), encoding="utf-8")
