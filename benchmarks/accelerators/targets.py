"""Devices to compile for. None of them has to be there: XLA needs a description only."""

import os
from typing import NamedTuple

# For the process that compiles, before JAX is imported.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",  # ask no cloud which machine this is
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Target(NamedTuple):
    platform: str
    name: str  # of the topology (TPU) or of the target configuration (CUDA)
    bandwidth: float  # bytes per second of the main memory
    clock: float = 0.0  # of the cycles that the compiler estimates, Hz; 0: it estimates none
    launch: float = 0.0  # seconds to start a kernel
    sync: float = 0.0  # seconds for the host to read what decides the next step
    flops: float = 0.0  # float32 operations per second
    granule: int = 1  # bytes that memory reads at least


TARGETS = {
    "v5e": Target("tpu", "v5e:2x2", 819e9, clock=1.5e9),
    "v6e": Target("tpu", "v6e:2x2", 1640e9, clock=1.75e9),
    "h100": Target("cuda", "h100", 3.35e12, launch=3e-6, sync=3e-6, flops=67e12, granule=32),
}

# What XLA asks of a GPU, here of an H100 SXM with 80 GB.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  device_memory_size: 84978434048
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def sharding(target: Target):
    """Where arrays must lie so that a program of them is compiled for the target."""
    missing = [key for key in ENVIRONMENT if key not in os.environ]
    if missing:
        raise RuntimeError(f"set {missing} before JAX is imported, see {__name__}.ENVIRONMENT")
    import jax
    from jax.experimental import topologies

    options = {"topology_name": target.name}
    if target.platform == "cuda":
        options = {"target_config": _H100, "topology": "1x1x1"}
    described = topologies.get_topology_desc(platform=target.platform, **options)
    return jax.sharding.SingleDeviceSharding(described.devices[0])
