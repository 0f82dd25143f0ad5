"""One case for one target: ``python -m benchmarks.accelerators.compiling TARGET CASE``.

Prints what was found as JSON. In a process of its own, for its environment and its memory.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from benchmarks.accelerators import cases, hlo, walk
from benchmarks.accelerators.targets import ENVIRONMENT, TARGETS, sharding


def run(target: str, case: str, shape: tuple[int, ...], keep: pathlib.Path | None = None) -> dict:
    """Compiles in another process. ``keep``: a file for the text of the compiled program."""
    command = [sys.executable, "-m", __name__, target, case, "--shape", *map(str, shape)]
    if keep is not None:
        command += ["--keep", str(keep)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return {"error": (result.stderr.strip().splitlines() or ["the process ended"])[-1]}
    return json.loads(result.stdout.splitlines()[-1])


def compiled(target: str, case: cases.Case, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """The text of the compiled program, and what the compiler says of it."""
    import jax
    import jax.numpy as jnp

    where = sharding(TARGETS[target])
    logits = jax.ShapeDtypeStruct(shape, case.dtype, sharding=where)
    labels = jax.ShapeDtypeStruct(shape[:-1], jnp.int32, sharding=where)
    lowered = jax.jit(jax.value_and_grad(cases.function(case))).lower(logits, labels)
    start = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - start
    text, memory = program.as_text(), program.memory_analysis()
    assert text is not None
    return text, {
        "compile_s": round(seconds, 1),
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


def estimate(text: str, target: str, visits: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a device would take, and what it should not do."""
    found = walk.steps(hlo.parse(text), TARGETS[target], cases.trips(visits))
    *pixels, classes = shape
    pixel_count = math.prod(pixels)

    def total(value) -> Any:
        return sum(step.times * value(step) for step in found)

    def names(wanted) -> list[str]:
        return [f"{s.instruction.name} {s.instruction.op_name}" for s in found if wanted(s)]

    return {
        "seconds": total(lambda s: s.seconds),
        "traffic": total(lambda s: s.read + s.written),
        "launches": total(lambda s: s.launch),
        "syncs": total(lambda s: s.sync),
        # Picking single elements is slow on every accelerator.
        "gathers over pixels": names(lambda s: s.gathered >= pixel_count),
        # Copies and transposes of all logits among them. (Half: of bfloat16, or half the classes.)
        "whole maps written in a loop": names(
            lambda s: s.loops and s.written >= pixel_count * classes * 2
        ),
        "syncs in a loop": names(lambda s: s.sync and s.loops),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("case", choices=cases.CASES)
    parser.add_argument("--shape", type=int, nargs="+", default=cases.SHAPE)
    parser.add_argument("--keep", type=pathlib.Path, help="write the compiled program's text here")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT)  # JAX is imported below
    shape = tuple(args.shape)
    text, result = compiled(args.target, cases.CASES[args.case], shape)
    if args.keep:
        args.keep.write_text(text, encoding="utf-8")
    visits = {n for n in (*cases.VISITS, shape[-1]) if n <= shape[-1]}
    result["visits"] = {n: estimate(text, args.target, n, shape) for n in sorted(visits)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
