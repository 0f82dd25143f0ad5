"""Images whose rows are spread over devices: the numbers of one device, in a share of its memory.

As in test_sharding.py, each number of virtual devices has its own process: this file, run as a
script, prints one JSON line per case.
"""

import itertools
import json
import math
import sys
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from compiling import both_implementations
from inputs import example
from jax.sharding import AbstractMesh, PartitionSpec
from processes import communicated, lines_of, run_in_process
from tolerances import assert_grad, assert_value

import rmi_jax


class Case(NamedTuple):
    mesh: tuple[int, int]  # devices over which the batch, and the rows, are spread
    shape: tuple[int, ...]
    name: str  # of the function
    options: dict
    misplaced: bool = False  # whether the first image's prediction needs further passes


SMALL_REGIONS = {"region_size": 2, "dilation": 2}
QUICK = {
    # At full resolution half of the devices need a further pass, and the others do not.
    "batch and rows": Case(
        (2, 2), (2, 16, 11, 3), "rmi_loss", {"factor": (1, 4), "anchor": 1e-3}, misplaced=True
    ),
    "volume": Case(
        (1, 4), (1, 16, 6, 5, 2), "soft_rmi_loss", {**SMALL_REGIONS, "factor": 2, "ignored": "zero"}
    ),
}
FUNCTIONS = (
    "rmi_loss",
    "soft_rmi_loss",
    "region_information_loss",
    "region_mutual_information",
)


def full(devices):
    """Every function, factor and way to ignore pixels; 2-D, and 3-D with small regions."""
    cases = {}
    for name, factor, ignored in itertools.product(
        FUNCTIONS, (1, 4, (1, 2, 4)), ("exclude", "zero")
    ):
        options = {"factor": factor, "ignored": ignored}
        if name == "region_information_loss":
            options["anchor"] = 1.0
        cases[f"2-D {name} {factor} {ignored}"] = Case(
            (1, devices), (1, 8 * devices, 13, 3), name, options
        )
        if devices == 4:
            cases[f"3-D {name} {factor} {ignored}"] = Case(
                (2, 2), (2, 16, 9, 8, 2), name, {**options, **SMALL_REGIONS}
            )
    others = (
        {"factor": 3, "region_size": (3, 2), "dilation": (1, 3)},
        {"factor": ((2, 1),), "downsampling": "max", "region_size": 1},
        {"factor": ((1, 2),), "downsampling": "interpolate", "region_stride": (1, 2)},
        {"factor": (2, 3), "activation": "softmax"},
    )
    for options in others:
        shape = (1, 12 * devices, 17, 3)
        cases[f"{options}"] = Case((1, devices), shape, "rmi_loss", options)
    return cases


def lines(devices, which, implementation):
    """What `run_case` found, by case."""
    found = lines_of(run_in_process(__file__, devices, which, implementation))
    return {case: line for (case,), line in found.items()}


@pytest.mark.parametrize("case", QUICK)
def test_shared_images_equal_one_device(case, implementation):
    check(lines(4, "quick", implementation)[case])


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
@both_implementations
def test_every_option_of_shared_images_equals_one_device(devices, implementation):
    for line in lines(devices, "full", implementation).values():
        check(line)


def check(line):
    assert_value(line["values"], line["expected_values"], "float32")
    assert_grad(line["grad"], line["expected_grad"], "float32")


@pytest.mark.parametrize("case", QUICK)
def test_only_borders_and_sums_move(case, implementation):
    moved = lines(4, "quick", implementation)[case]["moved"]
    assert "collective-permute" in {name for name, _, _ in moved}
    # Within a loop only the sums of a further pass do.
    in_loops = [name for name, _, in_loop in moved if in_loop]
    assert set(in_loops) <= {"all-reduce"}
    _, (batch, rows, *others, classes), name, options, _ = QUICK[case]
    borrowed = 6 if name == "rmi_loss" else 3
    dim = 2 * options.get("region_size", 3) ** len((rows, *others))
    largest = {
        "collective-permute": borrowed * math.prod(others) * classes,
        "all-reduce": batch * classes * dim**2,
    }
    assert [(name, size) for name, size, _ in moved if size > largest.get(name, 0)] == []


MAPS = jax.ShapeDtypeStruct((1, 32, 16, 3), np.float32)
LABELS = jax.ShapeDtypeStruct(MAPS.shape[:-1], np.int32)


def trace(spatial_axis_name="rows", check_vma=True, **options):
    mesh = AbstractMesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = PartitionSpec(None, "rows")

    @partial(
        jax.shard_map, mesh=mesh, in_specs=rows, out_specs=PartitionSpec(), check_vma=check_vma
    )
    def run(logits, labels):
        return rmi_jax.rmi_loss(logits, labels, spatial_axis_name=spatial_axis_name, **options)

    return jax.eval_shape(run, MAPS, LABELS)


