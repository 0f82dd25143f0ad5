"""Every tolerance of the tests, by dtype of the input, in one place.

Values are compared absolutely, in nats per class; gradients in norm, relative to the norm of the
expected gradient. Statistics of 16-bit inputs are float32, so only the rounding of the gradient to
the input's dtype is added.
"""

import numpy as np

VALUE = {"float64": 1e-9, "float32": 3e-5, "bfloat16": 3e-5, "float16": 3e-5}
GRAD = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 4e-3, "float16": 1e-3}

# Against the authors' numbers: the file stores float32, and they add 1e-8 inside the logarithm.
# Values here are relative to max(1, |value|).
GOLDEN_VALUE = {"float64": 1e-6, "float32": 1e-4}
GOLDEN_GRAD = {"float64": 1e-5, "float32": 1e-3}

# Properties meet every magnitude, losses of 1e30 and gradients of zero: errors are in norm and
# relative to max(1, norm).
PROPERTY = {"float64": 1e-8}
# Against finite differences of the fourth order, likewise.
DIFFERENCE = {"float64": 1e-6}


def assert_value(actual, expected, dtype, table=VALUE):
    """Asserts that all values agree to the tolerance of ``dtype``, absolutely."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.all(np.isfinite(actual)), "a value is not finite"
    error = np.max(np.abs(actual - expected), initial=0)
    assert error <= table[str(dtype)], f"off by {error:.3g}, allowed {table[str(dtype)]:.3g}"


def assert_grad(actual, expected, dtype, table=GRAD):
    """Asserts that two gradients agree in norm, relative to the expected one's."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.all(np.isfinite(actual)), "a gradient is not finite"
    norm = np.linalg.norm(expected)
    assert norm > 0, "an expected gradient of zero makes a relative comparison empty"
    error = np.linalg.norm(actual - expected) / norm
    assert error <= table[str(dtype)], f"off by {error:.3g}, allowed {table[str(dtype)]:.3g}"


def assert_close(actual, expected, dtype, table=PROPERTY):
    """Asserts that arrays agree in norm, relative to max(1, norm of the expected one)."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.all(np.isfinite(actual)), "not finite"
    error = np.linalg.norm(actual - expected) / max(1, np.linalg.norm(expected))
    assert error <= table[str(dtype)], f"off by {error:.3g}, allowed {table[str(dtype)]:.3g}"
