"""The device of a study's jobs."""

from lesion.study import Study
from lesion.study.job import Device
from lesion.study.types import Dtype


def study_device(study: Study, dtype: Dtype | None = None) -> Device:
    """The device, and the precision; by default that in which models generate and are evaluated."""
    dtype = dtype or study.responses.dtype
    return Device(dtype=dtype, threads=study.threads, device_map=study.device_map)
