"""What TPUs and GPUs would run, compiled without one: none of the patterns that are slow there.

A quick form of `python -m benchmarks.accelerators`, which estimates times as well. On a CUDA target
shapes cost no time to compile; on a TPU they do.
"""

import functools
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WHEELS = {"v5e": "libtpu", "h100": "jax_plugins.xla_cuda12"}
FULL, SMALL = (16, 513, 513, 21), (2, 65, 65, 21)

# (target, case, shape, bound of temporaries + outputs over the logits)
PROGRAMS = [
    ("h100", "ce-sigmoid", FULL, 1.1),
    ("h100", "four-sigmoid", FULL, 2.2),
    ("h100", "one-sigmoid", FULL, 2.2),
    ("h100", "one-softmax", FULL, 2.2),
    ("h100", "one-bfloat16", FULL, 2.2),
    ("v5e", "ce-sigmoid", SMALL, 1.2),
    ("v5e", "four-bfloat16", FULL, 2.2),
]

pytestmark = pytest.mark.accelerators


@functools.cache
def compiled(target, case, shape):
    command = [sys.executable, "-m", "benchmarks.accelerators.compiling", target, case]
    command += ["--shape", *map(str, shape)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(params=PROGRAMS, ids=lambda program: "-".join(program[:2]))
def program(request):
    target, case, shape, bound = request.param
    pytest.importorskip(WHEELS[target], reason="compilers are in the `accelerators` extra")
    return compiled(target, case, shape), bound


def few(program):
    """The estimate for the fewest visits."""
    return program[0]["visits"]["5"]


def test_nothing_is_gathered_over_pixels(program):
    assert few(program)["gathers over pixels"] == []


def test_no_loop_writes_whole_maps(program):
    assert few(program)["whole maps written in a loop"] == []


def test_the_host_waits_for_no_strip(program):
    # But for a slot it does, to know whether there is a next one.
    assert few(program)["syncs in a loop"] == []


def test_temporaries_are_bounded(program):
    found, bound = program
    assert found["temporaries"] + found["outputs"] <= bound * found["outputs"]
