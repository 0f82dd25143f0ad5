"""The earlier studies run from end to end, for a few steps (`pytest -m examples`)."""

import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from training import run

EXAMPLES = Path(__file__).parents[2] / "examples"
RESULTS = EXAMPLES / "studies" / "earlier" / "results"

pytestmark = pytest.mark.examples


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.mark.slow
def test_study_resumes_after_a_torn_line_and_reports(tmp_path):
    results, picture = tmp_path / "new folder" / "study.jsonl", tmp_path / "study.png"
    options = (
        "--steps", "2", "--seeds", "0", "--tasks", "water", "--results", str(results),
        "--picture", str(picture),
    )  # fmt: skip
    run("studies.earlier", *options, "--losses", "softmax")
    (first,) = results.read_text().splitlines()
    assert {
        "miou",
        "boundary_f1",
        "iou",
        "dead",
        "settings",
        "versions",
        "commit",
        "device",
    } <= set(json.loads(first))
    with results.open("a") as file:
        file.write(first[:40])  # a run that was stopped while writing
    printed = run("studies.earlier", *options, "--losses", "softmax", "dice")
    lines = results.read_text().splitlines()
    assert lines[0] == first
    assert len(lines) == 3  # the first run was not repeated
    assert json.loads(lines[2])["loss"] == "dice"
    assert printed == run("studies.earlier", *options, "--table")
    assert sum(line.startswith("| softmax CE") for line in printed.splitlines()) == 2
    with Image.open(picture) as image:
        assert image.width > 400


@pytest.mark.slow
def test_every_loss_of_the_study_has_a_finite_gradient(example):
    runs, dataset = example("studies.earlier.runs"), example("segmentation.dataset")
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 16, 16, 3)).astype(np.float32)
    labels = random.integers(0, 3, (2, 16, 16)).astype(np.int32)
    labels[:, :3] = dataset.IGNORED
    for name in (*runs.OTHERS, *runs.RMI):
        loss_of = runs.objective(name, 10)
        gradient = jax.jit(jax.grad(lambda x, loss_of=loss_of: loss_of(x, labels, 9)))(logits)
        assert np.isfinite(gradient).all(), name
        assert np.abs(gradient).max() > 0, name
        assert (gradient[:, :3] == 0).all(), name


def test_the_study_leaves_nothing_to_defaults(example):
    runs, settings = example("studies.earlier.runs"), example("studies.earlier.settings")
    for options in (*runs.RMI.values(), settings.SOFTMAX, settings.PAPER):
        assert {"activation", "factor", "anchor"} <= set(options)
    boundary = example("studies.earlier.boundary").OPTIONS
    assert boundary == {**runs.RMI["softmax-rmi-1"], "jitter": 5e-4}


def test_tables_pair_the_seeds(example):
    report = example("studies.earlier.report")
    np.testing.assert_allclose(
        report.differences({0: 3.0, 1: 5.0, 2: 9.0}, {1: 4.0, 0: 1.0, 7: 0.0}), [2, 1]
    )
    assert report.compare({0: 3.0, 1: 5.0}, {0: 1.0, 1: 6.0}) == "+0.5 ± 1.5 (1/2)"
    assert report.compare({0: 3.0}, {0: 1.0}) == "+2.0 (1/1)"
    assert report.compare({0: 3.0}, {1: 1.0}) == "-"


def test_brain_slices_are_apart_and_labelled(example):
    mni152 = example("segmentation.mni152")
    image, labels = mni152.volume()
    assert image.shape == labels.shape == (197, 233, 189)
    assert image.dtype == np.float32
    assert labels.dtype == np.int32
    brightness = [image[labels == c].mean() for c in range(len(mni152.CLASSES))]
    assert brightness == sorted(brightness)  # background, fluid, grey and white matter on T1
    train, test = mni152.slabs(labels)
    assert np.abs(train[:, None] - test).min() == mni152.GAP + 1
    data = example("studies.earlier.runs").brain_slices()
    assert data.train.images.shape == (len(train), 196, 188, 1)
    assert data.test.labels.shape == data.test.images.shape[:3] == (len(test), 196, 188)
    np.testing.assert_array_equal(data.test.labels[0], labels[:196, test[0], :188])


