"""Time and memory of one device against pixels, classes and classes present: the cost model.

Run as `python -m benchmarks.scaling`. Half of the points fit the model's two rates, the others test
it. All points are measured in turns; the least time of each is kept, since the machine's other work
only adds to it.

`python -m benchmarks.scaling --devices` compiles for 1 to 16 virtual devices, runs nothing, and
prints what the compiler says a device needs, beside the models of docs/scaling.md.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import rmi_jax
from benchmarks.cases import Case, make
from benchmarks.contestants import OPTIONS

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
# Written out, so that figures stay comparable whatever the library's defaults become.
LOSS = partial(rmi_jax.rmi_loss, factor=1, **OPTIONS)
ROUNDS = 7
DEVICES = (1, 2, 4, 8, 16)
BATCH = (16, 257, 257, 21)
VOLUMES = ((1, 512, 512, 512, 4), (1, 256, 256, 256, 2), (1, 256, 256, 256, 12))
MB, GIB = 1e6, 2**30


def features(case: Case) -> tuple[float, float]:
    """What the two rates multiply: logits, and pixels times classes present."""
    pixels = math.prod(case.shape[:-1])
    return pixels * case.shape[-1], pixels * case.present


def batch_model(shape: tuple[int, ...], devices: int) -> float:
    """Bytes on a device for a batch spread over devices: logits, labels, gradient, temporaries."""
    pixels, classes = math.prod(shape[:-1]), shape[-1]
    return (4 * pixels * (2 * classes + 7) + 5 * MB) / devices


def volume_model(shape: tuple[int, ...], devices: int) -> float:
    """The same for a volume whose slices are spread over devices, 2 or more."""
    slices, pixels, classes = shape[1] / devices, math.prod(shape[2:-1]), shape[-1]
    return 4 * pixels * (slices * (4 * classes + 7) + 6 * classes + 90)


def compiled_batch(shape: tuple[int, ...], devices: int):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    step = jax.jit(jax.value_and_grad(LOSS))
    return step.lower(*abstract(shape, spread)).compile()


def compiled_volume(shape: tuple[int, ...], devices: int):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("slices",))
    slices = PartitionSpec(None, "slices")
    options = {"spatial_axis_name": "slices"} if devices > 1 else {}

    def step(logits, labels):
        return jax.value_and_grad(partial(LOSS, **options))(logits, labels)

    if devices > 1:
        step = jax.shard_map(step, mesh=mesh, in_specs=slices, out_specs=(PartitionSpec(), slices))
    return jax.jit(step).lower(*abstract(shape, NamedSharding(mesh, slices))).compile()


def abstract(shape: tuple[int, ...], sharding: NamedSharding) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Logits and labels."""
    return (
        jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding),
        jax.ShapeDtypeStruct(shape[:-1], np.int32, sharding=sharding),
    )


def over_devices() -> None:
    """Prints what a device needs, as the compiler says, for a batch and for shared volumes."""
    print("| logits | devices | arguments, GiB | all, GiB | model, GiB | ratio |")
    print("|---|---|---|---|---|---|")
    rows: list[tuple[tuple[int, ...], Callable, Callable]] = [(BATCH, compiled_batch, batch_model)]
    rows += [(shape, compiled_volume, volume_model) for shape in VOLUMES]
    for shape, compiled, model in rows:
        for devices in DEVICES:
            memory = compiled(shape, devices).memory_analysis()
            arguments = memory.argument_size_in_bytes
            total = arguments + memory.output_size_in_bytes + memory.temp_size_in_bytes
            expected = (batch_model if devices == 1 else model)(shape, devices)
            print(
                f"| {' x '.join(map(str, shape))} | {devices} | {arguments / GIB:.3f} | "
                f"{total / GIB:.3f} | {expected / GIB:.3f} | {total / expected:.2f} |",
                flush=True,
            )


def main() -> None:
    """Measures, fits and prints a table."""
    step = jax.jit(jax.value_and_grad(LOSS))
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", action="store_true", help="memory against devices")
    if parser.parse_args().devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", max(DEVICES))
        over_devices()
    else:
        main()
