"""Checkpoints with Orbax: the state, and the place in the data.

A checkpoint is written beside the others under a temporary name, and renamed when it is complete.
So at any moment the newest one with a proper name is whole, whatever happens to the process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from segmentation.models import Network, Weights

# Items of a checkpoint. Predicting needs only the weights, or their average where there is one.
WEIGHTS, AVERAGE, TRAINING, POSITION = "weights", "average", "training", "position"


class SaveError(RuntimeError):
    """A checkpoint could not be written. The ones before it are as they were."""


@contextmanager
def opened(folder: Path, keep: int | None = None) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints in a folder, made if need be; with `keep` None, only to read."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, cleanup_tmp_directories=keep is not None, read_only=keep is None
    )
    manager = ocp.CheckpointManager(folder.absolute(), options=options)
    try:
        yield manager
    finally:
        manager.close()


def steps(folder: Path) -> list[int]:
    """Those of the complete checkpoints in a folder."""
    return [int(path.name) for path in folder.glob("*") if path.name.isdigit()]


def save(
    manager: ocp.CheckpointManager, step: int, items: dict[str, Any], position: dict[str, Any]
) -> None:
    """Copies the arrays, then writes them while training goes on.

    An error of the checkpoint before this one shows here too, as in `finish`.
    """
    saved = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    saved[POSITION] = ocp.args.JsonSave(position)
    try:
        manager.save(step, args=ocp.args.Composite(**saved))
    except Exception as error:  # a full disk has many names on its way up
        raise SaveError(str(error)) from error


def finish(manager: ocp.CheckpointManager) -> None:
    """Waits until all is written."""
    try:
        manager.wait_until_finished()
    except Exception as error:
        raise SaveError(str(error)) from error


def restore(
    manager: ocp.CheckpointManager, like: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Items of the newest checkpoint, laid out over devices as `like` is, and the position."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    wanted = {name: ocp.args.StandardRestore(item) for name, item in abstract.items()}
    wanted[POSITION] = ocp.args.JsonRestore()
    found = manager.restore(manager.latest_step(), args=ocp.args.Composite(**wanted))
    return {name: found[name] for name in like}, found[POSITION]


def weights(folder: Path, network: Network) -> tuple[int, Weights]:
    """The step of the newest checkpoint, and the weights to predict with."""
    with opened(folder) as manager:
        step = manager.latest_step()
        if step is None:
            raise SystemExit(f"{folder} holds no checkpoint")
        name = AVERAGE if (folder / str(step) / AVERAGE).exists() else WEIGHTS
        found, _ = restore(manager, {name: network.weights})
    return step, found[name]
