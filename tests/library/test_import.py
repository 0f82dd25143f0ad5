"""`import rmi_jax` stays light: nothing heavy, and little time."""

import json
import subprocess
import sys

_SCRIPT = """
import json, sys, time
import jax
before = set(sys.modules)
of_jax = time.process_time()  # what has run so far is little else
import rmi_jax
share = time.process_time() / of_jax - 1
print(json.dumps([share, sorted(set(sys.modules) - before), sorted(sys.modules)]))
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
    # Processor time, the best of three. On an idle machine importing jax takes 0.6 s and more, of
    # which this is 0.3 s.
    assert min(share for share, *_ in runs) < 0.5
