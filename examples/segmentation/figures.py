"""Matplotlib figures as files."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def save(figure: Figure, file: Path) -> None:
    """Writes it, in a new folder if need be, and closes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
