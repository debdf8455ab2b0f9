"""Kill a study at random moments until it is done: `python benchmarks/kills.py --times 30`.

Runs the tests' tiny study, with one harm type and one capability, once undisturbed, then again in
another folder, where Snakemake and all its jobs are killed (SIGKILL) `--times` times, each after a
random part of the undisturbed run's time, and started anew. Where that ends early, the study begins
again in a new folder. Prints a line for each kill, and fails if a byte of the results differs, a
finished job was repeated, or something half-written is left.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lesion.io.formats import sha256_file
from lesion_testing.workflow import Place, copy_code, lay_out, write_inputs

_STARTED = re.compile(r"(?m)^Job (\d+): (.*)$")
_FINISHED = re.compile(r"(?m)^Finished jobid: (\d+) ")


class Run(NamedTuple):
    """How a run ended (None: killed), its seconds, and the jobs it started and finished."""

    code: int | None
    seconds: float
    started: set[str]
    finished: set[str]


def run(study: Place, seconds: float | None) -> Run:
    """Run the study, for so many seconds at most."""
    log = study.folder / "run.log"
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as lines:
        process = subprocess.Popen(
            study.command(), cwd=study.folder, stdout=lines, stderr=lines, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            # Snakemake and all its jobs, which have no time to put anything in order.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    while _lives(process.pid):
        time.sleep(0.05)
    return Run(code, time.monotonic() - start, *_jobs(log.read_text(encoding="utf-8")))


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _jobs(log: str) -> tuple[set[str], set[str]]:
    names = dict(_STARTED.findall(log))
    return set(names.values()), {names[n] for n in _FINISHED.findall(log) if n in names}


def content(results: Path) -> dict[str, str]:
    """SHA-256 of every result; not of logs, nor of the page, which shows their times, nor of what
    only a next run reads.
    """
    paths = (path for path in sorted(results.rglob("*")) if path.is_file())
    names = {path: path.relative_to(results) for path in paths}
    return {
        str(name): sha256_file(path)
        for path, name in names.items()
        if name.parts[0] != "logs"
        and name.name != "index.html"
        and not any(part.startswith(".") for part in name.parts)
    }


def disturbed(study: Place, left: int, longest: float, chance: random.Random) -> tuple[int, int]:
    """Kill and start anew until the study is done; return kills and finished jobs repeated."""
    finished: set[str] = set()
    kills = repeated = 0
    while True:
        attempt = run(study, chance.uniform(1, longest) if kills < left else None)
        again = sorted(attempt.started & finished)
        repeated += len(again)
        finished |= attempt.finished
        if attempt.code is not None:
            if attempt.code:
                sys.exit((study.folder / "run.log").read_text(encoding="utf-8"))
            print(f"  done after {attempt.seconds:.0f} s more, {len(finished)} jobs in all")
            return kills, repeated
        kills += 1
        repeats = f", repeated {', '.join(again)}" if again else ""
        print(
            f"  kill {kills} after {attempt.seconds:.1f} s: {len(attempt.finished)} jobs finished, "
            f"{len(attempt.started - attempt.finished)} under way{repeats}",
            flush=True,
        )
        subprocess.run(study.command("--unlock"), cwd=study.folder, capture_output=True, check=True)


def _smaller(config: dict[str, Any]) -> None:
    config["behaviours"] = {name: config["behaviours"][name] for name in ("beta", "sums")}
    config["masks"]["shared"]["at_least"] = 1
    config["responses"]["variants"] = ["shared"]


def main() -> None:
    """Run, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30, help="kills in all")
    parser.add_argument("--longest", type=float, default=0.5, help="share of a run before a kill")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)  # noqa: S311 - nothing to keep secret
    bad = kills = repeated = 0
    with tempfile.TemporaryDirectory() as scratch:

        def folder(name: str) -> Path:
            return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=scratch))

        fresh = lay_out(folder("fresh"), copy_code(folder("code")), write_inputs(folder("inputs")))
        fresh.configure(_smaller)
        calm = fresh.copy(folder("calm"))
        undisturbed = run(calm, None)
        if undisturbed.code:
            sys.exit((calm.folder / "run.log").read_text(encoding="utf-8"))
        wanted = content(calm.made)
        print(f"undisturbed: {undisturbed.seconds:.0f} s, {len(undisturbed.finished)} jobs")
        while kills < chosen.times:
            study = fresh.copy(folder("disturbed"))
            longest = chosen.longest * undisturbed.seconds
            more = disturbed(study, chosen.times - kills, longest, chance)
            kills, repeated = kills + more[0], repeated + more[1]
            actual = content(study.made)
            differing = sorted(dict(wanted.items() ^ actual.items()))
            left = [path for path in study.made.rglob("*.part-*") if path.exists()]
            bad += len(differing) + len(left)
            print(f"  {len(actual)} files, differing: {differing}, left behind: {left}", flush=True)
    print(f"{kills} kills, {repeated} finished jobs repeated, {bad} files differ or are left")
    if bad or repeated:
        sys.exit(1)


if __name__ == "__main__":
    main()
