"""Checkpoints with Orbax: the state, the place in the data, and what the run is.

A checkpoint is written beside the others under a temporary name, and renamed when it is complete.
So whenever the process ends, the newest one with a proper name is complete. A copy of a folder may
still lack files: then the checkpoint before is read, with a message.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from segmentation import hosts
from segmentation.models import Weights

# What a checkpoint holds. To predict, the weights are enough, or their average if there is one.
WEIGHTS, AVERAGE, TRAINING, POSITION, RUN = "weights", "average", "training", "position", "run"


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
    manager: ocp.CheckpointManager,
    step: int,
    items: dict[str, Any],
    position: dict[str, Any],
    run: dict[str, Any],
) -> None:
    """Copies the arrays, then writes them while training goes on.

    An error of the checkpoint before this one shows here too, as in `finish`.
    """
    saved: dict[str, ocp.args.CheckpointArgs] = {
        name: ocp.args.StandardSave(item) for name, item in items.items()
    }
    saved[POSITION] = ocp.args.JsonSave(position)
    saved[RUN] = ocp.args.JsonSave(run | {"items": list(items)})
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


class Found(NamedTuple):
    """The newest checkpoint that can be read."""

    step: int
    items: dict[str, Any]
    position: dict[str, Any]
    damaged: dict[int, str]  # newer ones, and why they cannot be read


class Unreadable(RuntimeError):
    """There are checkpoints, and none of them can be read. The message says why."""


def restore(manager: ocp.CheckpointManager, like: dict[str, Any]) -> Found | None:
    """The newest checkpoint, with its arrays on the devices of `like`; None if there is none."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    wanted: dict[str, ocp.args.CheckpointArgs] = {
        name: ocp.args.StandardRestore(item) for name, item in abstract.items()
    }
    wanted[POSITION] = ocp.args.JsonRestore()
    damaged = {}
    for step in sorted(manager.all_steps(), reverse=True):
        found, problem = None, "another process cannot read it"
        try:
            found = manager.restore(step, args=ocp.args.Composite(**wanted))
        except Exception as error:  # of an incomplete copy: whatever Orbax happens to need next
            problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if hosts.all_agree(found is not None):
            assert found is not None  # as this process agrees
            return Found(step, {name: found[name] for name in like}, found[POSITION], damaged)
        damaged[step] = problem
    if damaged:
        raise Unreadable(f"No checkpoint in {manager.directory} can be read.{listed(damaged)}")
    return None


def listed(damaged: dict[int, str]) -> str:
    return "".join(f"\nThat of step {step}: {problem}" for step, problem in damaged.items())


def set_aside(manager: ocp.CheckpointManager, found: Found) -> None:
    """Renames damaged checkpoints, whose steps will come again: to `STEP.damaged`, or with more."""
    if not found.damaged:
        return
    if hosts.is_first():
        for step in found.damaged:
            folder = Path(manager.directory) / str(step)
            name = f"{step}.damaged"
            while folder.with_name(name).exists():
                name += ".again"
            folder.rename(folder.with_name(name))
    hosts.wait("damaged checkpoints are set aside")
    manager.reload()


def record(folder: Path) -> dict[str, Any] | None:
    """What the newest readable checkpoint says of the run: its options and data."""
    # Read as files, by one process if need be: Orbax's manager would wait for all of them.
    for step in sorted(steps(folder), reverse=True):
        try:
            found = json.loads((folder / str(step) / RUN / "metadata").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and "options" in found:
            return found
    return None


def weights(folder: Path, like: Weights) -> tuple[int, Weights]:
    """The step of the newest checkpoint that can be read, and the weights to predict with."""
    known = record(folder) or {}
    has_average = AVERAGE in known.get("items", ())
    name = AVERAGE if has_average else WEIGHTS
    with opened(folder) as manager:
        try:
            found = restore(manager, {name: like})
        except Unreadable as error:
            raise SystemExit(str(error)) from error
    if found is None:
        raise SystemExit(f"{folder} holds no checkpoint")
    if found.damaged:
        print(f"Going back to step {found.step}.{listed(found.damaged)}", file=sys.stderr)
    return found.step, found.items[name]
