"""`import rmi_jax` stays light: nothing heavy, and little time."""

import json
import subprocess
import sys

_SCRIPT = """
import json, sys, time
import jax
before = set(sys.modules)
start = time.process_time()
import rmi_jax
seconds = time.process_time() - start
print(json.dumps([seconds, sorted(set(sys.modules) - before), sorted(sys.modules)]))
"""


def _import_in_a_fresh_interpreter():
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_import_is_light_and_fast():
    runs = [_import_in_a_fresh_interpreter() for _ in range(3)]
    _, added, loaded = runs[0]
    heavy = {"flax", "torch", "tensorflow", "matplotlib", "PIL", "scipy", "sklearn", "tyro", "rich"}
    assert not heavy & {name.partition(".")[0] for name in added}
    assert not any(name.partition(".")[0] == "flax" for name in loaded)
    # Processor time, the best of three: a busy machine only ever adds to it.
    assert min(seconds for seconds, *_ in runs) < 0.3
