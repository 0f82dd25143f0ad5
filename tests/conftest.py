"""Fixtures shared by all tests."""

import contextlib
import gc
import os
import random

import jax
import pytest
from compiling import SEED, enable_x64


def pytest_configure():
    # The lines of Python behind every operation would take a quarter of the time to lower.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    # Nor need what runs once be fast to run: data, references, single operations of eager code.
    # `optimized_jit` compiles as users do.
    jax.config.update("jax_disable_most_optimizations", True)
    # Traces are many small objects, and looking through them for cycles a twentieth of all time.
    gc.set_threshold(100_000, 50, 50)
    # Here, so that all processes of pytest-xdist have the same.
    os.environ.setdefault(SEED, str(random.randrange(10**6)))


def pytest_terminal_summary(terminalreporter):
    found = [dict(report.user_properties) for report in terminalreporter.getreports("")]
    examples = sum(properties.get("examples", 0) for properties in found)
    if examples:
        terminalreporter.write_line(f"properties: {examples} examples, {SEED}={os.environ[SEED]}")


@pytest.fixture(params=["streaming", pytest.param("patches", marks=pytest.mark.slow)])
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


@pytest.fixture
def take_choices_of(monkeypatch):
    """Takes every choice between platforms as one would, and lists those not taken by a CPU."""

    def take(platform):
        choices = []

        def choose(*args, default, **others):
            chosen = others.get(platform, default)
            if chosen is not others.get("cpu", default):
                choices.append(chosen)
            return chosen(*args)

        monkeypatch.setattr(jax.lax, "platform_dependent", choose)
        return choices

    return take
