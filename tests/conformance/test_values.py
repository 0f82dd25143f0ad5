"""One contract: implementations x axes x downsampling x mask x dtype, against the oracle.

Statistics are float32 for every input narrower than float64, so the expected numbers are those of
the rounded inputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from inputs import example
from tolerances import assert_grad, assert_value

import rmi_jax

REGION_SIZE = {1: 3, 2: 3, 3: 2}
DTYPES = ("float64", "float32", "bfloat16", "float16")


def rounded(array, dtype):
    """The array in `dtype`, and the same numbers in float64."""
    narrow = np.asarray(array).astype(jnp.dtype(dtype))
    return narrow, narrow.astype(np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("ndim", "downsampling", "factor", "mask"),
    [
        (1, "avg", 1, None),
        (1, "avg", 2, "weights"),
        (1, "max", 2, "mask"),
        (2, "avg", 1, "mask"),
        (2, "avg", 2, None),
        (2, "max", 2, "weights"),
        (2, "interpolate", 2, "mask"),
        (3, "avg", 1, "weights"),
        (3, "avg", 2, "mask"),
        (3, "interpolate", 2, None),
    ],
)
def test_region_term(ndim, downsampling, factor, mask, dtype, implementation, precision):
    data = example(ndim)
    probs, wide_probs = rounded(data.probs, dtype)
    targets, wide_targets = rounded(data.targets, dtype)
    weights = mask and getattr(data, mask).astype("bool" if mask == "mask" else "float32")
    options = {
        "factor": factor,
        "downsampling": downsampling,
        "region_size": REGION_SIZE[ndim],
    }
    expected = oracle.region_loss(wide_probs, wide_targets, weights, **options)

    def loss_fn(probs, targets):
        values = rmi_jax.region_information_loss(
            probs, targets, where=weights, implementation=implementation, **options
        )
        return values.sum(), values

    run = jax.jit(jax.grad(loss_fn, argnums=(0, 1), has_aux=True))
    (probs_grad, targets_grad), values = run(probs, targets)
    assert values.dtype == ("float64" if dtype == "float64" else "float32")
    assert probs_grad.dtype == targets_grad.dtype == dtype
    assert_value(values, expected.loss, dtype)
    assert_grad(probs_grad, expected.probs_grad, dtype)
    assert_grad(targets_grad, expected.targets_grad, dtype)
