"""The statistics of one pair of region vectors, against NumPy in float64."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from rmi_jax import gaussian

ALPHA, TAU, DIM = 0.1, 0.3, 3


def transposed(a):
    return np.swapaxes(a, -1, -2)


def graded(dim=6):
    """Positive definite matrices ``[2, dim, dim]`` whose rows differ by 1e6 in size."""
    a = np.random.default_rng(0).normal(size=(2, dim, 2 * dim))
    sizes = 10.0 ** np.linspace(0, -6, dim)
    return sizes[:, None] * (a @ transposed(a)) * sizes


# --- Factors.


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_factor_of_graded_matrices(dtype, precision):
    a = graded().astype(dtype)
    lower = quick_jit(gaussian.cholesky)(a, np.asarray(1e-30, dtype))
    expected = np.linalg.cholesky(a.astype("float64"))
    assert lower.dtype == dtype
    np.testing.assert_allclose(lower, expected, rtol=1e-10 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("upper", [False, True])
def test_substitution(upper, x64):
    lower = np.linalg.cholesky(graded())
    b = np.random.default_rng(1).normal(size=(2, 6, 4))
    x = quick_jit(partial(gaussian.solve, transposed=upper))(lower, b)
    expected = np.linalg.solve(transposed(lower) if upper else lower, b)
    # Row by row, because the rows of x are as graded as the matrix.
    sizes = np.max(np.abs(expected), axis=-1, keepdims=True)
    np.testing.assert_allclose(x / sizes, expected / sizes, atol=1e-12)


def test_what_rounding_made_indefinite_has_a_factor():
    rng = np.random.default_rng(0)
    x = 100 * rng.normal(size=(9, 3))
    alpha = np.float32(5e-4)
    a = (x @ x.T).astype("float32") + alpha * np.eye(9, dtype="float32")
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(a)
    lower = np.asarray(quick_jit(gaussian.cholesky)(a, alpha), np.float64)
    assert np.all(np.square(np.diag(lower)) >= 0.999 * alpha)
    np.testing.assert_allclose(lower @ lower.T, a, atol=1e-6 * a.max())


def test_pivots_that_rounding_took_are_lifted_to_their_floor():
    # In float32 this is all ones times 1e8: one column explains the others, and nothing is left.
    alpha = 5e-4
    a = np.full((3, 3), 1e8, "float32") + np.float32(alpha) * np.eye(3, dtype="float32")
    expected = np.diag([1e4, alpha**0.5, alpha**0.5])
    expected[:, 0] = 1e4
    np.testing.assert_allclose(
        gaussian.cholesky(jnp.asarray(a), jnp.float32(alpha)), expected, rtol=1e-6
    )


def test_entries_beside_a_lifted_pivot_stay_bounded():
    # Rounding left nothing of the second row but an entry of 64, which the lifted pivot divides.
    alpha = 5e-4
    a = np.full((3, 3), 1e8, "float32")
    a[1, 2] = a[2, 1] = 1e8 + 64
    lower = np.asarray(gaussian.cholesky(jnp.asarray(a), jnp.float32(alpha)), np.float64)
    assert np.all(np.square(lower).sum(axis=1) <= (1 + 1e-6) * np.diag(a) + alpha)


# --- The joint matrix. Everything is computed from `[P; Y]` here, and from z = C [P; D] there.


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(2)
    p = rng.normal(size=(2, DIM, 20))
    y = 0.7 * p + rng.normal(size=p.shape)
    return p, y


SLOPE = np.array([0.5, -1.2])


def in_basis(p, y, change):
    """Scatter of ``z = C [P; D]``."""
    d = y - SLOPE[:, None, None] * p
    z = change @ np.concatenate([p, d], axis=1)
    return z @ transposed(z)


def whitened(p, y, change, anchor=TAU):
    own = change[..., :DIM] + (1 - SLOPE)[:, None, None] * change[..., DIM:]
    itself = (own @ y) @ transposed(own @ y)
    prior = gaussian.Prior(jnp.asarray(ALPHA), jnp.asarray(anchor))
    arrays = map(jnp.asarray, (in_basis(p, y, change), itself, change, SLOPE))
    return quick_jit(gaussian.whiten)(*arrays, prior)


def changes():
    rng = np.random.default_rng(3)
    lower = np.tril(rng.normal(size=(2, 2 * DIM, 2 * DIM)), -1)
    return {
        "first": np.broadcast_to(np.eye(2 * DIM), lower.shape),
        "further": lower + rng.uniform(0.5, 2, size=(2, 1, 2 * DIM)) * np.eye(2 * DIM),
    }


@pytest.mark.parametrize("basis", ["first", "further"])
def test_whitening(basis, pair, x64):
    p, y = pair
    change = changes()[basis]
    found = whitened(p, y, change)
    x, copies = np.concatenate([p, y], axis=1), np.concatenate([y, y], axis=1)
    joint = x @ transposed(x) + TAU * copies @ transposed(copies) + ALPHA * np.eye(2 * DIM)

    # C takes [P; D] to z, and so T takes [P; Y] there.
    eye, zero = np.broadcast_to(np.eye(DIM), (2, DIM, DIM)), np.zeros((2, DIM, DIM))
    to_errors = np.block([[eye, zero], [-SLOPE[:, None, None] * eye, eye]])
    t = change @ to_errors
    of_z = t @ joint @ transposed(t)
    np.testing.assert_allclose(found.chol @ transposed(np.asarray(found.chol)), of_z, rtol=1e-9)
    white = np.asarray(found.change) @ to_errors
    identity = np.broadcast_to(np.eye(2 * DIM), joint.shape)
    np.testing.assert_allclose(white @ joint @ transposed(white), identity, atol=1e-10)
    np.testing.assert_allclose(found.inverse @ found.chol, identity, atol=1e-10)

    inflation = np.einsum("bii,bii->bi", of_z, np.linalg.inv(of_z)).max(axis=-1)
    np.testing.assert_allclose(found.inflation, inflation, rtol=1e-9)
    pivots = np.square(np.einsum("bii->bi", found.chol))
    floor = ALPHA * np.square(np.einsum("bii->bi", change))
    np.testing.assert_allclose(found.floor, floor, rtol=1e-12)
    assert np.all(pivots >= floor)


@pytest.mark.parametrize("basis", ["first", "further"])
def test_information_is_that_of_the_textbook(basis, pair, x64):
    p, y = pair
    pp, yp, yy = p @ transposed(p), y @ transposed(p), y @ transposed(y)
    m = yy - yp @ np.linalg.solve(pp + ALPHA * np.eye(DIM), transposed(yp))
    expected = np.linalg.slogdet(np.eye(DIM) + m / ALPHA)[1] / (2 * DIM)
    found = gaussian.information(whitened(p, y, changes()[basis], anchor=0.0))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_the_scatter_tells_of_the_truth(pair, x64):
    p, y = pair

    @quick_jit
    def run(scatter, slope, alpha):
        yy = gaussian.truth_scatter(scatter, slope)
        chol = gaussian.cholesky(gaussian.with_jitter(yy, alpha), alpha)
        explained = gaussian.explanatory_slope(scatter, slope, alpha)
        return yy, gaussian.entropy(chol, alpha), explained

    yy, entropy, slope = run(in_basis(p, y, np.eye(2 * DIM)), SLOPE, ALPHA)
    expected = y @ transposed(y)
    np.testing.assert_allclose(yy, expected, rtol=1e-10)
    expected = np.linalg.slogdet(np.eye(DIM) + expected / ALPHA)[1] / (2 * DIM)
    np.testing.assert_allclose(entropy, expected, rtol=1e-10)
    expected = np.sum(y * p, axis=(1, 2)) / (np.sum(p * p, axis=(1, 2)) + ALPHA)
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
