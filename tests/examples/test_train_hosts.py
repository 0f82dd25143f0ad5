"""`examples/train.py` in two processes that meet over loopback (`pytest -m examples`)."""

import json
import socket
import time

import numpy as np
import pytest
import training
from training import UNET, saved

pytestmark = pytest.mark.examples

STEPS = 12
PATIENCE = 180  # seconds in which a process has to notice that the other one is gone


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start_pair(*arguments, cache):
    """Two processes with two devices each: one command, but for its last number."""
    port = free_port()
    hosts = ("--hosts.coordinator", f"localhost:{port}", "--hosts.count", 2, "--hosts.timeout", 20)
    return [
        training.start(
            "train.py", *training.SMALL, *arguments, *hosts, "--hosts.index", index,
            cache=cache, devices=2,
        )
        for index in (0, 1)
    ]  # fmt: skip


def kill_one(pair, which, folder, name):
    """SIGKILL to one of them; the other must end by itself, and not as if all were well."""
    training.kill_when(pair[which], folder / "checkpoints", name)
    killed = time.monotonic()
    training.finish(pair[1 - which], code=None)
    assert time.monotonic() - killed < PATIENCE


def records(folder, key):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def last_saved(folder):
    return max(int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdigit())


def times(folder, last):
    """How long each step took, up to the last: no two runs of a step agree on that."""
    return {step: value for step, value in records(folder, "seconds").items() if step <= last}


def test_two_processes_train_as_one_and_survive_the_loss_of_either(tmp_path):
    options = (*training.data(tmp_path / "data"), *UNET, "--steps", STEPS, "--keep", STEPS)
    alone, together, cache = tmp_path / "alone", tmp_path / "together", tmp_path / "cache"
    training.train(*options, "--output", alone, cache=cache)

    options = (*options, "--output", together)
    kill_one(start_pair(*options, cache=cache), 1, together, "3")
    reached = last_saved(together)
    assert 3 <= reached < STEPS

    # On two processes again; this time the one that coordinates is lost.
    before = times(together, reached)
    pair = start_pair(*options, cache=cache)
    kill_one(pair, 0, together, "8")
    assert not (together / "checkpoints" / str(STEPS)).exists()
    assert times(together, reached) == before  # these steps were not done again

    reached = last_saved(together)
    assert reached >= 8
    before = times(together, reached)
    printed = training.train(*options, cache=cache)  # and to the end on one process
    assert f"going on from step {reached}" in printed
    assert times(together, reached) == before
    for key in ("loss", "information", "miou"):
        expected, found = records(alone, key), records(together, key)
        # Averages end where a run was interrupted, so not all stand for the same steps.
        assert {4, 8, 12} <= found.keys()
        common = sorted(expected.keys() & found.keys())
        np.testing.assert_allclose(
            [found[step] for step in common],
            [expected[step] for step in common],
            rtol=1e-3,
            atol=1e-5,  # an early prediction explains some thousandths of its truth
        )
    ours, theirs = saved(together, STEPS), saved(alone, STEPS)
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name.startswith("weights"):
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-3, err_msg=name)


def test_wrong_addresses_and_batches_are_refused(tmp_path):
    assert "--hosts.coordinator" in training.train("--hosts.count", 2, code=1)
    hosts = ("--hosts.count", 2, "--hosts.coordinator", "localhost:1")
    printed = training.train("--batch", 3, *hosts, code=1)
    assert "--batch 3 must be a multiple" in printed
    printed = training.train(*UNET, "--batch", 3, "--output", tmp_path, code=1, devices=2)
    assert "--batch 3 must be a multiple of the 2 devices" in printed
    printed = training.train(*UNET, "--accumulate", 4, "--output", tmp_path, code=1, devices=2)
    assert "--batch 4 must be a multiple of the 2 devices times --accumulate 4" in printed
