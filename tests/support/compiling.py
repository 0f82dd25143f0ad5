"""How the tests compile and run what they test."""

import contextlib
import functools

import jax
import pytest

IMPLEMENTATIONS = ("patches", "streaming")
SEED = "RMI_JAX_SEED"  # of the inputs that the long tests of properties search


def enable_x64(enabled=True):
    """64-bit types within a `with` block, under the name this JAX version has for it."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(enabled)


# Together they take three quarters of the time to compile away.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


@functools.cache
def quick_options():
    """Those of ``QUICK`` that this version's compiler knows."""

    def known(name):
        try:
            jax.jit(lambda: 0, compiler_options={name: QUICK[name]})()
        except RuntimeError:
            return False
        return True

    return {name: QUICK[name] for name in QUICK if known(name)}


def quick_flags(devices):
    """XLA_FLAGS of a process of its own: the same, and how many virtual devices it has."""
    options = {"xla_force_host_platform_device_count": devices, **quick_options()}
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())


OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}

_platform_dependent = jax.lax.platform_dependent


@contextlib.contextmanager
def _traced_for_cpus():
    """Leaves out, in what is traced here, the program's parts for other platforms: half of it."""
    if jax.lax.platform_dependent is not _platform_dependent:  # a test has its own
        yield
        return
    jax.lax.platform_dependent = lambda *args, default, cpu=None, **_: (cpu or default)(*args)
    try:
        yield
    finally:
        jax.lax.platform_dependent = _platform_dependent


def quick_jit(function, **options):
    """`jax.jit` with as little work for the compiler as possible, of the program for CPUs alone.

    For wide tables, which show whether formulas are right.
    """

    @functools.wraps(function)
    def traced(*args, **kwargs):
        with _traced_for_cpus():
            return function(*args, **kwargs)

    return jax.jit(traced, compiler_options=quick_options(), **options)


def optimized_jit(function, **options):
    """`jax.jit` as users have it, with the optimizations that other tests do without.

    For the engine's own tests, jit = eager, filtered truths, and of the long tests the long run,
    the finite losses and the table of region terms.
    """
    return jax.jit(function, compiler_options=OPTIMIZED, **options)


# Where both are compared with something else in the quick run. From there on the reference follows
# streaming, which the quick run shows to be equal to it.
both_implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
