"""What the rule files say, read as text."""

import re
from collections.abc import Mapping

from lesion_testing import ROOT


def rule_files() -> Mapping[str, str]:
    """The text of every rule file, by its name."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    }


def logs() -> set[str]:
    """What rules name first below a study's folder of logs, such as `scores` or `report.log`."""
    names = re.findall(r'"logs"\s*/\s*"([^"]+)"', "".join(rule_files().values()))
    assert len(names) > 10, "rules no longer name their logs as this looks for them"
    return set(names)


def local_rules() -> set[str]:
    """Rules whose jobs a cluster is not given, beside those that only name others' files."""
    blocks = re.split(r"^rule (\w+):$", "".join(rule_files().values()), flags=re.M)
    named = zip(blocks[1::2], blocks[2::2], strict=True)
    return {name for name, body in named if re.search(r"^    localrule: True$", body, re.M)}
