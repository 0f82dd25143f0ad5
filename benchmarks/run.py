"""Measures the library beside its peers, in turns, and writes the times to a JSON file.

    python -m benchmarks.run                       # everything
    python -m benchmarks.run --cases voc-3 volume  # adds these to the file, or replaces them

Then ``python -m benchmarks.report`` makes tables and plots.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import select
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.cases import ACCELERATOR_ONLY, CASES, Case
from benchmarks.contestants import OURS, PEERS, YARDSTICKS

RESULTS = pathlib.Path(__file__).parent / "results"
SLOW = 10.0  # seconds; what takes longer is run once, and not warmed up
WARM = 1.0  # seconds; what takes less runs for so long in its turn, and the last run counts: the
# others left the caches cold, and a training loop keeps them warm
PATIENCE = 120.0  # seconds for one run, or to compile
PACKAGES = ("jax", "jaxlib", "optax", "numpy", "torch", "rmi-pytorch")


class Worker:
    """A contestant's process; see `benchmarks.worker`."""

    def __init__(self, case: str, contestant: str):
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, "-m", "benchmarks.worker", case, contestant]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.process.kill()
            return {"error": f"took longer than {PATIENCE} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended (out of memory?)"}

    def ask(self, what: str) -> dict[str, Any]:
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def measure(name: str, case: Case, repeats: int, peer: bool) -> dict[str, Any]:
    contestants = [*OURS, *YARDSTICKS]
    if peer and len(case.shape) == 4:  # the peer knows images only
        contestants += PEERS
    results, workers = {}, {}
    for contestant in contestants:
        workers[contestant] = Worker(name, contestant)
        ready = workers[contestant].read()
        results[contestant] = {**ready.pop("report", {}), **ready}

    def run(contestant: str, what: str, keep: bool) -> None:
        result = results[contestant]
        if "error" in result:
            return
        answer, spent = {}, 0.0
        while spent < WARM:
            answer = workers[contestant].ask(what)
            spent += answer.get("seconds", WARM)
        if "error" in answer:
            result["error"] = answer["error"]
            return
        times = result.setdefault(what, {}).setdefault("seconds", [])
        if keep or answer["seconds"] > SLOW:
            times.append(answer["seconds"])
        result["peak_bytes"] = answer["peak_bytes"] - result["start_bytes"]

    # In turns, so that a slow minute of the machine meets everybody.
    for turn in range(repeats + 1):
        for what in ("forward", "gradient"):
            for contestant in contestants:
                if not any(seconds > SLOW for seconds in _times(results[contestant], what)):
                    run(contestant, what, keep=turn > 0)
    for worker in workers.values():
        worker.close()
    return {"case": case._asdict(), **provenance(PACKAGES), "contestants": results}


def _times(result: dict[str, Any], what: str) -> list[float]:
    return result.get(what, {}).get("seconds", [])


def provenance(packages: Sequence[str]) -> dict[str, Any]:
    """Date, commit and versions of what was measured."""
    root = pathlib.Path(__file__).parents[1]
    git = ["git", "-C", str(root)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "rmi_jax"]).returncode != 0
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.strip() + ("+changes" if changed else ""),
        "versions": versions,
    }


def _device() -> tuple[str, bool]:
    """Name for the file, and whether it is an accelerator. Asked of a process that ends at once,
    so that no device memory stays taken.
    """
    code = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    device, kind = output.stdout.split(maxsplit=1)
    if device == "cpu":
        return f"cpu-{os.cpu_count()}-cores", False
    return re.sub(r"\W+", "-", kind.strip().lower()), True


def main() -> None:
    device, accelerator = _device()
    everything = [name for name in CASES if accelerator or name not in ACCELERATOR_ONLY]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=everything)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / f"{device}.json")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs (fewer if slow)")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()

    results = {"device": device, "cases": {}}
    if args.output.exists():
        results = json.loads(args.output.read_text(encoding="utf-8"))
    for name in args.cases:
        result = measure(name, CASES[name], args.repeats, args.peer)
        results["cases"][name] = result
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\n{name} {CASES[name]}")
        for contestant, entry in result["contestants"].items():
            parts = [f"{contestant:20s}"]
            for what in ("forward", "gradient"):
                if times := _times(entry, what):
                    low, high = min(times), max(times)
                    middle = statistics.median(times)
                    parts.append(f"{what} {middle:.4f} s ({low:.4f} to {high:.4f}, {len(times)})")
            print(*parts, entry.get("error", ""), sep="  ", flush=True)


if __name__ == "__main__":
    main()
