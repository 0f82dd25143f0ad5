"""The examples run from end to end, for a few steps (`pytest -m examples`)."""

import ast
import importlib.util
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jupytext
import numpy as np
import pytest
from PIL import Image
from training import run

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.examples


def test_segmentation_imports_no_script():
    scripts = {file.stem for file in EXAMPLES.glob("*.py")}
    imported = {}
    for file in (EXAMPLES / "segmentation").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name: file for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported[node.module] = file
    assert "segmentation.dataset" in imported
    assert not {name: file for name, file in imported.items() if name in scripts}


@pytest.mark.parametrize(
    ("task", "classes", "losses"),
    [
        ("water", ["sea", "land", "lake"], ["softmax", "sigmoid", "dice", "rmi"]),
        pytest.param(
            "land-cover",
            ["water", "forest", "shrub", "grass", "crop", "barren", "snow"],
            ["rmi"],
            marks=pytest.mark.slow,
        ),
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
    satellite = importlib.import_module("segmentation.satellite")
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


def test_linen_step_trains_and_scores():
    printed = run("linen_train_step.py", "--steps", "3")
    scores = re.findall(r"^(.+): ([0-9.]+) %$", printed, flags=re.MULTILINE)
    assert [name for name, _ in scores] == ["IoU sea", "IoU land", "IoU lake", "mIoU"]
    assert all(0 <= float(value) <= 100 for _, value in scores)


def test_volumes_prints_a_table_and_draws_a_picture(tmp_path):
    picture = tmp_path / "volumes.png"
    printed = run("volumes_3d.py", "--steps", "2", "--losses", "rmi", "--output", str(picture))
    for row in ["mIoU", "Dice grey matter", "boundary F1", "seconds per step"]:
        lines = [line for line in printed.splitlines() if f" {row}" in line]
        assert len(lines) == 1, printed
    with Image.open(picture) as image:
        assert image.width > 300


def test_crops_of_volumes_come_from_the_training_slabs(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    volumes_3d, mni152 = map(importlib.import_module, ("volumes_3d", "segmentation.mni152"))
    volume = mni152.volume()
    _, test = mni152.slabs(volume.labels)
    # Every voxel knows its place, in values that survive the normalization of images.
    places = np.arange(volume.labels.size, dtype=np.float64).reshape(volume.labels.shape)
    monkeypatch.setattr(mni152, "NOISE", 0)
    monkeypatch.setattr(volumes_3d, "normalize", lambda image: image[..., None])
    batches = volumes_3d.crops(mni152.Volume(places, volume.labels), seed=3)
    seen = set()
    for _, batch in zip(range(20), batches, strict=False):
        for image, labels in zip(*batch, strict=True):
            at = np.unravel_index(image[..., 0].astype(int), places.shape)
            np.testing.assert_array_equal(labels, volume.labels[at])  # they are aligned
            assert labels.shape == volumes_3d.CROP
            assert not set(np.unique(at[1])) & set(test)
            seen |= set(np.unique(at[1]))
    assert len(seen) > 90  # of 113 slices to train on


def test_notebook_is_in_sync_with_its_text_form():
    notebook, text = (
        jupytext.read(EXAMPLES / name) for name in ("quickstart.ipynb", "quickstart_notebook.py")
    )
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ], "run `jupytext --sync examples/quickstart_notebook.py`"
    assert not any(cell.get("outputs") for cell in notebook.cells)


def installed(monkeypatch, folder, missing=()):
    """What the notebook's first cell would run, where the modules in `missing` are not there."""
    text = jupytext.read(EXAMPLES / "quickstart_notebook.py")
    (cell,) = (c.source for c in text.cells if "GIT_URL =" in c.source)
    commands = []

    def record(command, check):
        assert check
        constraints = [Path(command[i + 1]) for i, c in enumerate(command) if c == "--constraint"]
        commands.append((command, [file.read_text() for file in constraints]))

    find = importlib.util.find_spec
    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delenv("RMI_JAX_NOTEBOOK_INSTALL", raising=False)
    monkeypatch.chdir(folder)
    exec(compile(cell, "first cell", "exec"), {})
    return commands, sys.path[0]


PIP = [sys.executable, "-m", "pip", "install", "--quiet"]


def test_notebook_installs_its_checkout_and_leaves_jax_alone(monkeypatch):
    commands, path = installed(monkeypatch, EXAMPLES)
    assert commands == [([*PIP, "--no-deps", str(EXAMPLES.parent)], [])]
    assert path == str(EXAMPLES)


def test_notebook_clones_and_adds_only_what_is_missing(monkeypatch, tmp_path):
    commands, path = installed(monkeypatch, tmp_path, missing=("optax", "PIL"))
    (clone, _), (install, no_constraints), (add, (kept,)) = commands
    checkout = str(tmp_path / "rmi_jax")
    url = "https://github.com/OWNER/rmi_jax.git"
    assert clone == ["git", "clone", "--depth", "1", url, checkout]
    assert install == [*PIP, "--no-deps", checkout]
    assert no_constraints == []
    assert add[: len(PIP)] == PIP
    assert add[-2:] == ["optax", "pillow"]
    assert len(add) == len(PIP) + 4  # and nothing else but the constraint
    lines = kept.splitlines()
    assert f"jax=={version('jax')}" in lines
    assert not any(line.startswith(("optax", "pillow")) for line in lines)
    assert path == str(tmp_path / "rmi_jax" / "examples")
    assert list(tmp_path.iterdir()) == []
