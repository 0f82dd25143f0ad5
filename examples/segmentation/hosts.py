"""Several processes: how they find each other, and on which devices arrays lie."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from segmentation.config import Hosts


def connect(hosts: "Hosts") -> None:
    """Joins the other processes. Before anything else that JAX does.

    Each tells the coordinator that it lives. When one has been silent for `timeout` seconds, JAX
    ends all others with an error, even those that wait for it inside a collective operation.
    """
    if hosts.coordinator is None:
        return
    if hosts.coordinator == "auto":
        jax.distributed.initialize(heartbeat_timeout_seconds=hosts.timeout)
        return
    jax.distributed.initialize(
        hosts.coordinator,
        hosts.count,
        hosts.index,
        heartbeat_timeout_seconds=hosts.timeout,
        initialization_timeout=max(hosts.timeout, 60),
    )


def is_first() -> bool:
    """Whether this process speaks for all: prints, and writes everything but checkpoints."""
    return jax.process_index() == 0


def shard() -> tuple[int, int]:
    return jax.process_index(), jax.process_count()


class Placement(NamedTuple):
    """The devices of all processes as one row: where arrays lie."""

    everywhere: NamedSharding  # a copy on each device
    spread: NamedSharding  # the first axis, shared out


def placement(batch: int, parts: int) -> Placement:
    mesh = Mesh(np.array(jax.devices()), ("data",))
    if batch % (mesh.size * parts):  # with uneven parts, pictures would move between devices
        times = f" times --accumulate {parts}" if parts > 1 else ""
        raise SystemExit(f"--batch {batch} must be a multiple of the {mesh.size} devices{times}")
    return Placement(
        NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    )


def all_agree(yes: bool) -> bool:
    """Whether it is so in every process."""
    return bool(np.all(multihost_utils.process_allgather(np.array(yes))))


def wait(name: str) -> None:
    """Until every process is at this point of the program."""
    multihost_utils.sync_global_devices(name)


def summed(counts: np.ndarray) -> np.ndarray:
    """The sum of int64 counts over processes, the same in each."""
    # What JAX sends has 32 bits, and counts of pixels may have more: in two halves.
    halves = np.stack([counts >> 24, counts & (2**24 - 1)]).astype(np.int32)
    gathered = np.asarray(multihost_utils.process_allgather(halves), np.int64)
    high, low = gathered.reshape(-1, *halves.shape).sum(0)
    return (high << 24) + low
