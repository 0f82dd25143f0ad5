"""Which values each option of train.py may have, in a table, and the check before any work."""

import math
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from segmentation.config import Config

LARGEST = 2**31 - 1


class Range(NamedTuple):
    holds: Callable[[Any], bool]  # of a value, or of each of several
    wanted: str


COUNT = Range(lambda v: 1 <= v <= LARGEST, f"at least 1, and at most {LARGEST}")
INDEX = Range(lambda v: 0 <= v <= LARGEST, f"at least 0, and at most {LARGEST}")
FIFTH = Range(lambda v: 0 <= v <= 4, "from 0 to 4")
NUMBER = Range(lambda v: v >= 1, "at least 1")
POSITIVE = Range(lambda v: 0 < v < math.inf, "above 0 and finite")
NOT_NEGATIVE = Range(lambda v: 0 <= v < math.inf, "at least 0 and finite")
ANCHOR = Range(lambda v: 0 <= v <= 1e6, "from 0 to 1e6")
SHARE = Range(lambda v: 0 <= v <= 1, "from 0 to 1")
DECAY = Range(lambda v: 0 <= v < 1, "at least 0 and below 1")

RANGES = {
    "fold": FIFTH,
    "max_pixels": NUMBER,
    "steps": COUNT,
    "batch": COUNT,
    "accumulate": COUNT,
    "crop": COUNT,
    "scale": POSITIVE,
    "seed": INDEX,
    "workers": INDEX,
    "learning_rate": POSITIVE,
    "head_rate": NOT_NEGATIVE,
    "power": NOT_NEGATIVE,
    "warmup_steps": INDEX,
    "weight_decay": NOT_NEGATIVE,
    "clip": POSITIVE,
    "ema": DECAY,
    "eval_every": COUNT,
    "eval_batch": COUNT,
    "save_every": COUNT,
    "keep": COUNT,
    "log_every": COUNT,
    "rmi.factor": COUNT,
    "rmi.region_size": COUNT,
    "rmi.bce_weight": SHARE,
    "rmi.anchor": ANCHOR,
    "rmi.warmup": SHARE,
    "rmi.transition": SHARE,
    "hosts.count": COUNT,
    "hosts.index": INDEX,
    "hosts.timeout": COUNT,
}


def check(config: "Config") -> None:
    """Ends with a message that names the flag."""
    for name, allowed in RANGES.items():
        value = reduce(getattr, name.split("."), config)
        values = value if isinstance(value, tuple) else (value,)
        if value is not None and not (values and all(map(allowed.holds, values))):
            shown = " ".join(map(str, values)) or "nothing"
            flag = name.replace("_", "-")
            raise SystemExit(f"--{flag} must be {allowed.wanted}, got {shown}")
    for is_wrong, message in together(config):
        if is_wrong:
            raise SystemExit(message)


def together(config: "Config") -> list[tuple[bool, str]]:
    """What is wrong with options that depend on each other."""
    hosts, ships = config.hosts, config.data in ("water", "land-cover")
    low, high = config.scale
    parts = config.accumulate * hosts.count
    return [
        (low > high, f"--scale must be the smaller factor first, got {low} {high}"),
        (
            config.warmup_steps >= config.steps,
            f"--warmup-steps {config.warmup_steps} must be below --steps {config.steps}",
        ),
        (
            hosts.index >= hosts.count,
            f"--hosts.index must be below --hosts.count {hosts.count}, got {hosts.index}",
        ),
        (
            hosts.coordinator not in (None, "auto") and not is_address(hosts.coordinator),
            f'--hosts.coordinator must be HOST:PORT or "auto", got {hosts.coordinator}',
        ),
        (
            hosts.count > 1 and hosts.coordinator is None,
            "--hosts.count above 1 needs --hosts.coordinator HOST:PORT",
        ),
        (
            config.batch % parts > 0,
            f"--batch {config.batch} must be a multiple of --accumulate {config.accumulate} times "
            f"--hosts.count {hosts.count}",
        ),
        (
            config.model == "unet" and any(side % 4 for side in config.crop),
            f"--crop: the U-Net needs multiples of 4, got {config.crop}",
        ),
        (
            config.model == "unet" and config.weights is not None,
            "--weights is for a network with a backbone: --model deeplabv3plus",
        ),
        (
            not ships and config.root is None,
            f"--data {config.data} needs --root, the data set's folder",
        ),
        (
            ships and config.root is not None,
            f"--root {config.root}: --data {config.data} ships with the examples. Name the layout "
            "of that folder with --data",
        ),
        (
            config.data != "folder" and config.table is not None,
            f"--table is for --data folder, but --data is {config.data}",
        ),
    ]


def is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16
