"""`make fuzz`: every harness for a bounded time, then its corpus distilled into `tests/fuzz/corpus`.

    python -m tests.fuzz [--seconds 60] [--jobs 1] [NAME...]

Prints a line for each: executions, edges that atheris counts, inputs kept and the lines of ours that they reach, and
what was found. A finding is a failed property: its input and traceback are printed, and the exit code is 1. What a
search has met is in `.cache/fuzz` and is where the next one starts.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.harness import MAX_BYTES
from tests.fuzz.harnesses import CORPUS, HARNESSES

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "fuzz"
_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)|#(\d+)\s")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
_SLOWEST_S = 20


@dataclass(frozen=True, slots=True)
class Search:
    """What one harness's search came to."""

    name: str
    executions: int
    edges: int
    kept: dict[str, int]
    finding: str


def search(name: str, seconds: int) -> Search:
    """Search, niced, for so many seconds or until something is found; then distil."""
    work, found = CACHE / name / "corpus", CACHE / name / "findings"
    for folder in (work, found, CORPUS / name):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(HARNESSES[name].seeds):
        (work / f"seed-{number}").write_bytes(seed)
    before = set(found.iterdir())
    done = _run(
        "tests.fuzz.drive",
        name,
        str(work),
        str(CORPUS / name),
        f"-max_total_time={seconds}",
        f"-max_len={MAX_BYTES}",
        f"-timeout={_SLOWEST_S}",
        f"-artifact_prefix={found}/",
        "-rss_limit_mb=2000",
        "-print_final_stats=1",
    )
    log = done.stdout + done.stderr
    executions = [int(one or other) for one, other in _EXECUTED.findall(log)]
    edges = [int(cov) for cov, _ in _COVERED.findall(log)]
    new = sorted(set(found.iterdir()) - before)
    finding = "" if done.returncode == 0 else "\n".join([*map(str, new), *log.splitlines()[-40:]])
    kept = {} if finding else json.loads(_run("tests.fuzz.distil", name, str(work)).stdout)
    return Search(name, max(executions, default=0), max(edges, default=0), kept, finding)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["nice", "-n", "15", sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, errors="replace")


def main() -> int:
    """Search with all harnesses, or those that are named; how many found something."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Searches every decoder that meets the network.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="harnesses; all unless given")
    parser.add_argument("--seconds", type=int, default=60, help="for each harness")
    parser.add_argument("--jobs", type=int, default=1, help="searches at one time")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(HARNESSES)):
        parser.error(f"no harness {unknown[0]!r}; there are {', '.join(HARNESSES)}")
    print(f"{'harness':22} {'executions':>11} {'edges':>6} {'kept':>5} {'of':>6} {'lines':>6}  finding", flush=True)
    total = findings = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for done in pool.map(lambda name: search(name, given.seconds), given.names or HARNESSES):
            total, findings = total + done.executions, findings + bool(done.finding)
            counts = (done.kept.get(key, 0) for key in ("files", "of", "lines"))
            kept, of, lines = counts
            word = "FOUND" if done.finding else "none"
            print(f"{done.name:22} {done.executions:11,} {done.edges:6} {kept:5} {of:6} {lines:6}  {word}", flush=True)
            if done.finding:
                print(done.finding, flush=True)
    print(f"{total:,} executions, {findings} findings")
    return min(findings, 1)


if __name__ == "__main__":
    sys.exit(main())
