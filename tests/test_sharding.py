"""A batch spread over devices: the same numbers, and no map ever leaves its device.

JAX fixes the number of devices when it starts, so each number of virtual ones has its own process:
this file, run as a script, prints one JSON line per case.
"""

import json
import math
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

import jax
import pytest
from conftest import IMPLEMENTATIONS
from tolerances import assert_grad, assert_value

# Explicit axes are out of reach before JAX 0.10.
VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])
MODES = ("Auto", "Explicit", "shard_map") if VERSION >= (0, 10) else ("Auto", "shard_map")
# One set of options for each number of devices: compiling is what takes the time here.
OPTIONS = {
    4: {"factor": 1},
    8: {"factor": (1, 2), "activation": "softmax", "region_size": 2},
}
SHAPE = (8, 13, 12, 3)
MOVES = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")


@cache
def results(devices):
    """What `run` printed, by implementation and mode."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    here = Path(__file__)
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parent.parent)]),
    }
    done = subprocess.run(
        [sys.executable, str(here), str(devices)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {tuple(line["case"]): line for line in lines}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", OPTIONS)
def test_a_sharded_batch_equals_one_device(devices, mode, implementation):
    line = results(devices)[implementation, mode]
    assert line["devices"] == devices
    assert_value(line["loss"], line["expected_loss"], "float32")
    assert_grad(line["grad"], line["expected_grad"], "float32")


# The compiler's partitioner gathers the reference's grouped convolution in the backward pass.
STAY = [("streaming", mode) for mode in MODES] + [("patches", "shard_map")]


@pytest.mark.parametrize(("implementation", "mode"), STAY)
@pytest.mark.parametrize("devices", OPTIONS)
def test_no_map_leaves_its_device(devices, implementation, mode):
    moved = results(devices)[implementation, mode]["moved"]
    # Something is reduced over the devices, or nothing was sharded in the first place.
    assert "all-reduce" in {name for name, _ in moved}
    one_map = SHAPE[1] * SHAPE[2]
    assert [(name, size) for name, size in moved if size >= one_map] == []
    assert [(name, size) for name, size in moved if name in MOVES and size > SHAPE[0]] == []


def communicated(program):
    """Names and sizes (in elements of one result) of all communication in compiled HLO text."""
    found = []
    for line in program.splitlines():
        operation = re.search(
            rf" = (.*?) ({'|'.join(MOVES)}|all-reduce|ragged-all-to-all)(-start)?\(", line
        )
        if operation:
            shapes = re.findall(r"\w+\[([\d,]*)\]", operation[1])
            sizes = [math.prod(int(n) for n in s.split(",") if n) for s in shapes]
            found.append((operation[2], max(sizes)))
    return found


def run(devices):
    import jax.numpy as jnp
    import numpy as np
    from inputs import example
    from jax.sharding import NamedSharding, PartitionSpec

    import rmi_jax

    data = example(2, SHAPE)
    logits, labels = data.logits.astype("float32"), data.labels
    batch = PartitionSpec("data")

    def make_mesh(kind):
        axis_type = getattr(jax.sharding.AxisType, kind)
        return jax.make_mesh((devices,), ("data",), axis_types=(axis_type,))

    def in_shard_map(loss_fn):
        @partial(
            jax.shard_map,
            mesh=make_mesh("Auto"),
            in_specs=(batch, batch),
            out_specs=(PartitionSpec(), batch),
        )
        def step(logits, labels):
            loss, grad = jax.value_and_grad(partial(loss_fn, axis_name="data"))(logits, labels)
            return jax.lax.pmean(loss, "data"), grad / devices

        return step

    for implementation in IMPLEMENTATIONS:
        loss_fn = partial(rmi_jax.rmi_loss, implementation=implementation, **OPTIONS[devices])
        expected = jax.jit(jax.value_and_grad(loss_fn))(logits, labels)
        for mode in MODES:
            mesh = make_mesh("Explicit" if mode == "Explicit" else "Auto")
            step = in_shard_map(loss_fn) if mode == "shard_map" else jax.value_and_grad(loss_fn)
            with jax.set_mesh(mesh) if mode == "Explicit" else nullcontext():
                arrays = [
                    jax.device_put(jnp.asarray(a), NamedSharding(mesh, batch))
                    for a in (logits, labels)
                ]
                compiled = jax.jit(step).lower(*arrays).compile()
                loss, grad = jax.device_get(compiled(*arrays))
            line = {
                "case": (implementation, mode),
                "devices": len(jax.devices()),
                "loss": float(loss),
                "expected_loss": float(expected[0]),
                "grad": np.asarray(grad).tolist(),
                "expected_grad": np.asarray(expected[1]).tolist(),
                "moved": communicated(compiled.as_text()),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]))
