"""The studies: their losses against plain definitions, their parts, records and statistics."""

import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import miniature
import numpy as np
import pytest
import training
from compiling import quick_jit
from PIL import Image
from scipy import stats

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.examples


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda name: importlib.import_module(f"studies.{name}")


def labelled(classes=3, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(2, 16, 16, classes)).astype(np.float32)
    labels = random.integers(0, classes, (2, 16, 16)).astype(np.int32)
    labels[0, :3] = 255
    return logits, labels


def test_lovasz_is_the_extension_of_the_jaccard_loss(study):
    logits, labels = labelled()
    labels[labels == 2] = 0  # a class that is absent does not count
    probs = np.asarray(jax.nn.softmax(logits))
    losses = []
    for c in (0, 1):
        valid = labels != 255
        true = labels[valid] == c
        errors = np.abs(true - probs[valid][:, c])
        order = np.argsort(-errors)
        total, before = 0, 0
        for count in range(1, len(order) + 1):  # 1 - IoU if just these pixels were mistakes
            mistaken = np.zeros(len(order), bool)
            mistaken[order[:count]] = True
            predicted = true ^ mistaken
            jaccard = 1 - (true & predicted).sum() / (true | predicted).sum()
            total += errors[order[count - 1]] * (jaccard - before)
            before = jaccard
        losses.append(total)
    np.testing.assert_allclose(
        study("losses").lovasz_softmax(logits, labels), np.mean(losses), rtol=1e-5
    )


def test_baselines_are_what_they_say(study):
    baselines = importlib.import_module("segmentation.baselines")
    logits, labels = labelled()
    probs, valid = np.asarray(jax.nn.softmax(logits)), labels != 255
    dice = []
    for c in range(3):
        p, y = probs[valid][:, c], labels[valid] == c
        dice.append(1 - ((p * y).sum() + 1) / ((p.sum() + y.sum()) / 2 + 1))
    chosen = np.eye(3)[labels[valid]].astype(bool)
    entropy = -np.log(probs[valid][chosen]).mean()
    likelihood = jax.nn.sigmoid(np.where(chosen, logits[valid], -logits[valid]))
    for loss, expected in (
        (baselines.cross_entropy, entropy),
        (baselines.binary_cross_entropy, -np.log(likelihood).sum(axis=-1).mean()),
        (baselines.dice, np.mean(dice)),
        (baselines.cross_entropy_and_dice, entropy + np.mean(dice)),
    ):
        np.testing.assert_allclose(loss(logits, labels), expected, rtol=1e-5)


def test_weighted_cross_entropy_is_what_it_says(study):
    logits, labels = labelled()
    weights = np.array([1.0, 0.5, 7.0], np.float32)
    entropies = -np.asarray(jax.nn.log_softmax(logits))
    valid = labels != 255
    pixels = entropies[valid][np.arange(valid.sum()), labels[valid]]
    expected = np.average(pixels, weights=weights[labels[valid]])
    computed = study("losses").weighted_cross_entropy(logits, labels, jnp.asarray(weights))
    np.testing.assert_allclose(computed, expected, rtol=1e-5)


def test_median_frequencies_count_the_pictures_that_show_the_class(study):
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, 0] = 1
    labels[1, :2] = 2
    labels[1, 3] = 255
    maps = study("data").Maps(labels, labels)
    frequencies = np.array([(12 + 4) / (16 + 12), 4 / 16, 8 / 12])
    np.testing.assert_allclose(
        study("trainer").class_weights(maps, 3), np.median(frequencies) / frequencies, rtol=1e-6
    )


def test_frequencies_are_of_the_crops_where_those_seek_rare_classes(study):
    data, trainer = study("data"), study("trainer")
    labels = np.zeros((2, 64, 64), np.uint8)
    labels[0, 8:10, 8:10] = 1
    maps = data.Maps(np.zeros((2, 64, 64, 1), np.float32), labels)
    settings = trainer.Settings("water", "ce-weighted", 10, crop=16)
    task = data.Task("water", ("land", "lake"), maps, maps, maps)
    assert trainer.maps_seen(settings, task) is maps
    seeking = data.Task("water", ("land", "lake"), maps, maps, maps, seek_classes=True)
    seen = trainer.maps_seen(settings, seeking)
    assert seen.labels.shape == (4 * trainer.BATCHES_SEEN, 16, 16)
    lakes = (seen.labels == 1).any(axis=(1, 2)).mean()
    assert 0.5 < lakes < 0.6  # every other crop seeks it, few others happen upon it


