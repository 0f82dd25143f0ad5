"""`examples/train.py` and `examples/predict.py` from end to end (`pytest -m examples`)."""

import dataclasses
import json
import re
import shutil
import time

import miniature
import numpy as np
import pytest
import training
from PIL import Image
from training import DEEPLAB, STEPS, UNET, assert_same, saved

with miniature.importing_examples():
    from segmentation import checkpoints, config, draw, models, windows
    from segmentation.augment import normalize

pytestmark = pytest.mark.examples


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def data(scratch):
    return training.data(scratch / "data")


@pytest.fixture(scope="module")
def finished(scratch, data):
    """An uninterrupted run, what it printed, and its options."""
    options = (*data, *DEEPLAB, "--seed", "3")
    folder = scratch / "finished"
    printed = training.train(*options, "--output", folder, cache=scratch / "cache")
    return folder, printed, options


def test_prints_and_keeps_options_that_can_be_read_again(finished):
    folder, printed, options = finished
    written = (folder / "config.yaml").read_text()
    assert written in printed
    again = config.from_command_line(["--config", str(folder / "config.yaml")])
    assert config.to_yaml(again) == written
    assert again.seed == 3
    assert again.backbone == "tiny"
    assert again.steps == STEPS


def test_logs_what_people_watch(finished):
    folder, printed, _ = finished
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    trained = [r for r in records if "loss" in r]
    assert {2, 4, 6} <= {r["step"] for r in trained}
    for record in trained:
        assert np.isfinite([record[k] for k in ("loss", "cross_entropy", "rmi", "seconds")]).all()
        information = np.array(record["information_per_class"], float)  # null: it does not vary
        assert len(information) == 7
        assert np.nanmin(information) >= 0
        assert np.nanmax(information) < 1
    assert trained[0]["bce_weight"] == 1
    assert trained[-1]["bce_weight"] == 0.5
    assert [r["step"] for r in records if "miou" in r] == [4, 6]
    assert "mIoU" in printed
    assert re.search(r"\d+/6 \[\d\d:\d\d<\d\d:\d\d", printed), "the bar shows the time left"
    events = list((folder / "tensorboard").glob("events.*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    for tag in (b"train/loss", b"information/forest", b"eval/miou", b"sample/0"):
        assert tag in content


def test_report_stands_alone(finished):
    report = (finished[0] / "report.html").read_text()
    sources = re.findall(r"(?:src|href)='([^']{22})", report)
    assert len(sources) == 7  # curves, three best and three worst pictures
    assert set(sources) == {"data:image/png;base64,"}
    assert "http" not in report
    for name in ("forest", "snow", "mIoU", "2007_", "learning_rate"):
        assert name in report


def test_moving_average_follows_the_weights(finished):
    folder, _, _ = finished
    before, after = saved(folder, 4), saved(folder, 5)
    names = [name.removeprefix("weights") for name in after if name.startswith("weights")]
    assert any("statistics" in name for name in names)
    for name in names:
        expected = 0.9 * before[f"average{name}"] + 0.1 * after[f"weights{name}"]
        np.testing.assert_allclose(after[f"average{name}"], expected, rtol=1e-5, atol=1e-6)
    head = next(name for name in names if "head.kernel" in name)
    assert not np.array_equal(after[f"average{head}"], after[f"weights{head}"])


def test_killed_at_any_moment_ends_with_the_same_parameters(finished, scratch):
    whole, _, options = finished
    folder = scratch / "killed"
    options = (*options, "--output", folder)
    # While the first checkpoint is being written, right after one, and while one is written again.
    for name in ("1.*tmp*", "3", "5.*tmp*"):
        process = training.start("train.py", *training.SMALL, *options, cache=scratch / "cache")
        training.kill_when(process, folder / "checkpoints", name)
        assert not (folder / "report.html").exists()
    printed = training.train(*options, cache=scratch / "cache")
    assert "going on from step" in printed
    assert_same(saved(whole), saved(folder))
    history = [
        [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        for run in (whole, folder)
    ]
    scores = [[r["miou"] for r in records if "miou" in r] for records in history]
    assert scores[0] == scores[1]


def stopped_at_4(whole, folder):
    """A copy of a run, without its last two checkpoints."""
    shutil.copytree(whole, folder)
    for step in (5, 6):
        shutil.rmtree(folder / "checkpoints" / str(step))
    return saved(folder, 4)


def test_an_incomplete_copy_of_a_run_goes_on_from_what_is_whole(finished, scratch):
    whole, _, options = finished
    folder = scratch / "copied"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints/6/average")
    (folder / "checkpoints/5/position/metadata").write_text("{half")
    history = (folder / "history.jsonl").read_text().splitlines(keepends=True)
    (folder / "history.jsonl").write_text("".join([history[0], "half a li\n", *history[1:]]))

    predicted = training.run(
        "predict.py", folder, scratch / "data/images/val", "--output", scratch / "back"
    )
    assert "step 4" in predicted
    printed = training.train(*options, "--output", folder, cache=scratch / "cache")
    assert "going on from step 4\nThat of step 6: KeyError" in printed
    assert "That of step 5: " in printed
    assert "history.jsonl: left out what is no record: line 2" in printed
    assert_same(saved(whole), saved(folder))
    steps = [
        json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines()
    ]
    assert steps == [json.loads(line)["step"] for line in history]
    assert (folder / "checkpoints/6.damaged").exists()


def test_full_disk_leaves_the_last_good_checkpoint(finished, scratch):
    whole, _, options = finished
    folder = scratch / "full"
    before = stopped_at_4(whole, folder)

    printed = training.train(
        *options, "--output", folder, code=1, cache=scratch / "cache", file_size=100
    )
    # Threads of the libraries may have complained before; the end says what matters.
    *_, problem, what_is_left = printed.rstrip().split("\n")
    assert f"Could not write to {folder}" in printed
    assert "File too large" in printed
    assert what_is_left.startswith("The last good checkpoint is step 4"), (problem, what_is_left)
    assert_same(before, saved(folder, 4))
    training.train(*options, "--output", folder, cache=scratch / "cache")
    assert_same(saved(whole), saved(folder))


def test_events_that_cannot_be_written_end_the_run(finished, scratch):
    whole, _, options = finished
    folder, size = scratch / "events", 16
    before = stopped_at_4(whole, folder)
    shutil.rmtree(folder / "tensorboard")
    # Pictures at step 5 are too much for the file of events, before there is a new checkpoint.
    process = training.start(
        "train.py", *training.SMALL, *options, "--eval-every", 1, "--output", folder,
        cache=scratch / "cache", file_size=size,
    )  # fmt: skip
    while process.poll() is None and not any(
        file.stat().st_size >= size << 10 for file in folder.glob("tensorboard/*")
    ):
        time.sleep(0.01)
    printed = training.finish(process, code=1, timeout=60)
    assert f"Could not write to {folder}" in printed
    assert "File too large" in printed
    assert printed.rstrip().split("\n")[-1].startswith("The last good checkpoint is step 4")
    assert_same(before, saved(folder, 4))


def test_loss_that_is_not_finite_stops_the_run(scratch, data):
    folder = scratch / "diverged"
    printed = training.train(
        *data, *UNET, "--learning-rate", "1e37", "--output", folder, code=1, cache=scratch / "cache"
    )
    step = int(re.search(r"Step (\d+): the loss is", printed)[1])
    assert 1 < step <= 6
    assert f"The last good checkpoint is step {step - 1}" in printed
    assert "Traceback" not in printed
    for name, values in saved(folder, step - 1).items():
        if name.startswith("weights"):
            assert np.isfinite(values).all(), name


def test_other_options_need_another_folder(finished, scratch):
    folder, _, options = finished
    printed = training.train(*options, "--learning-rate", "1", "--output", folder, code=1)
    assert "learning_rate: 0.007 -> 1.0" in printed
    assert "Choose another --output" in printed


def test_predicts_masks_and_overlays_without_the_loss(finished, scratch):
    folder = finished[0]
    pictures, output, without = (scratch / name for name in ("pictures", "predicted", "without"))
    images = [image[: 20 + 30 * number] for number, (image, _) in enumerate(miniature.crops()[:2])]
    for number, image in enumerate(images):
        miniature.save(pictures / f"{number}.png", image)
    without.mkdir()
    (without / "rmi_jax.py").write_text("raise ImportError('not for inference')")
    process = training.start("predict.py", folder, pictures, "--output", output, modules=without)
    assert "step 6" in training.finish(process)

    options = config.from_command_line(["--config", str(folder / "config.yaml")])
    network = models.build("deeplabv3plus", 7, backbone="tiny", dtype="float32", seed=3)
    _, weights = checkpoints.weights(folder / "checkpoints", network.weights)
    predict = windows.predictor(network, options.crop, 8)(weights)
    colours = np.array(json.loads((folder / "classes.json").read_text())["colours"], np.uint8)
    seen = set()
    for number, image in enumerate(images):
        expected = predict(normalize(image))
        with Image.open(output / f"{number}.png") as mask:
            assert mask.mode == "P"
            labels = np.asarray(mask)
        assert labels.shape == image.shape[:2]
        # The script's process is compiled with fewer optimizations, and rounds differently.
        assert (labels != expected).mean() < 0.01
        seen |= set(np.unique(labels).tolist())
        with Image.open(output / f"{number}_overlay.jpg") as overlay:
            error = np.abs(np.asarray(overlay, int) - draw.overlay(image, labels, colours))
        assert error.mean() < 5  # JPEG
    assert len(seen) > 1
    assert seen <= set(range(7))


def test_bad_data_is_named_before_a_run_and_within(scratch, data):
    broken = scratch / "broken"
    miniature.build("folder", broken)
    masks = [sorted((broken / "masks" / split).glob("*.png"))[1] for split in ("train", "val")]
    for mask in masks:
        mask.write_bytes(mask.read_bytes()[:100])
    missing, wrong = (masks[1].with_name(f"2007_00000{i}.png") for i in (2, 3))
    missing.unlink()
    miniature.save(wrong, np.full(miniature.SIZE, 13, np.uint8))
    options = ("--data", "folder", "--root", broken)
    printed = training.train("--check-data", *options, code=1)
    assert all(str(mask) in printed for mask in masks)
    assert f"{missing}: there is no such file" in printed
    assert f"{wrong}: value 13 at row 0, column 0 is not in the table" in printed
    assert "train: 4 pictures, 1 with problems" in printed
    assert "val: 4 pictures, 3 with problems" in printed
    printed = training.train(*options, *UNET, "--output", scratch / "bad", code=1)
    assert str(masks[0]) in printed.rstrip().splitlines()[-1]
    assert "val: 6 pictures, 0 with problems" in training.train("--check-data", *data)


@pytest.mark.parametrize(
    ("layout", "more"),
    [
        ("voc", ("--dtype", "bfloat16")),  # the default, which other runs here have not
        ("voc-sbd", ()),
        ("cityscapes", ()),
        ("ade20k", ()),
        ("camvid", ("--workers", "1")),
    ],
)
def test_trains_on_every_layout(scratch, layout, more):
    root, folder = scratch / layout, scratch / f"{layout} run"
    miniature.build(layout, root)
    printed = training.train("--data", layout, "--root", root, *UNET, *more, "--output", folder)
    for option in more[::2]:
        assert f"{option.removeprefix('--')}: {more[1]}\n" in printed
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) >= STEPS // 2
    assert np.isfinite(losses).all()
    assert (folder / "report.html").stat().st_size > 0


def test_help_lists_every_option():
    words = training.train("--help").replace(",", " ").split()
    assert "--config" in words
    options = config.flags(dataclasses.asdict(config.Config()))
    for option in options:
        if option.startswith("--"):
            assert option in words
