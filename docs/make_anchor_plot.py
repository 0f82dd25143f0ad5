"""Draws what a prediction that is a multiple of the truth leaves unexplained (docs/theory, F7).

python docs/make_anchor_plot.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

PICTURE = Path(__file__).parent / "images" / "anchor.png"


def unexplained(s: np.ndarray, anchor: float) -> np.ndarray:
    """The share of the truth's scatter that is left where ``P = s Y``, without jitter."""
    return anchor * (1 - s) ** 2 / (s**2 + anchor)


def main() -> None:
    s = np.linspace(-1, 1.2, 2201)
    figure, axis = plt.subplots(figsize=(6, 3))
    for anchor, colour in ((0.01, "tab:blue"), (0.1, "tab:orange"), (1.0, "tab:green")):
        axis.plot(s, unexplained(s, anchor), colour, label=f"anchor {anchor:g}")
        axis.plot(-anchor, 1 + anchor, "o", color=colour, markersize=4)
    # Without an anchor nothing is left but at the blank prediction, where all is.
    axis.plot(s, 0 * s, "0.4", label="no anchor", linestyle="--")
    axis.plot(0, 1, "o", color="0.4", markersize=4)
    axis.set_xlabel("s, with the prediction P = s Y: -1 inverted, 0 blank, 1 the truth")
    axis.set_ylabel("share of Y Y' left")
    axis.set_ylim(-0.05, 2.1)
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    plt.switch_backend("agg")
    main()
