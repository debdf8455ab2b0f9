"""Judges that are fine-tuned language models: StrongREJECT's and HarmBench's classifiers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lesion.io.addresses import local_files
from lesion.io.formats import digest, read_json, sha256_file
from lesion.judgements.kinds import builds
from lesion.sources.fetch import MODEL_PATTERNS, locate
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import ClassifierSection, HarmBenchSection, StrongRejectSection

if TYPE_CHECKING:
    from lesion.judgements.classifiers import HarmBench, StrongReject, Weights


@builds(StrongRejectSection, formula="classifier")
def strong_reject(
    name: str, judge: StrongRejectSection, places: Mapping[str, SourceLocation], device: Device
) -> "StrongReject":
    """StrongREJECT's classifier."""
    from lesion.judgements.classifiers import StrongReject

    return StrongReject(name, _weights(judge, places, device))


@builds(HarmBenchSection, formula="classifier")
def harm_bench(
    name: str, judge: HarmBenchSection, places: Mapping[str, SourceLocation], device: Device
) -> "HarmBench":
    """HarmBench's classifier."""
    from lesion.judgements.classifiers import HarmBench

    return HarmBench(name, _weights(judge, places, device), judge.template)


def _weights(
    judge: ClassifierSection, places: Mapping[str, SourceLocation], device: Device
) -> "Weights":
    from lesion.judgements.classifiers import Weights

    return Weights(
        folder=locate(places["source"]),
        base=locate(places["base"]) if "base" in places else None,
        revision=", ".join(_revision(place) for _, place in sorted(places.items())),
        batch_size=judge.batch_size,
        dtype=device.dtype,
        threads=device.threads,
        device_map=device.device_map,
    )


def _revision(place: SourceLocation) -> str:
    """The address of a source and the digest of its files; for a local folder, only the digest."""
    if place.record is not None:
        record = read_json(place.record)
        files = {name: one["sha256"] for name, one in record["files"].items()}
        return f"{record['address']} {digest(files)[:12]}"
    used = [file for file in local_files(place.path) if any(map(file.match, MODEL_PATTERNS))]
    hashes = {file.relative_to(place.path).as_posix(): sha256_file(file) for file in used}
    return digest(hashes)[:12]