def test_pyramid_keeps_the_energy_and_the_moves_of_a_pattern(study):
    cwmi = study("cwmi")
    side, rows = 64, np.arange(64)[:, None]
    for period, best in ((4, 0), (8, 1), (16, 2)):
        maps = np.stack(
            [np.cos(2 * np.pi * (rows - move) / period) + 0 * rows.T for move in (0, 1)]
        )
        bands = cwmi.subbands(jnp.asarray(maps, jnp.float32))
        energies = [float(jnp.sum(jnp.abs(b[0]) ** 2)) / b[0, 0].size for b in bands]
        np.testing.assert_allclose(energies, np.eye(4)[best], atol=1e-5)
        # Waves along the rows: the third of four orientations sees them best.
        strengths = jnp.sum(jnp.abs(bands[best][0]) ** 2, axis=(1, 2))
        assert int(jnp.argmax(strengths)) == 2
        # A complex subband turns its phase and keeps its size when the pattern moves.
        np.testing.assert_allclose(jnp.abs(bands[best][0]), jnp.abs(bands[best][1]), atol=1e-4)
        turned = bands[best][1, 2] / bands[best][0, 2]
        np.testing.assert_allclose(turned, np.exp(-2j * np.pi / period), atol=1e-3)
    radius, angle = cwmi.polar(side)
    low, high = cwmi.low_pass(radius, np.pi / 2), cwmi.high_pass(radius, np.pi / 2)
    np.testing.assert_allclose(low**2 + high**2, 1)
    # Both half planes together see every direction alike.
    masks = cwmi.oriented(angle) ** 2
    both = (masks + cwmi.oriented(angle + np.pi) ** 2).sum(axis=0)
    np.testing.assert_allclose(both, 4, rtol=1e-6)


def test_cwmi_is_the_conditional_determinant(study):
    random = np.random.default_rng(0)
    y, p = (random.normal(size=(1, 4, 5, 5)) + 1j * random.normal(size=(1, 4, 5, 5)) for _ in "yp")
    ys, ps = (z.reshape(4, -1) - z.reshape(4, -1).mean(1, keepdims=True) for z in (y, p))
    ridge = study("cwmi").JITTER * np.eye(4)
    cross = ys @ ps.conj().T
    m = ys @ ys.conj().T - cross @ np.linalg.inv(ps @ ps.conj().T + ridge) @ cross.conj().T
    computed = study("cwmi").conditional_log_det(jnp.asarray(p), jnp.asarray(y))
    np.testing.assert_allclose(computed[0], np.linalg.slogdet(m + ridge)[1], rtol=1e-4)


PLAIN = ("ce", "ce-weighted", "bce", "ce-dice", "ce-lovasz", "cwmi", "rmi-0.01-dice")


def check_gradient(losses, name):
    logits, labels = labelled()
    weights = jnp.array([1.0, 2.0, 3.0])
    gradient = quick_jit(jax.grad(lambda z: losses.loss(name)(z, labels, 0.9, weights)))(logits)
    assert np.isfinite(gradient).all(), name
    assert np.abs(gradient).max() > 0, name
    assert (gradient[0, :3] == 0).all(), name


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_are_finite_and_zero_where_ignored(study, name):
    check_gradient(study("losses"), name)


@pytest.mark.examples
def test_gradients_of_all_other_losses(study):
    for name in set(study("contestants").TITLES) - set(PLAIN):
        check_gradient(study("losses"), name)


def test_parts_are_apart(study):
    data = study("data")
    splits = [data.isbi_split(fold) for fold in range(3)]
    for split in (*splits, data.drive_split(), data.brain_split(180)):
        parts = [set(map(int, part)) for part in split]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))
    for split in (*splits, data.brain_split(180)):
        for one, other in ((0, 1), (0, 2), (1, 2)):  # a gap between slices
            assert np.abs(np.subtract.outer(split[one], split[other])).min() > 1
    tested = [set(map(int, split.test)) for split in splits]
    assert not tested[0] & tested[1] | tested[0] & tested[2] | tested[1] & tested[2]
    columns = np.repeat(np.arange(42), 3)
    split = data.satellite_split(columns)
    assert sorted(np.concatenate(split)) == list(range(len(columns)))
    assert not set(columns[split.train]) & set(columns[split.test])


