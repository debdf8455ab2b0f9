"""A Snakemake logger that writes every job of a plan, or of a run, as a line of JSON.

Found by Snakemake when this folder is in PYTHONPATH and `--logger jobs` is given; the lines go to
the file in $LESION_JOBS.
"""

import json
import os
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """Keeps `job_info` events; Snakemake's own log stays as it is."""

    def emit(self, record: LogRecord) -> None:
        if getattr(record, "event", None) != LogEvent.JOB_INFO:
            return
        job = {"rule": record.rule_name, "wildcards": dict(record.wildcards or {})}
        with Path(os.environ["LESION_JOBS"]).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({**job, "reason": record.reason}) + "\n")

    @property
    def writes_to_stream(self) -> bool:
        return False

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False
