"""A batch spread over devices: the same numbers, and no map ever leaves its device.

JAX fixes the number of devices when it starts, so each number of virtual ones has its own process:
this file, run as a script, prints one JSON line per case.
"""

import json
import sys
from contextlib import nullcontext
from functools import partial

import jax
import numpy as np
import pytest
from processes import communicated, lines_of, run_in_process
from tolerances import assert_grad, assert_value

# Explicit axes are out of reach before JAX 0.10.
VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])
MODES = ("Auto", "Explicit", "shard_map") if VERSION >= (0, 10) else ("Auto", "shard_map")
# One set of options for each number of devices: compiling is what takes the time here.
OPTIONS = {
    4: {"factor": (1, 2)},
    8: {"factor": 2, "region_size": 2, "ignored": "zero", "anchor": 0.3},
}
DEVICES = [pytest.param(4, marks=pytest.mark.slow), 8]
SHAPE = (8, 13, 12, 3)


def results(devices, implementation):
    """What `run` printed, by mode."""
    lines = lines_of(run_in_process(__file__, devices, implementation))
    return {mode: line for (mode,), line in lines.items()}


@pytest.mark.parametrize("images", ["ordinary", "empty"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", DEVICES)
def test_a_sharded_batch_equals_one_device(devices, mode, images, implementation):
    line = results(devices, implementation)[mode]
    assert line["devices"] == devices
    assert_value(line[images]["loss"], line[images]["expected_loss"], "float32")
    assert_grad(line[images]["grad"], line[images]["expected_grad"], "float32")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", DEVICES)
def test_a_device_with_ignored_pixels_only_has_no_gradient(devices, mode, implementation):
    grad = results(devices, implementation)[mode]["empty"]["grad"]
    assert not np.any(grad[: SHAPE[0] // devices])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", DEVICES)
def test_a_batch_that_does_not_divide_is_a_clear_error(devices, mode, implementation):
    message = results(devices, implementation)[mode]["uneven"]
    assert str(SHAPE[0] - 1) in message
    assert "divi" in message  # "evenly divide", "divisible"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", DEVICES)
def test_no_map_leaves_its_device(devices, mode, implementation):
    moved = results(devices, implementation)[mode]["moved"]
    # Something is reduced over the devices, or nothing was sharded in the first place.
    assert "all-reduce" in {name for name, _, _ in moved}
    # Scalars and numbers of each class are reduced; nothing else moves but numbers of each image.
    # Within a loop it is whether some image asks for a further pass over the maps.
    classes = SHAPE[-1]
    assert [(n, size) for n, size, in_loop in moved if in_loop and n != "all-reduce"] == []
    assert [
        (name, size) for name, size, _ in moved if name == "all-reduce" and size > classes
    ] == []
    assert [(name, size) for name, size, _ in moved if size > SHAPE[0]] == []


def test_the_reader_of_compiled_programs_sees_what_moves():
    program = """
%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}
%inner (x: f32[4,6]) -> f32[4,6] {
  ROOT %moved = f32[4,6]{1,0} collective-permute(%x), source_target_pairs={{0,1}}
}
%body (x: f32[4,6]) -> f32[4,6] {
  ROOT %called = f32[4,6]{1,0} call(%x), to_apply=%inner
}
ENTRY %main (x: f32[4,6]) -> f32[8,6] {
  %total = (f32[], f32[3]{0}) all-reduce(%a, %b), to_apply=%sum
  %loop = f32[4,6]{1,0} while(%x), condition=%test, body=%body
  ROOT %gathered = f32[8,6]{1,0} all-gather-start(%loop), dimensions={0}
}
"""
    assert communicated(program) == [
        ("collective-permute", 24, True),
        ("all-reduce", 3, False),
        ("all-gather", 48, False),
    ]


def run(devices, implementation):
    from inputs import example
    from jax.sharding import NamedSharding, PartitionSpec

    import rmi_jax

    data = example(2, SHAPE)
    logits = data.logits.astype("float32")
    # All that the first device has is ignored; the last image has a single class.
    empty = data.labels.copy()
    empty[: SHAPE[0] // devices] = 255
    empty[-1] = 0
    cases = {"ordinary": data.labels, "empty": empty}
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

    loss_fn = partial(rmi_jax.rmi_loss, implementation=implementation, **OPTIONS[devices])
    one_device = jax.jit(jax.value_and_grad(loss_fn))
    for mode in MODES:
        mesh = make_mesh("Explicit" if mode == "Explicit" else "Auto")
        step = in_shard_map(loss_fn) if mode == "shard_map" else jax.value_and_grad(loss_fn)
        step = jax.jit(step)

        def put(*arrays, mesh=mesh):
            return jax.device_put(arrays, NamedSharding(mesh, batch))

        line = {"case": (mode,), "devices": len(jax.devices())}
        with jax.set_mesh(mesh) if mode == "Explicit" else nullcontext():
            compiled = step.lower(*put(logits, empty)).compile()
            line["moved"] = communicated(compiled.as_text())
            for name, labels in cases.items():
                loss, grad = jax.device_get(compiled(*put(logits, labels)))
                expected = one_device(logits, labels)
                line[name] = {
                    "loss": float(loss),
                    "expected_loss": float(expected[0]),
                    "grad": grad.tolist(),
                    "expected_grad": np.asarray(expected[1]).tolist(),
                }
            try:
                arrays = logits[1:], empty[1:]
                step(*(arrays if mode == "shard_map" else put(*arrays)))
            except ValueError as error:
                line["uneven"] = str(error)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2])
