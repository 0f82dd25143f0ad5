"""Region Mutual Information loss for semantic segmentation, as pure JAX functions."""

from rmi_jax import metrics
from rmi_jax.downsampling import downsample
from rmi_jax.information import region_information_loss, region_mutual_information
from rmi_jax.losses import PAPER, rmi_loss, soft_rmi_loss
from rmi_jax.objective import LossParts
from rmi_jax.regions import extract_regions
from rmi_jax.schedules import warmup_schedule

__version__ = "0.1.0"  # the one place: pyproject.toml reads it

__all__ = [
    "PAPER",
    "LossParts",
    "downsample",
    "extract_regions",
    "metrics",
    "region_information_loss",
    "region_mutual_information",
    "rmi_loss",
    "soft_rmi_loss",
    "warmup_schedule",
]
