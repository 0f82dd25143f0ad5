"""The examples run from end to end, for a few steps (`pytest -m examples`)."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.examples


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("task", "classes", "losses"),
    [
        ("water", ["sea", "land", "lake"], ["softmax", "sigmoid", "rmi"]),
        ("land-cover", ["water", "forest", "shrub", "grass", "crop", "barren", "snow"], ["rmi"]),
    ],
)
def test_quickstart_prints_a_table_and_draws_a_picture(task, classes, losses, tmp_path):
    picture = tmp_path / "new folder" / "picture.png"
    printed = run(
        "quickstart.py", "--steps", "3", "--task", task, "--output", str(picture),
        "--losses", *losses,
    )  # fmt: skip
    for row in ["mIoU", *(f"IoU {name}" for name in classes), "boundary F1", "seconds per step"]:
        lines = [line for line in printed.splitlines() if f" {row}" in line]
        assert len(lines) == 1, printed
        cells = re.split("[│|]", lines[0].strip(" │|"))[1:]
        assert len(cells) == len(losses)
        assert np.all(np.array(cells, float) >= 0)
    with Image.open(picture) as image:
        assert image.width > 500
    assert picture.stat().st_size < 500_000


def test_quickstart_explains_its_options():
    printed = run("quickstart.py", "--help")
    for option in ("--steps", "--seed", "--losses", "--task", "--output"):
        assert option in printed


@pytest.mark.parametrize(("task", "classes"), [("water", 3), ("land-cover", 7)])
def test_satellite_crops_are_reproducible_and_aligned(task, classes, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    satellite = importlib.import_module("satellite")
    data = satellite.load(task)
    assert len(data.classes) == len(data.colours) == classes
    for tiles in (data.train, data.test):
        assert set(np.unique(tiles.labels)) - {satellite.IGNORED} == set(range(classes))
    # A channel that repeats the labels stays equal to them through cutting, turning and mirroring.
    marked = satellite.Tiles(data.train.labels[..., None], data.train.labels)
    first, again, other = (
        next(satellite.crops(marked, seed=seed, batch=6, size=40)) for seed in (1, 1, 2)
    )
    assert first.labels.shape == (6, 40, 40)
    np.testing.assert_array_equal(first.images[..., 0], first.labels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)