def test_the_loss_is_the_same_on_all_devices():
    assert trace().shape == ()  # shard_map checks that it does not vary


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "spatial_axis_name leaves 8 rows on a device, which factor 3", {"factor": 3}),
        (ValueError, "fewer than the 10 rows", {"factor": 1, "dilation": 5}),
        (ValueError, "downsampling='interpolate'", {"factor": 4, "downsampling": "interpolate"}),
        (ValueError, r"region_stride 2 .*use \(1, 2\)", {"region_stride": 2}),
        (ValueError, "spatial_axis_name must be an axis of the mesh", {"spatial_axis_name": "row"}),
        (TypeError, "spatial_axis_name must be the name of one", {"spatial_axis_name": ("rows",)}),
        (ValueError, "spatial_axis_name needs shard_map with check_vma=True", {"check_vma": False}),
    ],
)
def test_what_cannot_be_shared_is_a_clear_error(error, message, options):
    with pytest.raises(error, match=message):
        trace(**options)


def test_outside_of_shard_map():
    logits, labels = np.zeros(MAPS.shape, MAPS.dtype), np.zeros(LABELS.shape, LABELS.dtype)
    with pytest.raises(ValueError, match=r"spatial_axis_name must be .* surrounding shard_map"):
        rmi_jax.rmi_loss(logits, labels, spatial_axis_name="rows")


def compile_gradient(devices, shape):
    """Loss and gradient of one volume, its slices over all devices; compiled, not run."""
    mesh = jax.make_mesh((devices,), ("slices",), (jax.sharding.AxisType.Auto,))
    slices = PartitionSpec(None, "slices")

    def step(logits, labels):
        return jax.value_and_grad(partial(rmi_jax.rmi_loss, factor=1, spatial_axis_name="slices"))(
            logits, labels
        )

    step = jax.shard_map(step, mesh=mesh, in_specs=slices, out_specs=(PartitionSpec(), slices))
    volume = jax.ShapeDtypeStruct(shape, np.float32)
    labels = jax.ShapeDtypeStruct(shape[:-1], np.int32)
    return jax.jit(step).lower(volume, labels).compile()


@pytest.mark.slow
def test_memory_of_a_device_falls_in_proportion():
    needed = {}
    for devices in (2, 4, 8):
        (line,) = lines_of(run_in_process(__file__, devices, "memory")).values()
        needed[devices] = line["bytes"]
    logits = 4 * math.prod(VOLUME)
    assert needed[2] / needed[8] > 3.5
    for devices, size in needed.items():
        assert size < 6.5 * logits / devices  # measured: 6.0 to 6.1


VOLUME = (1, 512, 512, 512, 4)


def run_memory(devices):
    memory = compile_gradient(devices, VOLUME).memory_analysis()
    parts = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
    print(json.dumps({"case": ["memory"], "bytes": sum(parts), "parts": parts}))


def misplaced_prediction(labels, classes):
    """Confident logits of the labels, a pixel off along the diagonal."""
    return 8.0 * (2 * np.roll(labels[..., None] == np.arange(classes), (1, 1), (0, 1)) - 1)


def run_case(case, implementation):
    import jax.numpy as jnp

    (data_devices, row_devices), shape, name, options, misplaced = case
    data = example(len(shape) - 2, shape)
    if misplaced:
        data.logits[0] = misplaced_prediction(data.labels[0], shape[-1])
    soft = name != "rmi_loss"
    inputs = (
        (data.probs if name.startswith("region") else data.logits).astype("float32"),
        data.targets.astype("float32") if soft else data.labels,
        data.weights.astype("float32"),
    )
    direction = np.linspace(1, 2, shape[-1], dtype="float32")

    def run(inputs, devices, **axes):
        def scalar(maps, targets):
            function = partial(getattr(rmi_jax, name), implementation=implementation, **options)
            if name.startswith("region"):
                axes.pop("axis_name", None)
                values = function(maps, targets, where=inputs[2], **axes)
                return jnp.sum(jnp.mean(values, axis=0) * direction), values
            values = function(maps, targets, where=inputs[2], reduction="none", **axes)
            return jnp.mean(values), values

        (_, values), grads = jax.value_and_grad(scalar, (0, 1) if soft else 0, has_aux=True)(
            *inputs[:2]
        )
        return values, jax.tree.map(lambda grad: grad / devices, grads)

    mesh = jax.make_mesh(case.mesh, ("data", "rows"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    both, batch = PartitionSpec("data", "rows"), PartitionSpec("data")
    axes = {"axis_name": "data", "spatial_axis_name": "rows"}
    shared = jax.jit(
        jax.shard_map(
            partial(run, devices=data_devices, **axes),
            mesh=mesh,
            in_specs=(both,),
            out_specs=(batch, both),
        )
    )
    compiled = shared.lower(inputs).compile()
    values, grads = compiled(inputs)
    expected = jax.jit(partial(run, devices=1))(inputs)

    def flat(grads):
        return np.concatenate([np.ravel(grad) for grad in jax.tree.leaves(grads)]).tolist()

    return {
        "values": np.asarray(values).tolist(),
        "expected_values": np.asarray(expected[0]).tolist(),
        "grad": flat(grads),
        "expected_grad": flat(expected[1]),
        "moved": communicated(compiled.as_text()),
    }


if __name__ == "__main__":
    count, kind = int(sys.argv[1]), sys.argv[2]
    if kind == "memory":
        run_memory(count)
    else:
        for label, one in (QUICK if kind == "quick" else full(count)).items():
            line = {"case": (label,), **run_case(one, sys.argv[3])}
            print(json.dumps(line), flush=True)
