"""Runs of the examples in processes of their own, small and quick to compile."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import miniature
import numpy as np
import orbax.checkpoint as ocp
from compiling import quick_flags
from etils import epath

ROOT = Path(__file__).parents[2]
STEPS = 6

# Dropout, batch normalization and a moving average: all that a checkpoint may hold. And a warm-up.
DEEPLAB = (
    "--model", "deeplabv3plus", "--backbone", "tiny", "--ema", "0.9", "--clip", "1",
    "--accumulate", "2", "--rmi.warmup", "0.3",
)  # fmt: skip
UNET = ("--model", "unet", "--optimizer", "adamw", "--learning-rate", "1e-3")
SMALL = (
    "--dtype", "float32", "--crop", "32", "32", "--batch", "4", "--eval-batch", "16",
    "--steps", str(STEPS), "--save-every", "1", "--eval-every", "4", "--log-every", "2",
    "--keep", str(STEPS),
)  # fmt: skip


def data(folder: Path) -> tuple[str, ...]:
    miniature.build("folder", folder, count=6)
    return ("--data", "folder", "--root", str(folder))


def start(
    script: str,
    *arguments: object,
    cache: Path | None = None,
    devices: int = 1,
    file_size: int | None = None,
    modules: Path = ROOT,
) -> subprocess.Popen:
    """Starts a script of the examples, or a module in their folder.

    Args:
        script: the name of its file, as "train.py", or of the module, as "studies.earlier".
        *arguments: for it.
        cache: folder of compiled programs.
        devices: how many it sees.
        file_size: KiB above which writes to a file fail, as they do on a full disk.
        modules: folder whose modules come before installed ones.
    """
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(modules),
        # Compiling is what takes the time here.
        "XLA_FLAGS": quick_flags(devices),
    }
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    limited = () if file_size is None else ("bash", "-c", f'ulimit -f {file_size}; exec "$@"', "-")
    examples = ROOT / "examples"
    is_file = script.endswith(".py")
    program = (str(examples / script),) if is_file else ("-m", script)
    return subprocess.Popen(
        [*limited, sys.executable, "-W", "error", *program, *map(str, arguments)],
        cwd=None if is_file else examples,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ended(process: subprocess.Popen, code: int | None = 0, timeout: float = 600) -> tuple[str, str]:
    """What it printed, and its errors; `code` None for any but 0."""
    try:
        printed, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    status = process.returncode
    assert status == code if code is not None else status != 0, (status, printed, errors[-4000:])
    return printed, errors


def finish(process: subprocess.Popen, code: int | None = 0, timeout: float = 600) -> str:
    """All that it wrote; `code` None for any but 0."""
    return "".join(ended(process, code, timeout))


def run(script: str, *arguments: object) -> str:
    """What a script of the examples printed, which must end well; without its errors."""
    return ended(start(script, *arguments))[0]


def train(*arguments: object, code: int = 0, **options) -> str:
    return finish(start("train.py", *SMALL, *arguments, **options), code)


def kill_when(process: subprocess.Popen, folder: Path, name: str) -> None:
    """SIGKILL as soon as the folder holds a name that matches the pattern."""
    wait_for(process, folder, name)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for(process: subprocess.Popen, folder: Path, name: str) -> None:
    end = time.monotonic() + 600
    while not any(folder.glob(name)):
        assert process.poll() is None, process.communicate()
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError(f"no {name} in {folder} after 600 s: {process.communicate()}")
        time.sleep(0.002)


def saved(run: Path, step: int = STEPS) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path, whatever devices it was saved from."""
    arrays = {}
    for item in ("weights", "average", "training"):
        folder = epath.Path(run) / "checkpoints" / str(step) / item
        if not folder.exists():
            continue
        handler = ocp.PyTreeCheckpointHandler()
        metadata = handler.metadata(folder).tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
        tree = handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        handler.close()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[item + jax.tree_util.keystr(path)] = leaf
    return arrays


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not np.array_equal(first[name], second[name])]
    assert not different, different
