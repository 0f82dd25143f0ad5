"""JAX's strict modes, which people switch on to find mistakes of their own, find none here.

``JAX_NUMPY_RANK_PROMOTION=raise JAX_NUMPY_DTYPE_PROMOTION=strict pytest ...`` runs other tests of
the library with strict promotion.
"""

import contextlib
import functools
import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from call_styles import BOUNDARIES, FUNCTIONS, LABELS, MAPS, MASK, MATRIX, WEIGHTS, call
from compiling import both_implementations, quick_jit

import rmi_jax
from rmi_jax import metrics

LOGITS = 4 * MAPS - 2

MODES = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "NaNs": lambda: jax.debug_nans(True),
    "transfers": lambda: jax.transfer_guard("disallow"),
}


@contextlib.contextmanager
def strict():
    with contextlib.ExitStack() as stack:
        for mode in MODES.values():
            stack.enter_context(mode())
        yield


# (labels or soft targets, options); every option in some row, and every dtype of logits.
ROWS = [
    ("labels", "float32", {}),
    ("labels", "bfloat16", {"activation": "softmax", "where": WEIGHTS, "factor": 2}),
    ("labels", "float32", {"class_weights": (1, 2), "factor": (1, 2), "bce_weight": 0.3}),
    ("labels", "float32", {"where": MASK, "ignored": "zero", "factor": 2, "has_aux": True}),
    ("labels", "float16", {"downsampling": "max", "factor": 2, "where": MASK, "zero_floor": False}),
    ("labels", "float32", {"downsampling": "interpolate", "factor": 2, "where": WEIGHTS}),
    ("targets", "float32", {"where": WEIGHTS, "class_weights": jnp.array([1, 2])}),
    ("targets", "bfloat16", {"activation": "softmax", "has_aux": True, "region_stride": 2}),
    ("targets", "float32", {"scale_weights": (1, 2), "factor": (1, 2), "reduction": "none"}),
]


def objective(kind, implementation, options):
    """A function of logits and its arrays, with gradients by all that have one."""
    loss_fn = rmi_jax.rmi_loss if kind == "labels" else rmi_jax.soft_rmi_loss
    traced = {name: options[name] for name in ("where",) if name in options}
    static: dict[str, Any] = {"factor": 1}
    static |= {name: value for name, value in options.items() if name not in traced}

    def total(logits, targets, key, traced):
        out = loss_fn(
            logits,
            targets,
            region_key=key,
            region_size=(1, 2),
            implementation=implementation,
            **traced,
            **static,
        )
        loss, aux = out if options.get("has_aux") else (out, None)
        return jnp.sum(loss), aux

    run = jax.value_and_grad(total, argnums=(0, 1) if kind == "targets" else 0, has_aux=True)
    return run, traced


def arguments(kind, dtype, traced):
    targets = MAPS[::-1] if kind == "targets" else LABELS
    arrays = LOGITS.astype("float32"), targets, jax.random.key(0), traced
    logits, *others = jax.tree.map(jnp.asarray, arrays)
    return logits.astype(dtype), *others


@pytest.mark.parametrize(("kind", "dtype", "options"), ROWS)
@both_implementations
def test_losses_trace_in_all_modes(kind, dtype, options, implementation):
    run, traced = objective(kind, implementation, options)
    arrays = arguments(kind, dtype, traced)
    with strict():
        jax.eval_shape(run, *arrays)


@pytest.mark.parametrize("ndim", [1, 3])
@both_implementations
def test_other_numbers_of_axes_trace_in_all_modes(ndim, implementation):
    shape = (2, *range(4, 4 + ndim), 2)
    loss_fn = functools.partial(
        rmi_jax.rmi_loss, factor=1, region_size=2, implementation=implementation
    )
    with strict():
        jax.eval_shape(
            jax.grad(loss_fn),
            jax.ShapeDtypeStruct(shape, "float32"),
            jax.ShapeDtypeStruct(shape[:-1], "uint8"),
        )


def differentiated(name):
    """The sum of what a public function returns and the gradients by its real arrays."""

    def run(arrays):
        real = {k: v for k, v in arrays.items() if jnp.issubdtype(v.dtype, jnp.floating)}
        return jax.value_and_grad(lambda r: jnp.sum(call(name, arrays | r)).astype("float32"))(real)

    return run


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_traces_in_all_modes(name):
    arrays = jax.tree.map(jnp.asarray, FUNCTIONS[name][0])
    with strict():
        jax.eval_shape(functools.partial(call, name), arrays)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_labels_of_every_width_trace_in_all_modes(dtype):
    logits, labels = jnp.asarray(LOGITS), jnp.asarray(LABELS, dtype)
    loss_fn = functools.partial(rmi_jax.rmi_loss, factor=1, region_size=1)
    with strict():
        jax.eval_shape(loss_fn, logits, labels)
        jax.eval_shape(lambda y: metrics.confusion_matrix(y, y, 2), labels)


