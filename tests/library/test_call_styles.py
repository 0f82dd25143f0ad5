"""However arrays are handed over, and whatever the call stands in, it is the same call.

A jitted function closes over its class weights, a scan over its mask, an `nnx.jit` over fixed
targets: nothing is known then of traced values, and constants must be read on the host.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from call_styles import (
    CALLS,
    FUNCTIONS,
    LISTS,
    MATRIX,
    SOURCES,
    array_arguments,
    call,
)
from compiling import quick_jit
from flax import nnx
from tolerances import assert_grad, assert_value

import rmi_jax
from rmi_jax import concrete, ranges, terms
from rmi_jax.gaussian import Terms

CASES = [(name, array) for name, (arrays, _) in FUNCTIONS.items() for array in arrays]


def test_the_table_has_every_array_of_every_function():
    modules = (rmi_jax, ""), (rmi_jax.metrics, "metrics.")
    public = {
        prefix + name
        for module, prefix in modules
        for name, _ in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_")
    }
    assert set(FUNCTIONS) == public
    for name, (arrays, _) in FUNCTIONS.items():
        assert set(arrays) == array_arguments(name)


@pytest.fixture
def brief(monkeypatch):
    """A stand-in for the statistics, which take most of the time to trace, of the same arrays."""

    def terms_of_scales(maps, prior, scales, report):
        (dtype, *_) = (leaf.dtype for leaf in jax.tree.leaves(prior))
        axes = tuple(range(1, maps.inputs.ndim - 1))
        value = jnp.sum(maps.inputs.astype(dtype), axis=axes)
        for leaf in jax.tree.leaves((maps.targets, maps.pixel_weights, maps.offset, prior)):
            value += jnp.sum(leaf).astype(dtype)
        return [Terms(*[value] * len(Terms._fields)) for _ in scales]

    monkeypatch.setitem(terms._IMPLEMENTATIONS, "streaming", terms_of_scales)


@pytest.mark.parametrize(("name", "array"), CASES)
def test_every_source_in_every_call(name, array, brief):
    arrays = FUNCTIONS[name][0]
    operand = next(iter(arrays))
    for source, convert in SOURCES.items():
        if source.startswith("list") and array not in LISTS:
            continue
        if source == "argument":
            changed, others = array, arrays
        elif array != operand:
            changed, others = operand, arrays | {array: convert(arrays[array])}
        else:  # nothing is traced but what does not matter
            changed, others = None, arrays | {array: convert(arrays[array])}

        def function(value, changed=changed, others=others):
            return call(name, others if changed is None else others | {changed: value})

        value = jnp.float32(0) if changed is None else jnp.asarray(arrays[changed])
        for kind, run in CALLS.items():
            try:
                run(function, value)
            except Exception as error:
                error.add_note(f"{array} of {name}: {source}, {kind}")
                raise


CLOSED = {
    "JAX arrays": lambda _, value: jnp.asarray(value),
    "NumPy arrays": lambda _, value: value,
    "lists where allowed": lambda array, value: value.tolist() if array in LISTS else value,
}


@functools.cache
def plain(name):
    """The value and the gradient by the first array where every array is an argument."""
    operand, others = _split(name)
    return quick_jit(jax.value_and_grad(_total(name)))(operand, others)


def _split(name):
    (operand, *others), arrays = FUNCTIONS[name][0], FUNCTIONS[name][0]
    return jnp.asarray(arrays[operand]), {array: arrays[array] for array in others}


def _total(name):
    (operand, *_) = FUNCTIONS[name][0]
    return lambda value, others: jnp.sum(call(name, {operand: value, **others}))


def _closed(name, convert):
    """A loss of one array that closes over all others, and that array."""
    operand, others = _split(name)
    held = {array: convert(array, value) for array, value in others.items()}
    return lambda value: _total(name)(value, held), operand


def check(actual, expected):
    assert_value(actual[0], expected[0], "float32")
    assert_grad(actual[1], expected[1], "float32")


@pytest.mark.parametrize(
    ("name", "closed"),
    [*(("rmi_loss", kind) for kind in CLOSED), ("region_information_loss", "JAX arrays")],
)
def test_closed_over_arrays_give_the_value_of_arguments(name, closed):
    loss_fn, operand = _closed(name, CLOSED[closed])
    check(quick_jit(jax.value_and_grad(loss_fn))(operand), plain(name))


def test_every_function_may_close_over_everything():
    """As a fixed reference is: nothing is an argument, all is a constant of the program."""

    def results(arrays):
        return {name: call(name, arrays[name]) for name in FUNCTIONS}

    arrays = {name: arrays for name, (arrays, _) in FUNCTIONS.items()}
    held = jax.tree.map(jnp.asarray, arrays)
    closed, given = quick_jit(lambda: results(held))(), quick_jit(results)(arrays)
    for name in FUNCTIONS:
        np.testing.assert_allclose(closed[name], given[name], rtol=1e-5, err_msg=name)


def _donated(loss_fn, operand):
    run = quick_jit(jax.value_and_grad(loss_fn), donate_argnums=0)
    value, grad = run(operand + 0)
    donated = operand + 0
    again, _ = run(donated)
    assert donated.is_deleted()
    assert value == again
    return value, grad


def _steps(loss_fn, operand):
    def step(carry, _):
        return carry, jax.value_and_grad(loss_fn)(carry)

    values, grads = quick_jit(lambda x: jax.lax.scan(step, x, length=2)[1])(operand)
    return values[1], grads[1]


def _mapped(loss_fn, operand):
    operands = jnp.stack([-operand, operand])
    values, grads = quick_jit(jax.vmap(jax.value_and_grad(loss_fn)))(operands)
    return values[1], grads[1]


REAL = {
    "donated": _donated,
    "scan": _steps,
    "vmap": _mapped,
    "checkpoint": lambda f, x: quick_jit(jax.value_and_grad(jax.checkpoint(f)))(x),
    "grad of jit": lambda f, x: quick_jit(jax.value_and_grad(jax.jit(f)))(x),
    "nnx.jit": lambda f, x: nnx.jit(jax.value_and_grad(f))(x),
}


@pytest.mark.parametrize("kind", REAL)
def test_every_call_gives_the_value_of_the_plain_one(kind):
    check(REAL[kind](*_closed("rmi_loss", CLOSED["JAX arrays"])), plain("rmi_loss"))


WRONG = [
    ("rmi_loss", "class_weights", [-1.0, 1.0], "class_weights.*not negative"),
    ("rmi_loss", "where", None, "where.*not negative"),
    ("rmi_loss", "jitter", 0.0, "jitter.*at least 1e-12"),
    ("rmi_loss", "bce_weight", -0.5, "bce_weight.*not negative"),
    ("rmi_loss", "scale_weights", [np.nan], "scale_weights.*finite"),
    ("soft_rmi_loss", "targets", None, r"targets.*\[0, 1\]"),
    ("region_information_loss", "probs", None, r"probs.*\[0, 1\]"),
    ("warmup_schedule", "final_weight", 1.5, "final_weight.*at most 1"),
    ("metrics.iou", "matrix", None, "matrix.*not negative"),
    ("metrics.boundary_f1", "counts", None, "counts.*not negative"),
]


@pytest.mark.parametrize(("name", "array", "value", "message"), WRONG)
def test_closed_over_values_are_checked_as_any(name, array, value, message):
    arrays = FUNCTIONS[name][0]
    wrong = jnp.asarray(-arrays[array] if value is None else value, arrays[array].dtype)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: call(name, arrays | {array: wrong}))


def test_what_cannot_be_read_is_not_checked():
    matrix = jnp.asarray(MATRIX)
    matrix.delete()  # as donation does; a transfer guard raises the same
    assert concrete.values(matrix) is None
    jax.eval_shape(lambda m: ranges.nonnegative("matrix", m), jnp.asarray(MATRIX))
    np.testing.assert_array_equal(concrete.values(jnp.asarray(MATRIX)), MATRIX)


@pytest.mark.parametrize("make", [jnp.asarray, np.asarray])
def test_values_of_16_bits_are_read(make):
    values = make(jnp.array([0.5, 1.0], jnp.bfloat16))
    assert concrete.values(values).dtype == np.float32
    np.testing.assert_array_equal(concrete.values(values), [0.5, 1.0])
    with pytest.raises(ValueError, match="finite"):
        ranges.nonnegative("where", make(jnp.array([0.5, np.nan], jnp.bfloat16)))


def test_a_list_may_hold_traced_weights():
    arrays = FUNCTIONS["rmi_loss"][0]

    def loss_fn(weight):
        return call("rmi_loss", arrays | {"class_weights": [1.0, weight]})

    assert jax.eval_shape(loss_fn, jnp.float32(2)).shape == ()
