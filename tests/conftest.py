"""Fixtures shared by all tests."""

import contextlib
import os
import random

import jax
import pytest

IMPLEMENTATIONS = ("patches", "streaming")
SEED = "RMI_JAX_SEED"  # of the inputs that the long tests of properties search


def pytest_configure():
    # Here, so that all processes of pytest-xdist have the same.
    os.environ.setdefault(SEED, str(random.randrange(10**6)))


def pytest_terminal_summary(terminalreporter):
    found = [dict(report.user_properties) for report in terminalreporter.getreports("")]
    examples = sum(properties.get("examples", 0) for properties in found)
    if examples:
        terminalreporter.write_line(f"properties: {examples} examples, {SEED}={os.environ[SEED]}")


def enable_x64(enabled=True):
    """64-bit types within a `with` block, under the name this JAX version has for it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64

    return enable_x64(enabled)


def quick_jit(function, **options):
    """`jax.jit` without the compiler's optimizations, which halves the time to compile.

    For wide tables, which show whether formulas are right. The conformance tests of the
    transformations and the long tests compile as users do.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    return request.param


@pytest.fixture
def x64():
    with enable_x64():
        yield


@pytest.fixture
def precision(request):
    """64-bit types where the test's parameter ``dtype`` asks for them."""
    wide = request.getfixturevalue("dtype") == "float64"
    with enable_x64() if wide else contextlib.nullcontext():
        yield