def test_resampling_keeps_pictures_and_labels_together(study):
    batches, data = study("batches"), study("data")
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 5:25] = 1
    picture = data.Maps(labels[..., None].astype(np.float32), labels)
    same = batches.resample(picture, np.arange(40.0), np.arange(40.0))
    np.testing.assert_array_equal(same.images, picture.images)
    np.testing.assert_array_equal(same.labels, picture.labels)
    random = np.random.default_rng(0)
    for _ in range(20):
        crop = batches.one(picture, (29, 24), 16, random)
        assert crop.images.shape == (16, 16, 1)
        assert crop.labels.max() == 1  # it shows the pixel that was asked for
        inside, outside = (crop.images[..., 0][crop.labels == c] for c in (1, 0))
        assert not outside.size or inside.min() >= np.median(outside)
    stacked = data.Maps(np.stack([picture.images] * 2), np.stack([labels] * 2))
    options = {"seed": 3, "batch": 2, "crop": 16, "seek_classes": True}
    first, again = (next(batches.batches(stacked, **options)) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)


def test_upright_crops_are_mirrored_and_never_turned(study):
    batches, data = study("batches"), study("data")
    rows, columns = np.mgrid[:40, :40].astype(np.float32)
    scene = data.Maps(np.stack([rows, columns], -1), np.zeros((40, 40), np.uint8))
    mirrored = set()
    for seed in range(10):
        crop = batches.one(scene, None, 16, np.random.default_rng(seed), upright=True).images
        assert (np.diff(crop[..., 0], axis=0) > 0).all()
        mirrored.add(bool((np.diff(crop[..., 1], axis=1) < 0).all()))
    assert mirrored == {True, False}


