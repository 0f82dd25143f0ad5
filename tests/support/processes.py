"""Tests in processes of their own, for JAX fixes the number of devices when it starts.

A file of tests that is run as a script prints one JSON line per case.
"""

import json
import math
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from compiling import quick_flags

SUPPORT = str(Path(__file__).parent)
MOVES = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")


@cache
def run_in_process(script, devices, *arguments):
    """Runs a file of tests as a script, on virtual devices."""
    environment = {
        **os.environ,
        "XLA_FLAGS": quick_flags(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join((*filter(None, [os.environ.get("PYTHONPATH")]), SUPPORT)),
    }
    return subprocess.run(
        [sys.executable, script, str(devices), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


def lines_of(done):
    """The lines that a script printed, by case."""
    assert done.returncode == 0, done.stderr[-4000:]
    # JAX 0.12 prints a line of its own where a program is lowered for a mesh.
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {tuple(line["case"]): line for line in lines}


def communicated(program):
    """All communication in compiled HLO text: name, elements of one result, whether in a loop."""
    operation = re.compile(rf" = (.*?) ({'|'.join(MOVES)}|all-reduce|ragged-all-to-all)(-start)?\(")
    found, calls, loops, here = [], {}, set(), ""
    for line in program.splitlines():
        header = re.match(r"(?:ENTRY )?%([\w.-]+) \(.*{$", line)
        here = header[1] if header else here
        named = re.findall(r"%([\w.-]+)", line)
        calls.setdefault(here, set()).update(named)
        if " while(" in line:
            loops.update(named)
        match = operation.search(line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            sizes = [math.prod(int(n) for n in s.split(",") if n) for s in shapes]
            found.append((match[2], max(sizes), here))
    inside, computations = set(), loops & calls.keys()
    while computations:
        inside |= computations
        computations = set.union(*(calls[c] for c in computations)) & calls.keys() - inside
    return [(name, size, here in inside) for name, size, here in found]
