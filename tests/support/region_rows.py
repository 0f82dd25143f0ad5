"""One table of the region term's options: every row is compared with the oracle."""

from typing import NamedTuple


class Row(NamedTuple):
    ndim: int
    mask: str | None  # "mask" or "weights" of the example
    options: dict
    dtype: str = "float64"

    def per_axis_factor(self):
        """The options as the oracle takes them: of a single scale."""
        factor = self.options["factor"]
        return {**self.options, "factor": factor if isinstance(factor, int) else factor[0]}


# Each option at least once for each number of axes that it could treat differently. Any two of:
# axes, downsampling, whether pixels are averaged, mask, dtype, whether there is an anchor, meet.
ROWS = {
    "signal_cells": Row(1, "mask", {"factor": 2, "region_size": 4}),
    "signal": Row(1, "weights", {"factor": 1, "region_size": 5, "dilation": 3}),
    "signal_max_stride": Row(
        1, None, {"factor": 3, "region_size": 2, "downsampling": "max", "region_stride": 2}
    ),
    "raw": Row(2, None, {"factor": 1, "jitter": 0.02, "zero_floor": False}),
    "uneven_region": Row(2, "weights", {"factor": 1, "region_size": (2, 3), "dilation": (3, 1)}),
    "thinned": Row(2, "mask", {"factor": 1, "region_size": 4, "region_stride": 2}),
    "uneven_stride": Row(2, None, {"factor": 1, "dilation": 2, "region_stride": (1, 3)}),
    "cells": Row(2, "weights", {"factor": 3, "region_size": 2}),
    "uneven_cells": Row(2, "mask", {"factor": ((1, 2),)}),
    "large_cells": Row(2, None, {"factor": 4, "region_size": 2}),
    "interpolate": Row(2, None, {"factor": 3, "region_size": 2, "downsampling": "interpolate"}),
    "zero": Row(2, "weights", {"factor": 2, "ignored": "zero"}),
    "zero_max": Row(
        2, "mask", {"factor": 3, "region_size": 2, "ignored": "zero", "downsampling": "max"}
    ),
    "zero_interpolate": Row(
        2, "mask", {"factor": 2, "ignored": "zero", "downsampling": "interpolate", "anchor": 0.3}
    ),
    "volume": Row(3, "mask", {"factor": 1, "region_size": (1, 2, 3)}),
    "volume_uneven_cells": Row(3, "weights", {"factor": ((1, 2, 2),), "region_size": 2}),
    "volume_zero": Row(3, "weights", {"factor": 2, "region_size": 2, "ignored": "zero"}),
    "volume_region": Row(3, None, {"factor": 1, "region_size": 3}),
    "anchor": Row(1, None, {"factor": 1, "anchor": 0.3, "ignored": "zero"}),
    "anchor_thinned": Row(2, "weights", {"factor": 2, "anchor": 1.0, "region_stride": 2}),
    "anchor_raw": Row(2, "mask", {"factor": 1, "anchor": 0.01, "zero_floor": False}),
    "volume_anchor": Row(
        3, "weights", {"factor": 1, "anchor": 5.0, "region_size": 2, "dilation": 2}
    ),
    # Statistics are float32 for every input narrower than float64.
    "bfloat16_signal": Row(1, "weights", {"factor": 1}, "bfloat16"),
    "bfloat16_max": Row(2, "mask", {"factor": 2, "downsampling": "max", "anchor": 0.3}, "bfloat16"),
    "bfloat16_volume": Row(
        3, None, {"factor": 2, "downsampling": "interpolate", "region_size": 2}, "bfloat16"
    ),
    "float16_signal": Row(1, "mask", {"factor": 2, "downsampling": "interpolate"}, "float16"),
    "float16": Row(2, None, {"factor": 1}, "float16"),
    "float16_volume": Row(
        3,
        "weights",
        {"factor": 2, "downsampling": "max", "region_size": 2, "anchor": 0.3},
        "float16",
    ),
    "float32_signal": Row(1, None, {"factor": 2, "downsampling": "max", "anchor": 0.3}, "float32"),
    "float32": Row(2, "weights", {"factor": 2, "downsampling": "interpolate"}, "float32"),
    "float32_volume": Row(3, "mask", {"factor": 1, "region_size": 2, "anchor": 0.3}, "float32"),
}