@pytest.mark.parametrize("method", ["avg", "max", "interpolate", "nearest"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_downsampling_traces_in_all_modes(method, dtype):
    with strict():
        for where in (None, jax.ShapeDtypeStruct(MASK.shape, bool)):
            jax.eval_shape(
                lambda maps, where: rmi_jax.downsample(maps, 2, method=method, where=where),
                jax.ShapeDtypeStruct(MAPS.shape, dtype),
                where,
            )


@pytest.mark.parametrize(("kind", "dtype", "options"), [ROWS[1], ROWS[3], ROWS[6]])
def test_losses_run_in_all_modes(kind, dtype, options):
    """The program stops at NaNs, and nothing moves between host and device."""
    run, traced = objective(kind, "streaming", options)
    arrays, jitted = arguments(kind, dtype, traced), quick_jit(run)
    with strict():
        found = jitted(*arrays)
    for leaf in jax.tree.leaves(found):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_runs_in_all_modes(name):
    """The program stops at NaNs, and nothing moves between host and device."""
    arrays = jax.tree.map(jnp.asarray, FUNCTIONS[name][0])
    run = quick_jit(differentiated(name))
    with strict():
        found = run(arrays)
    for leaf in jax.tree.leaves(found):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_step_of_any_function_is_undefined(name):
    """Not compiled, every operation is looked at and not only what the program returns."""
    with jax.debug_nans(True):
        call(name, FUNCTIONS[name][0])


@contextlib.contextmanager
def checking_leaks():
    """`jax.checking_leaks`, which collects garbage after every trace, with little to go through."""
    gc.collect()
    gc.freeze()
    try:
        with jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_leaks_from_a_trace(name):
    with checking_leaks():
        jax.eval_shape(differentiated(name), jax.tree.map(jnp.asarray, FUNCTIONS[name][0]))


def test_what_leaks_from_a_trace_is_found():
    kept = []
    with checking_leaks(), pytest.raises(Exception, match="Leaked"):
        jax.eval_shape(lambda x: kept.append(2 * x), jnp.ones(3))


# The third class is neither true nor predicted.
ABSENT = {
    "matrix": np.pad(MATRIX, (0, 1)),
    "counts": np.pad(BOUNDARIES, ((0, 1), (0, 0))),
}


@pytest.mark.parametrize("name", ["iou", "dice", "boundary_f1", "boundary_iou"])
def test_absent_classes_are_no_mistake(name):
    counts = ABSENT["counts" if name.startswith("boundary") else "matrix"]
    with jax.debug_nans(True):
        ratios = getattr(metrics, name)(counts)
    assert np.isfinite(ratios[:2]).all()
    assert np.isnan(ratios[2])


def test_absent_classes_of_an_image_are_no_mistake():
    with jax.debug_nans(True):
        ious = metrics.image_iou(LABELS, np.where(MASK, LABELS, -1), 3)
        means = [ratio(ious) for ratio in (metrics.mean_image_iou, metrics.class_image_iou)]
    assert np.isnan(ious[:, 2]).all()
    np.testing.assert_array_equal(means[0], 1)
    np.testing.assert_array_equal(means[1], [1, 1, np.nan])


def test_the_mean_iou_of_present_classes_needs_no_nan():
    expected = np.nanmean(metrics.iou(ABSENT["matrix"]))
    with jax.debug_nans(True):
        for run in (metrics.mean_iou, jax.jit(metrics.mean_iou)):
            np.testing.assert_allclose(run(ABSENT["matrix"]), expected, rtol=1e-6)
    assert np.isnan(metrics.mean_iou(np.zeros((2, 2))))


def test_a_loss_without_anything_to_learn_is_a_number():
    """One class everywhere, all ignored: whatever is divided by nothing is not asked for."""

    def loss_fn(logits, labels):
        return rmi_jax.rmi_loss(logits, labels, factor=1, region_size=(1, 2), has_aux=True)

    run = quick_jit(jax.value_and_grad(loss_fn, has_aux=True))
    with jax.debug_nans(True):
        for label in (0, -1):
            (loss, parts), grad = run(LOGITS, np.full_like(LABELS, label))
            for leaf in jax.tree.leaves((loss, parts, grad)):
                assert np.isfinite(leaf).all()
