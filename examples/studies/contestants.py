"""The contestants by name: what they are called in tables, and the options of those with RMI."""

from typing import Any

# Every option is written out, so that no change of a default changes a study.
PAPER: dict[str, Any] = {
    "activation": "sigmoid", "factor": 4, "region_size": 3, "ignored": "zero", "bce_weight": 0.5,
    "jitter": 5e-4, "anchor": 0.0,
}  # fmt: skip
SOFTMAX = {**PAPER, "activation": "softmax", "factor": 1, "ignored": "exclude"}
SMALL = {**SOFTMAX, "anchor": 0.01}

# SMALL with one option changed at a time. Other anchors are among the contestants already.
DOSES = {
    **{f"RMI weight {w:g}": {**SMALL, "bce_weight": 1 - w} for w in (0.25, 0.75, 0.9)},
    "region 5": {**SMALL, "region_size": 5},
    "factor 4": {**SMALL, "factor": 4},
    "factor 2": {**SMALL, "factor": 2},
    "scales 1, 2": {**SMALL, "factor": (1, 2)},
    "warm-up": SMALL,
    "sigmoid": {**SMALL, "activation": "sigmoid"},
    "sigmoid, warm-up": {**SMALL, "activation": "sigmoid"},
    "sigmoid, anchor 0": {**SMALL, "activation": "sigmoid", "anchor": 0.0},
}
RMI: dict[str, dict[str, Any]] = {
    "rmi-paper": PAPER,
    "rmi-warmup": SOFTMAX,
    "rmi": SOFTMAX,
    "rmi-0.01": SMALL,
    "rmi-0.03": {**SOFTMAX, "anchor": 0.03},
    "rmi-0.1": {**SOFTMAX, "anchor": 0.1},
    "rmi-1": {**SOFTMAX, "anchor": 1.0},
    "rmi-0.01-scales": {**SMALL, "factor": (1, 2, 4)},
    "rmi-0.01-weighted": SMALL,
    "rmi-0.01-dice": SMALL,
    "rmi-0.1-sigmoid": {**SOFTMAX, "anchor": 0.1, "activation": "sigmoid"},
    **DOSES,
}
TITLES = {
    "ce": "CE",
    "ce-weighted": "CE, median frequency",
    "bce": "sigmoid BCE",
    "ce-dice": "CE + Dice",
    "ce-lovasz": "CE + Lovasz",
    "cwmi": "CWMI",
    "rmi-paper": "RMI as in the paper",
    "rmi-warmup": "softmax RMI, warm-up",
    "rmi": "softmax RMI",
    "rmi-0.01": "softmax RMI, anchor 0.01",
    "rmi-0.03": "softmax RMI, anchor 0.03",
    "rmi-0.1": "softmax RMI, anchor 0.1",
    "rmi-1": "softmax RMI, anchor 1",
    "rmi-0.01-scales": "anchor 0.01, scales 1, 2, 4",
    "rmi-0.01-weighted": "anchor 0.01, class weights",
    "rmi-0.01-dice": "anchor 0.01, + Dice",
    "rmi-0.1-sigmoid": "sigmoid RMI, anchor 0.1",
    **{name: name for name in DOSES},
}
BASELINES = ("ce", "ce-weighted", "bce", "ce-dice")
WITH_WARMUP = ("rmi-warmup", "warm-up", "sigmoid, warm-up")

# Names for --losses; the losses of a group are trained in this order.
GROUPS = {
    "core": ("ce", "rmi", "rmi-0.01", "ce-dice", "rmi-0.1"),
    "first": ("ce", "rmi", "rmi-0.01", "ce-dice", "rmi-0.1", "bce", "ce-weighted", "rmi-paper",
              "rmi-warmup"),
    "second": ("rmi-0.03", "rmi-1", "rmi-0.01-dice", "ce-lovasz", "cwmi", "rmi-0.01-scales",
               "rmi-0.01-weighted", "rmi-0.1-sigmoid"),
    "doses": ("rmi-0.01", "rmi", "rmi-0.03", "rmi-0.1", "rmi-1", "rmi-0.01-scales", *DOSES),
    "rare": ("ce", "ce-weighted", "ce-dice", "rmi", "rmi-0.01", "rmi-0.1", "rmi-0.1-sigmoid",
             "sigmoid, anchor 0", "rmi-0.01-weighted"),
}  # fmt: skip


def named(names: tuple[str, ...]) -> tuple[str, ...]:
    """Groups written out."""
    chosen = [name for entry in names for name in GROUPS.get(entry, (entry,))]
    unknown = set(chosen) - set(TITLES)
    if unknown:
        raise SystemExit(f"unknown losses {sorted(unknown)}; there are {[*GROUPS, *TITLES]}")
    return tuple(dict.fromkeys(chosen))
