"""Pages that load nothing: the frame that every page of the report has.

Vega is inlined once. A content security policy lets only the page's own script run, by its
hash, and lets nothing be fetched: model output is untrusted text, and escaping it is the first
lock, not the only one.
"""

import base64
import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lesion.io.formats import atomic, digest
from lesion.io.kept import keep, kept_file, read_kept
from lesion.report.figures.figure import VEGALITE
from lesion.report.glossary import Explained

_HERE = Path(__file__).parent


def write_page(out: Path, template: str, **values: object) -> None:
    """Write a page from a template that extends `base.html.j2` and may use `macros.html.j2`.

    Templates count as code of the modules that name them (`lesion.plan.code`), these two here.
    `values` are the names in the template, but for the script, the policy and `explained`, by which
    the macros explain the glossary's terms.

    Raises:
        LesionError: `out` cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["explained"] = Explained()
    script = page_script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # This script by its hash, inline styles, nothing else.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template(template).render(**values, script=script, policy=policy)
    with atomic(out) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _is_whole(code: object, stated: object) -> bool:
    try:
        return digest(code) == stated
    except ValueError:  # not of any text that could have been written
        return False


SCRIPT = kept_file("page")
"""The script, what it was made of, and its digest: making it takes three seconds."""


@cache
def page_script() -> str:
    """The page's script with Vega inside; it must stay inside its element, which has no escape.

    Raises:
        ValueError: it would end the element early; only another version of Vega could do that.
    """
    snippet = (_HERE / "page.js").read_text(encoding="utf-8")
    of = digest([version("vl-convert-python"), VEGALITE, snippet])
    kept = read_kept(SCRIPT)
    if isinstance(kept, list) and len(kept) == 3 and kept[1] == of and _is_whole(*kept[::2]):
        return str(kept[0])
    code = vl_convert.javascript_bundle(snippet, VEGALITE)
    if any(mark in code.lower() for mark in ("</script", "<script", "<!--")):
        raise ValueError("the report's script holds `</script`, `<script` or `<!--`")
    keep(SCRIPT, [code, of, digest(code)])
    return code
