"""Factors of small matrices, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from rmi_jax import matrices


def transposed(a):
    return np.swapaxes(a, -1, -2)


def graded(dim=6):
    """Positive definite matrices ``[2, dim, dim]`` whose rows differ by 1e6 in size."""
    a = np.random.default_rng(0).normal(size=(2, dim, 2 * dim))
    sizes = 10.0 ** np.linspace(0, -6, dim)
    return sizes[:, None] * (a @ transposed(a)) * sizes


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_factor_of_graded_matrices(dtype, precision):
    a = graded().astype(dtype)
    lower = quick_jit(matrices.cholesky)(a, np.asarray(1e-30, dtype))
    expected = np.linalg.cholesky(a.astype("float64"))
    assert lower.dtype == dtype
    np.testing.assert_allclose(lower, expected, rtol=1e-10 if dtype == "float64" else 1e-4)


def test_inverse(x64):
    lower = np.linalg.cholesky(graded())
    x = quick_jit(matrices.inverse)(lower)
    expected = np.linalg.inv(lower)
    # Column by column, because the columns of x are graded as the rows of the matrix.
    sizes = np.max(np.abs(expected), axis=-2, keepdims=True)
    np.testing.assert_allclose(x / sizes, expected / sizes, atol=1e-12)


def test_what_rounding_made_indefinite_has_a_factor():
    rng = np.random.default_rng(0)
    x = 100 * rng.normal(size=(9, 3))
    alpha = np.float32(5e-4)
    a = (x @ x.T).astype("float32") + alpha * np.eye(9, dtype="float32")
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(a)
    lower = np.asarray(quick_jit(matrices.cholesky)(a, alpha), np.float64)
    assert np.all(np.square(np.diag(lower)) >= 0.999 * alpha)
    np.testing.assert_allclose(lower @ lower.T, a, atol=1e-6 * a.max())


def test_pivots_that_rounding_took_are_lifted_to_their_floor():
    # In float32 this is all ones times 1e8: one column explains the others, and nothing is left.
    alpha = 5e-4
    a = np.full((3, 3), 1e8, "float32") + np.float32(alpha) * np.eye(3, dtype="float32")
    expected = np.diag([1e4, alpha**0.5, alpha**0.5])
    expected[:, 0] = 1e4
    np.testing.assert_allclose(
        matrices.cholesky(jnp.asarray(a), jnp.float32(alpha)), expected, rtol=1e-6
    )


def test_entries_beside_a_lifted_pivot_stay_bounded():
    # Rounding left nothing of the second row but an entry of 64, which the lifted pivot divides.
    alpha = 5e-4
    a = np.full((3, 3), 1e8, "float32")
    a[1, 2] = a[2, 1] = 1e8 + 64
    lower = np.asarray(matrices.cholesky(jnp.asarray(a), jnp.float32(alpha)), np.float64)
    assert np.all(np.square(lower).sum(axis=1) <= (1 + 1e-6) * np.diag(a) + alpha)
