"""The statistics of one pair of region vectors, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from rmi_jax import gaussian, matrices

ALPHA, TAU, DIM = 0.1, 0.3, 3


def transposed(a):
    return np.swapaxes(a, -1, -2)


# Everything is computed from `[P; Y]` here, and from z = C [P; D] there.


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


def test_noise_does_not_multiply():
    """J >= alpha I, so that exact entries of ``K^-1 C`` are at most sqrt((1 + s^2) / alpha)."""
    rng = np.random.default_rng(4)
    alpha, anchor, dim = 5e-4, 1e6, 9
    # One column tells nearly all of the others, and float32 nothing of what is left.
    y = rng.normal(size=(8, dim, 1)) * rng.normal(size=(8, 1, 400))
    y += 1e-4 * rng.normal(size=y.shape)
    p = y + 1e-5 * rng.normal(size=y.shape)
    z = np.concatenate([p, y - p], axis=1).astype("float32")
    slope = np.ones(8, "float32")
    identity = np.broadcast_to(np.eye(2 * dim, dtype="float32"), (8, 2 * dim, 2 * dim))
    copies = np.concatenate([y, 0 * y], axis=1).astype("float32")  # D = (1 - s) Y
    prior = gaussian.Prior(jnp.float32(alpha), jnp.float32(anchor))
    scatter, itself = (jnp.asarray(x @ transposed(x)) for x in (z, copies))
    found = quick_jit(gaussian.whiten)(scatter, itself, jnp.asarray(identity), slope, prior)
    assert np.all(np.abs(found.change) < 2 / np.sqrt(alpha))


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
        chol = matrices.cholesky(gaussian.with_jitter(yy, alpha), alpha)
        explained = gaussian.explanatory_slope(scatter, slope, alpha)
        return yy, gaussian.entropy(chol, alpha), explained

    yy, entropy, slope = run(in_basis(p, y, np.eye(2 * DIM)), SLOPE, ALPHA)
    expected = y @ transposed(y)
    np.testing.assert_allclose(yy, expected, rtol=1e-10)
    expected = np.linalg.slogdet(np.eye(DIM) + expected / ALPHA)[1] / (2 * DIM)
    np.testing.assert_allclose(entropy, expected, rtol=1e-10)
    expected = np.sum(y * p, axis=(1, 2)) / (np.sum(p * p, axis=(1, 2)) + ALPHA)
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