def test_influence_on_the_loss_is_its_derivative_by_the_weight_of_a_position(example):
    study = example("studies.earlier.boundary")
    random = np.random.default_rng(2)
    labels = np.repeat(random.integers(0, 2, (1, 7, 4)), 2, axis=2)
    targets = np.eye(2)[labels]
    probs = 0.1 + 0.6 * targets + 0.2 * random.random((1, 7, 8, 2))
    probs[..., 1] = 0.5  # its influence must be that of its labels
    windows = [
        np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2)).reshape(30, 2, 9)
        for maps in (targets, probs)
    ]

    def loss(weights):
        total = 0
        for c in range(2):
            y, p = (part[:, c] - weights @ part[:, c] / weights.sum() for part in windows)
            yp = (y * weights[:, None]).T @ p
            pp = (p * weights[:, None]).T @ p + study.JITTER * np.eye(9)
            m = (y * weights[:, None]).T @ y - yp @ np.linalg.solve(pp, yp.T)
            total += np.linalg.slogdet(m + study.JITTER * np.eye(9))[1] / 18
        return total

    numeric = []
    for position in range(30):
        step = 1e-5 * np.eye(30)[position]
        numeric.append((loss(1 + step) - loss(1 - step)) / 2e-5)
    influence = study.rmi_influence(probs, targets)
    # extract_regions returns float32.
    np.testing.assert_allclose(influence.loss.ravel(), numeric, rtol=1e-3, atol=1e-5)
    scatter = sum(((part - part.mean(0)) ** 2).sum() for part in windows[0].swapaxes(0, 1))
    np.testing.assert_allclose(influence.label_scatter.sum(), scatter, rtol=1e-6)


def test_mixed_windows(example):
    study = example("studies.earlier.boundary")
    labels = np.zeros((1, 4, 9), np.int32)
    labels[..., 5:] = 2
    for size, columns in ((3, [4, 5]), (5, [3, 4, 5, 6])):
        np.testing.assert_array_equal(np.flatnonzero(study.mixed(labels, size)[0, 0]), columns)


@pytest.mark.slow
def test_boundary_study(tmp_path):
    paths = {name: tmp_path / name for name in ("results", "shares", "picture.png")}
    run(
        "studies.earlier.boundary", "--steps", "2", "--seeds", "0", "--losses", "boundaries x 3",
        "--share-steps", "2", "--results", str(paths["results"]),
        "--shares", str(paths["shares"]), "--picture", str(paths["picture.png"]),
    )  # fmt: skip
    losses = [json.loads(line)["loss"] for line in paths["results"].read_text().splitlines()]
    assert losses == ["boundaries x 3"]
    shares = json.loads(paths["shares"].read_text())["softmax-rmi-1"]["shares"]
    assert all(0 < share < 100 for share in shares.values())
    assert shares["RMI: scatter of the labels"] > shares["positions"]
    with Image.open(paths["picture.png"]) as image:
        assert image.width > 400


@pytest.mark.slow
def test_settings_study(tmp_path):
    results, measured = tmp_path / "results", tmp_path / "measured"
    run(
        "studies.earlier.settings", "--steps", "2", "--seeds", "0", "--jitter-steps", "2",
        "--losses", "void, softmax RMI 1, zero",
        "--results", str(results), "--measured", str(measured),
    )  # fmt: skip
    assert len(results.read_text().splitlines()) == 1
    record = json.loads(measured.read_text())
    for row in record["jitter, relative to 5e-4"].values():
        assert row["loss"] > 0
        assert row["gradient_cosine"] <= 1 + 1e-6


def test_a_strip_of_void_covers_every_region_at_full_resolution(example):
    table = example("studies.earlier.settings").void_table
    labels = np.zeros((1, 24, 24), np.int32)
    labels[:, :, 14:] = 1  # void in columns 13 and 14: every cell of 2 x 2 keeps a valid column
    left = table(labels, 2)
    assert [left[f"factor {factor}"]["regions"] for factor in (1, 2, 4)] == [0, 100, 100]
    labels[:, :, 13:] = 1  # void in columns 12 and 13: a column of cells is lost
    left = table(labels, 2)
    assert [left[f"factor {factor}"]["regions"] for factor in (1, 2, 4)] == [0, 0, 100]


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.jsonl")), ids=lambda file: file.name)
def test_recorded_results_are_whole(example, file):
    runs = example("studies.records").read_file(file)
    assert len(runs) == len(file.read_text().splitlines())
    keys = [tuple(r[name] for name in example("studies.earlier.runs").KEY) for r in runs]
    assert len(set(keys)) == len(keys) > 0
    assert all(0 < r["miou"] < 100 and 0 < r["boundary_f1"] < 100 for r in runs)