def test_half_of_camvid_is_means_of_pixels_and_one_of_their_labels(study, tmp_path):
    data, random = study("data"), np.random.default_rng(0)
    for part, count in (("train", 367), ("val", 101), ("test", 233)):
        for number in range(count):
            name = f"{number:03}.png"
            picture = random.integers(0, 256, (4, 6, 3), np.uint8)
            miniature.save(tmp_path / "camvid" / part / name, picture)
            labels = random.integers(0, 12, (4, 6), np.uint8)
            miniature.save(tmp_path / "camvid" / f"{part}annot" / name, labels)
    whole, half = (data.load(name, tmp_path) for name in ("camvid", "camvid-half"))
    assert half.upright
    for part in ("train", "validation", "test"):
        fine, coarse = getattr(whole, part), getattr(half, part)
        assert set(np.unique(fine.labels)) == {*range(11), data.IGNORED}
        np.testing.assert_array_equal(coarse.labels, fine.labels[:, ::2, ::2])
        means = np.mean([fine.images[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
        # Standardized anew: the same but for a gain and a shift of each channel.
        for channel in range(3):
            pair = (means[..., channel].ravel(), coarse.images[..., channel].ravel())
            assert np.corrcoef(*pair)[0, 1] > 0.99999
    np.testing.assert_allclose(half.train.images.std(axis=(0, 1, 2)), 1, rtol=1e-3)


def test_thinning_erases_objects_from_labels_and_pictures(study):
    rare, data = study("rare"), study("data")
    labels = np.zeros((2, 64, 64), np.uint8)
    for image, row, column in ((0, 5, 5), (0, 40, 8), (1, 20, 28), (1, 50, 50)):
        labels[image, row : row + 6, column : column + 6] = 1
    labels[1, :2] = 255
    pieces = rare.pieces(labels == 1)
    assert pieces.max() == 5  # the third square lies across a line of the grid
    images = np.where(labels == 1, 4.0, 1.0)[..., None].astype(np.float32)
    share = 40 / (2 * 64 * 64 - 128)
    thinned = rare.thin_part(data.Maps(images, labels), 1, 0, share)
    left = thinned.labels == 1
    assert 0 < left.sum() <= 40
    assert (thinned.labels[labels == 255] == 255).all()
    np.testing.assert_allclose(thinned.images[..., 0][left], 4)
    erased = (labels == 1) & ~left
    assert np.abs(thinned.images[..., 0][erased] - 1).max() < 0.1


def test_records_survive_torn_lines(study, tmp_path):
    records = study("records")
    file = tmp_path / "new" / "isbi.jsonl"
    records.append({"a": 1}, file)
    with file.open("a") as stream:
        stream.write('{"a": 2, "b')  # a run that was stopped while writing
    records.append({"a": 3}, file)
    assert records.read(tmp_path / "new") == [{"a": 1}, {"a": 3}]


def test_differences_are_a_paired_t_test(study):
    report = study("report")
    ours, theirs = {0: 3.0, 1: 5.0, 2: 9.0, 7: 1.0}, {2: 8.5, 1: 4.0, 0: 1.0, 4: 2.0}
    difference = report.paired(ours, theirs)
    statistic, p = np.asarray(stats.ttest_1samp([2, 1, 0.5], 0))
    assert difference.pairs == 3
    np.testing.assert_allclose(difference.mean, 3.5 / 3)
    np.testing.assert_allclose(difference.mean / difference.error, statistic)
    np.testing.assert_allclose(difference.p, p)
    assert report.difference_text(report.paired({0: 3.0}, {0: 1.0})) == "+2.00"
    assert report.difference_text(report.paired({0: 3.0}, {1: 1.0})) == "-"


def made_up(study, loss, seed, miou, rate=3e-3, fold=0):
    settings = study("trainer").Settings("isbi", loss, 100, rate, seed, fold)
    scores = {"miou": miou, "image_iou": miou, "boundary_f1": miou, "iou": {}}
    return {
        "settings": {**settings.__dict__},
        "curve": [[50, 1.0, miou - 10], [100, 0.5, miou]],
        "validation": scores,
        "test": scores,
    }


def test_folds_count_once_and_learning_rates_are_chosen_with_seed_0(study):
    report = study("report")
    runs = [made_up(study, "ce", s, 70 + s + f, fold=f) for s in (0, 1) for f in (0, 1)]
    assert report.scored(runs, "miou") == {0: 70.5, 1: 71.5}
    runs = [made_up(study, "ce", 0, m, r) for m, r in ((70, 3e-3), (72, 1e-2), (69, 1e-3))]
    runs.append(made_up(study, "ce", 1, 90, 3e-3))
    setup = report.setups(runs, ["isbi"])
    chosen = report.chosen_runs(runs, *setup)["ce"]
    assert [r["settings"]["rate"] for r in chosen] == [1e-2]


def test_steps_to_a_goal_lie_between_the_points_of_the_curve(study):
    steps_to = study("report").steps_to
    curve = [[100, 0, 50.0], [200, 0, 60.0], [300, 0, 59.0]]
    assert steps_to(curve, 55.0) == 150
    assert steps_to(curve, 40.0) == 100
    assert np.isnan(steps_to(curve, 61.0))


def test_table_compares_with_the_best_baseline(study):
    report = study("report")
    runs = [made_up(study, "ce", s, 70 + s) for s in (0, 1)]
    runs += [made_up(study, "ce-dice", s, 71 + 2 * s) for s in (0, 1)]
    runs += [made_up(study, "rmi", s, m) for s, m in ((0, 73.0), (1, 73.5))]
    rows = report.table(runs, *report.setups(runs, ["isbi"])).splitlines()
    assert "over CE + Dice" in rows[0]
    (rmi,) = [row for row in rows if row.startswith("| softmax RMI |")]
    assert "| 73.25 ± 0.25 | +1.25 ± 0.75 (p 0.34) |" in rmi
    assert rmi.endswith("| 94 (2/2) |")  # 90 and 97.5
    rows = report.table(runs, *report.setups(runs, ["isbi"]), against="rmi").splitlines()
    assert "over softmax RMI" in rows[0]
    assert "| 72.00 ± 1.00 | -1.25 ± 0.75 (p 0.34) |" in rows[3]
    rows = report.table(runs, *report.setups(runs, ["isbi"]), against="bce").splitlines()
    assert (
        rows[2] == "| CE | 0.003 | 2 | 70.50 ± 0.50 | - | 70.50 ± 0.50 | - | 70.50 ± 0.50 | - | - |"
    )


def test_tables_keep_to_the_losses_and_rates_asked_for(study, tmp_path, capsys):
    records, main = study("records"), study("__main__").main
    for loss, rate in (("ce", 3e-3), ("rmi", 3e-3), ("rmi", 1e-2)):
        records.append(made_up(study, loss, 0, 70, rate), tmp_path / "isbi.jsonl")

    def table(*losses, **options):
        main(("isbi",), losses, results=tmp_path, table=True, **options)
        return [line[:20] for line in capsys.readouterr().out.splitlines() if line[:1] == "|"][2:]

    assert table("core") == ["| CE | 0.003 | 1 | 7", "| softmax RMI | 0.00"]
    assert table("rmi") == ["| softmax RMI | 0.00"]
    assert table("rmi", rates=(1e-2,)) == ["| softmax RMI | 0.01"]
    assert len(table("rmi", against="ce")) == 2
    with pytest.raises(SystemExit, match="unknown losses"):
        table("rmi", against="cross entropy")
    with pytest.raises(SystemExit, match="one loss, not the group core"):
        table("rmi", against="core")
    with pytest.raises(SystemExit, match="no such runs: see --tasks, --losses and --rates"):
        table("cwmi")


def test_a_plan_leaves_whole_columns_and_repeats_nothing(study):
    campaign, trainer = study("campaign"), study("trainer")
    base, runs, order = trainer.Settings("isbi", "", 100), [], []
    losses, seeds = ("ce", "rmi"), (0, 1, 2)
    for settings in campaign.plan(runs, base, losses, seeds):
        best = 1e-2 if settings.loss == "rmi" else 3e-3
        score = 80 if settings.rate == best else 70
        runs.append(made_up(study, settings.loss, settings.seed, score, settings.rate))
        order.append((settings.loss, settings.rate, settings.seed))
    assert order[:4] == [(loss, 3e-3, seed) for seed in (0, 1) for loss in losses]
    assert len(order) == len(set(order))
    assert {("rmi", 1e-2, s) for s in seeds} | {("ce", 3e-3, s) for s in seeds} <= set(order)
    assert not list(campaign.plan(runs, base, losses, seeds))


@pytest.mark.examples
def test_the_studies_run_and_resume(tmp_path):
    results, plot = tmp_path / "results", tmp_path / "curves.png"

    def run(*options):
        chosen = ("--tasks", "water", "--losses", "ce", "rmi", "--results", results)
        return training.run("studies", *chosen, "--widths", "4", "8", *options)

    run("--seeds", "0", "--steps", "2")
    file = results / "water.jsonl"
    lines = file.read_text().splitlines()
    assert len(lines) == 6  # two losses at three learning rates
    assert {"settings", "options", "curve", "test", "commit", "versions"} <= {*json.loads(lines[0])}
    file.write_text("\n".join(lines[:5]) + "\n" + lines[5][:40])
    run("--seeds", "0", "--steps", "2")
    again = file.read_text().splitlines()
    assert again[:5] == lines[:5]
    assert len(again) == 7  # the torn line, and the one run that was missing
    assert json.loads(again[6])["test"] == json.loads(lines[5])["test"]
    assert "| softmax RMI |" in run("--table", "--plot", str(plot), "--steps", "2")
    with Image.open(plot) as image:
        assert image.width > 400


@pytest.mark.examples
def test_health_draws_what_it_recorded(study, tmp_path):
    health, data, trainer = study("health"), study("data"), study("trainer")
    task = data.load("water")
    runs = {
        name: health.watched(trainer.Settings("water", name, 2, widths=(4, 8)), task)
        for name in health.RUNS
    }
    lines = runs["rmi-0.01"]["health"]
    assert [line["step"] for line in lines] == [1, 2]
    assert np.shape(lines[0]["slope"]) == (3,)
    health.draw(json.loads(json.dumps(runs)), task.classes, tmp_path / "health.png")
    with Image.open(tmp_path / "health.png") as image:
        assert image.width > 400
