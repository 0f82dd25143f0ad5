"""Compiles the named cases for accelerators that need not be there, and estimates what they cost.

    python -m benchmarks.accelerators                                   # everything, half an hour
    python -m benchmarks.accelerators --targets h100 --cases ce-sigmoid # adds these to the file

Needs the `accelerators` extra. **Estimated, not measured**: see docs/accelerators.md.
"""

import argparse
import json
import pathlib

from benchmarks.accelerators import compiling
from benchmarks.accelerators.cases import CASES, SHAPE
from benchmarks.accelerators.table import table
from benchmarks.accelerators.targets import TARGETS
from benchmarks.run import RESULTS, provenance

PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12", "optax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "accelerators.json")
    parser.add_argument("--shape", type=int, nargs="+", default=SHAPE)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the compiled programs")
    args = parser.parse_args()

    results = {"shape": list(args.shape), "targets": {}}
    if args.output.exists():
        results = json.loads(args.output.read_text(encoding="utf-8"))
        if results["shape"] != list(args.shape):
            parser.error(f"{args.output} is of shape {results['shape']}; choose another --output")
    for target in args.targets:
        for case in args.cases:
            keep = args.keep and args.keep / f"{target}-{case}.txt"
            result = compiling.run(target, case, tuple(args.shape), keep)
            results["targets"].setdefault(target, {})[case] = {**provenance(PACKAGES), **result}
            args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            args.output.with_suffix(".md").write_text(table(results), encoding="utf-8")
            print(target, case, result.get("error", f"{result.get('compile_s')} s"), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
