"""Time and memory of one device against pixels, classes and classes present: the cost model.

Run as `python -m benchmarks.scaling`. Half of the points fit the model's two rates, the others test
it. All points are measured in turns; the least time of each is kept, since the machine's other work
only adds to it.
"""

import time
from functools import partial

import jax
import numpy as np

import rmi_jax
from benchmarks.cases import Case, make

FITTED = (
    Case((1, 257, 257, 21), 3),
    Case((1, 513, 513, 21), 3),
    Case((1, 513, 513, 21), 21),
    Case((1, 513, 513, 80), 3),
)
CHECKED = (
    Case((1, 257, 257, 21), 21),
    Case((1, 513, 513, 21), 8),
    Case((1, 513, 513, 80), 12),
    Case((1, 769, 769, 21), 8),
    Case((2, 513, 513, 21), 8),
)
ROUNDS = 7


def features(case: Case) -> tuple[float, float]:
    """What the two rates multiply: logits, and pixels times classes present."""
    pixels = np.prod(case.shape[:-1])
    return pixels * case.shape[-1], pixels * case.present


def main() -> None:
    """Measures, fits and prints a table."""
    step = jax.jit(jax.value_and_grad(partial(rmi_jax.rmi_loss, factor=1)))
    cases = FITTED + CHECKED
    runs = []
    for case in cases:
        arrays = jax.device_put(make(case))
        compiled = step.lower(*arrays).compile()
        jax.block_until_ready(compiled(*arrays))
        runs.append((compiled, arrays))
    times = np.full((ROUNDS, len(cases)), np.inf)
    for turn in range(ROUNDS):
        for i, (compiled, arrays) in enumerate(runs):
            start = time.perf_counter()
            jax.block_until_ready(compiled(*arrays))
            times[turn, i] = time.perf_counter() - start
    least = times.min(axis=0)

    # Relative errors count alike, whatever the size.
    table = np.array([features(case) for case in cases])
    fitted = slice(len(FITTED))
    rates = np.linalg.lstsq(table[fitted] / least[fitted, None], np.ones(len(FITTED)), rcond=None)[
        0
    ]
    print(f"{rates[0] * 1e9:.2f} ns per logit, {rates[1] * 1e9:.1f} ns per pixel and class present")
    print("| shape | present | | seconds | model | measured / model | memory / logits |")
    print("|---|---|---|---|---|---|---|")
    for i, (case, (compiled, _)) in enumerate(zip(cases, runs, strict=True)):
        memory, model = compiled.memory_analysis(), table[i] @ rates
        extra = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 4 / np.prod(case.shape)
        kind = "fitted" if case in FITTED else "checked"
        print(
            f"| {case.shape} | {case.present} | {kind} | {least[i]:.3f} | {model:.3f} | "
            f"{least[i] / model:.2f} | {extra:.2f} |"
        )


if __name__ == "__main__":
    main()
