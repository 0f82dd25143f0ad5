"""One contract: implementations x axes x downsampling x mask x dtype x anchor, against the oracle.

Statistics are float32 for every input narrower than float64, so the expected numbers are those of
the rounded inputs.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from compiling import both_implementations, quick_jit
from inputs import example
from tolerances import assert_grad, assert_value

import rmi_jax

REGION_SIZE = {1: 3, 2: 3, 3: 2}
AXES = {
    "ndim": (1, 2, 3),
    "downsampling": ("avg", "max", "interpolate"),
    "factor": (1, 2),
    "mask": (None, "mask", "weights"),
    "dtype": ("float32", "bfloat16", "float16", "float64"),
    "anchor": (0.0, 0.3),
}
# Every pair of entries of any two axes that can meet does so in one of these; the product, but for
# the dtypes that take the same path as another, is among the long tests.
TABLE = [
    (1, "avg", 1, "mask", "float64", 0.3),
    (1, "avg", 1, "weights", "bfloat16", 0.0),
    (1, "interpolate", 2, None, "float64", 0.3),
    (1, "interpolate", 2, "mask", "float16", 0.0),
    (1, "max", 2, None, "float32", 0.3),
    (2, "avg", 1, None, "float16", 0.0),
    (2, "interpolate", 2, "weights", "float32", 0.0),
    (2, "max", 2, "mask", "bfloat16", 0.3),
    (2, "max", 2, "weights", "float64", 0.0),
    (3, "avg", 1, "mask", "float32", 0.3),
    (3, "avg", 2, None, "float64", 0.0),
    (3, "interpolate", 2, None, "bfloat16", 0.0),
    (3, "max", 2, "weights", "float16", 0.3),
]


def rounded(array, dtype):
    """The array in `dtype`, and the same numbers in float64."""
    narrow = np.asarray(array).astype(jnp.dtype(dtype))
    return narrow, narrow.astype(np.float64)


@pytest.mark.parametrize(tuple(AXES), TABLE)
@both_implementations
def test_region_term(ndim, downsampling, factor, mask, dtype, anchor, implementation, precision):
    check_region_term(ndim, downsampling, factor, mask, dtype, anchor, implementation, quick_jit)


PRODUCT = [
    (ndim, downsampling, factor, mask, dtype)
    for ndim, downsampling, factor, mask, dtype in itertools.product(*list(AXES.values())[:-1])
    if (factor > 1 or downsampling == "avg") and dtype in ("float32", "bfloat16")
]
# An anchor in half of them: of any two that follow each other in one dtype, in one.
PRODUCT = [(*row, AXES["anchor"][(i + i // 2) % 2]) for i, row in enumerate(PRODUCT)]


@pytest.mark.slow
@pytest.mark.parametrize(tuple(AXES), [row for row in PRODUCT if row not in TABLE])
@both_implementations
def test_region_term_everywhere(ndim, downsampling, factor, mask, dtype, anchor, implementation):
    check_region_term(ndim, downsampling, factor, mask, dtype, anchor, implementation, jax.jit)


def check_region_term(ndim, downsampling, factor, mask, dtype, anchor, implementation, jit):
    options = options_of(ndim, downsampling, factor, anchor)
    arrays, expected = problem(ndim, mask, dtype, options)
    run = jit(gradient(implementation, options))
    check(run(*arrays), expected, dtype)


@pytest.mark.slow  # test_transforms.py has vmap and remat, one by one, in the quick run
@pytest.mark.parametrize(tuple(AXES), TABLE)
@both_implementations
def test_region_term_in_vmap_of_remat(
    ndim, downsampling, factor, mask, dtype, anchor, implementation, precision
):
    options = options_of(ndim, downsampling, factor, anchor)
    many, expected = zip(
        *(problem(ndim, mask, dtype, options, seed) for seed in range(2)), strict=True
    )
    in_axes = (0, 0, None if mask is None else 0)
    run = quick_jit(jax.vmap(gradient(implementation, options, jax.checkpoint), in_axes))
    together = run(*jax.tree.map(lambda *arrays: np.stack(arrays), *many))
    for i, one in enumerate(expected):
        check(jax.tree.map(lambda array, i=i: array[i], together), one, dtype)


def options_of(ndim, downsampling, factor, anchor):
    return {
        "factor": factor,
        "downsampling": downsampling,
        "region_size": REGION_SIZE[ndim],
        "anchor": anchor,
    }


def problem(ndim, mask, dtype, options, seed=0):
    """Probabilities, targets and weights in `dtype`, and what the oracle says of them."""
    data = example(ndim, seed=seed)
    probs, wide_probs = rounded(data.probs, dtype)
    targets, wide_targets = rounded(data.targets, dtype)
    weights = mask and getattr(data, mask).astype("bool" if mask == "mask" else "float32")
    expected = oracle.region_loss(wide_probs, wide_targets, weights, **options)
    return (probs, targets, weights), expected


def gradient(implementation, options, wrap=lambda function: function):
    def loss_fn(probs, targets, weights):
        values = rmi_jax.region_information_loss(
            probs, targets, where=weights, implementation=implementation, **options
        )
        return values.sum(), values

    return jax.grad(wrap(loss_fn), argnums=(0, 1), has_aux=True)


def check(actual, expected, dtype):
    (probs_grad, targets_grad), values = actual
    assert values.dtype == ("float64" if dtype == "float64" else "float32")
    assert probs_grad.dtype == targets_grad.dtype == dtype
    assert_value(values, expected.loss, dtype)
    assert_grad(probs_grad, expected.probs_grad, dtype)
    assert_grad(targets_grad, expected.targets_grad, dtype)
