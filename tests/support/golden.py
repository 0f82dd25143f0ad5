"""The authors' own numbers: inputs, float64 losses and gradients of their code, 19 settings.

`meta` names the settings as their code does; `load` translates them to the library's options.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

import rmi_jax

_FILE = Path(__file__).parent / "data" / "rmi_official.npz"
_POOL = ("max", "avg", "interpolate")
CASES = tuple(range(19))


class Case(NamedTuple):
    logits: np.ndarray  # [B, H, W, C] float32
    labels: np.ndarray  # [B, H, W] int32, 255 where ignored
    loss: float
    grad: np.ndarray  # [B, H, W, C] float32
    options: dict


def load(case: int) -> Case:
    with np.load(_FILE) as file:
        meta = json.loads(str(file["meta"]))[case]
        arrays = [file[f"{name}_{case:02d}"] for name in ("logits", "labels", "loss", "grad")]
    logits, labels, loss, grad = arrays
    weight = meta["loss_weight_lambda"]
    mix = (
        {"bce_weight": weight}
        if meta["lambda_way"] == 1
        else {"bce_weight": 1.0, "rmi_weight": weight}
    )
    options = {
        **rmi_jax.PAPER,
        **mix,
        "downsampling": _POOL[meta["rmi_pool_way"]],
        "factor": meta["rmi_pool_stride"],
        "region_size": meta["rmi_radius"],
    }
    return Case(logits, labels, float(loss), grad, options)
