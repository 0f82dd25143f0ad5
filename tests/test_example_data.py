"""The data side of `examples/train.py` (`pytest -m examples`)."""

import json
import shutil
from pathlib import Path

import miniature
import numpy as np
import pytest
from PIL import Image

with miniature.importing_examples():
    from segmentation import catalogue, layouts, pipeline
    from segmentation.augment import augment, normalize
    from segmentation.check import check_data
    from segmentation.dataset import IGNORED, BadData

pytestmark = pytest.mark.examples


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("voc", 21),
        ("voc-sbd", 21),
        ("voc-sbd:trainaug.txt", 21),
        ("voc-sbd:train_aug.txt", 21),
        ("cityscapes", 19),
        ("cityscapes:labelIds", 19),
        ("ade20k", 150),
        ("camvid", 11),
        ("folder", 7),
        ("folder:colours", 7),
        ("folder:lists", 7),
    ],
)
def test_layout_reads_back_what_was_written(name, classes, tmp_path):
    for split, expected in miniature.build(name, tmp_path).items():
        dataset = layouts.open_dataset(name.split(":")[0], tmp_path, split)
        assert len(dataset.classes) == classes
        assert dataset.colours.shape == (classes, 3)
        assert dataset.colours.dtype == np.uint8
        assert [dataset.name(i) for i in range(len(dataset))] == [e.name for e in expected]
        for i, (_, wanted, wanted_labels) in enumerate(expected):
            image, labels = dataset.read(i)
            assert image.dtype == labels.dtype == np.uint8
            np.testing.assert_array_equal(labels, wanted_labels)
            error = np.abs(image.astype(int) - wanted)
            assert error.mean() < (5 if ("voc" in name or "ade" in name) else 1e-9)  # JPEG
        assert check_data(dataset) == []


@pytest.mark.parametrize(("task", "sizes"), [("water", (101, 33)), ("land-cover", (186, 61))])
def test_shipped_imagery_is_a_data_set_with_disjoint_splits(task, sizes):
    train, val = (layouts.open_dataset(task, None, split) for split in ("train", "val"))
    assert (len(train), len(val)) == sizes
    assert not set(train.names) & set(val.names)
    assert check_data(val) == []
    image, labels = val.read(0)
    assert image.shape == (*labels.shape, 3)
    assert set(np.unique(labels)) <= {*range(len(val.classes)), IGNORED}


def test_ade20k_takes_the_names_from_the_data_sets_own_file(tmp_path):
    miniature.build("ade20k", tmp_path)
    rows = [f"{i}\t0.1\t1\t1\t0\tthing {i}, other word" for i in range(1, 151)]
    info = tmp_path / "ADEChallengeData2016/objectInfo150.txt"
    info.write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]))
    dataset = layouts.open_dataset("ade20k", tmp_path, "val")
    assert dataset.classes[0] == "thing 1"
    assert dataset.classes[149] == "thing 150"


def test_palette_is_that_of_voc():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    np.testing.assert_array_equal(catalogue.palette(6), expected)
    np.testing.assert_array_equal(catalogue.palette(256)[255], [224, 224, 192])


@pytest.fixture
def camvid(tmp_path):
    miniature.build("camvid", tmp_path)
    return tmp_path


def _problems(root: Path) -> list[str]:
    return check_data(layouts.open_dataset("camvid", root, "train"))


def test_check_names_a_missing_mask(camvid):
    mask = camvid / "trainannot/2007_000001.png"
    mask.unlink()
    (problem,) = _problems(camvid)
    assert str(mask) in problem
    assert "2007_000001.png" in problem
    with pytest.raises(BadData, match="no such file"):
        layouts.open_dataset("camvid", camvid, "train").read(1)


def test_check_names_a_mask_of_another_size(camvid):
    mask = camvid / "trainannot/2007_000002.png"
    with Image.open(mask) as picture:
        picture.resize((70, 56), Image.Resampling.NEAREST).save(mask)
    (problem,) = _problems(camvid)
    assert problem.startswith(f"{mask}: is 70 x 56 pixels")
    assert "72 x 56" in problem


def test_check_names_a_value_outside_the_table(camvid):
    mask = camvid / "trainannot/2007_000000.png"
    labels = np.array(Image.open(mask))
    labels[7, 5:8] = 13
    miniature.save(mask, labels)
    (problem,) = _problems(camvid)
    assert problem.startswith(f"{mask}: value 13 at row 7, column 5 is not in the table (3 ")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_check_names_a_truncated_picture(suffix, share, tmp_path):
    layout = {".png": "camvid", ".jpg": "ade20k"}[suffix]
    miniature.build(layout, tmp_path)
    dataset = layouts.open_dataset(layout, tmp_path, "train")
    file = dataset.reader.samples[2].image
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    (problem,) = check_data(dataset)
    assert problem.startswith(f"{file}: cannot be read")


def test_check_lists_all_problems_in_order(camvid):
    (camvid / "trainannot/2007_000003.png").unlink()
    (camvid / "train/2007_000001.png").write_bytes(b"not a picture")
    problems = _problems(camvid)
    assert [("000001" in p, "000003" in p) for p in problems] == [(True, False), (False, True)]


def test_a_picture_with_wide_channels_is_refused_and_not_clipped(camvid):
    file = camvid / "train/2007_000001.png"
    Image.fromarray(np.full(miniature.SIZE, 3000, np.uint16)).save(file)
    (problem,) = _problems(camvid)
    assert problem.startswith(f"{file}: has more than 8 bits")


def test_missing_folders_and_lists_are_named(tmp_path):
    with pytest.raises(BadData, match=r"ImageSets.Segmentation.train\.txt: there is no such file"):
        layouts.open_dataset("voc", tmp_path, "train")
    with pytest.raises(BadData, match="no picture of the split val of cityscapes"):
        layouts.open_dataset("cityscapes", tmp_path, "val")
    with pytest.raises(BadData, match="nowhere: there is no such folder"):
        layouts.open_dataset("voc", tmp_path / "nowhere", "train")
    with pytest.raises(BadData, match="needs the data set's folder"):
        layouts.open_dataset("voc", None, "train")
    with pytest.raises(BadData, match=r"classes\.toml: there is no such file"):
        layouts.open_dataset("folder", tmp_path, "train")
    (tmp_path / "classes.toml").write_text("[classes]\nsea = 0")
    with pytest.raises(BadData, match=r"images.train: there is no such folder.*train\.txt"):
        layouts.open_dataset("folder", tmp_path, "train")


def test_a_listed_picture_that_is_missing_is_named_by_the_check(tmp_path):
    miniature.build("folder:lists", tmp_path)
    with (tmp_path / "train.txt").open("a") as file:
        file.write("\nno_such_stem\n")
    (problem,) = check_data(layouts.open_dataset("folder", tmp_path, "train"))
    assert "no_such_stem.png: there is no such file" in problem


def test_two_pictures_of_one_stem_are_refused(tmp_path):
    miniature.build("folder", tmp_path)
    file = tmp_path / "images/train/2007_000000.png"
    shutil.copy(file, file.with_suffix(".bmp"))
    with pytest.raises(BadData, match="same stem"):
        layouts.open_dataset("folder", tmp_path, "train")


def test_several_values_of_16_bits_may_stand_for_a_class(tmp_path):
    _, labels = miniature.crops()[0]
    miniature.save(tmp_path / "images/train/a.png", miniature.crops()[0][0])
    wide = np.where(labels == 1, 700, np.where(labels == 0, 40000, 3)).astype(np.uint16)
    file = tmp_path / "masks/train/a.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(wide).save(file)
    (tmp_path / "classes.toml").write_text("[classes]\nother = 3\nland = [700, 40000]")
    _, read = layouts.open_dataset("folder", tmp_path, "train").read(0)
    np.testing.assert_array_equal(read, labels <= 1)
    (tmp_path / "classes.toml").write_text("[classes]\nother = 3\nland = 700")
    (problem,) = check_data(layouts.open_dataset("folder", tmp_path, "train"))
    assert f"{file}: value 40000 at row" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("classes = 3", "needs a table `classes`"),
        ("[classes]\nsea = 0\nland = 0", "0 stands for two classes"),
        ('[classes]\nsea = 0\nland = "#00ff00"', "either values or colours"),
        ('[classes]\nsea = "blue"', "got 'blue'"),
        ("[classes]\nsea = -1", "got -1"),
        ("[classes]\nsea = true", "got True"),
        ("[classes\nsea = 0", "cannot be read"),
        ('[classes]\nsea = 0\n[colours]\nland = "#00ff00"', "no such class"),
        ("[classes]\nsea = 0\n[colours]\nsea = 7", "got 7"),
    ],
)
def test_a_wrong_table_of_classes_is_explained(content, message, tmp_path):
    miniature.build("folder", tmp_path)
    table = tmp_path / "mine.toml"
    table.write_text(content)
    with pytest.raises(BadData, match=message) as error:
        layouts.open_dataset("folder", tmp_path, "train", table=table)
    assert str(table) in str(error.value)


def test_a_colour_outside_the_table_is_named(tmp_path):
    miniature.build("folder:colours", tmp_path)
    file = tmp_path / "masks/val/2007_000001.png"
    pixels = np.array(Image.open(file))
    pixels[3, 4] = 1, 2, 3
    miniature.save(file, pixels)
    (problem,) = check_data(layouts.open_dataset("folder", tmp_path, "val"))
    assert problem.startswith(f"{file}: colour #010203 at row 3, column 4")


def test_values_in_the_table_but_a_mask_in_colour(tmp_path):
    miniature.build("folder:colours", tmp_path)
    table = tmp_path / "values.toml"
    table.write_text("[classes]\nsea = 0")
    problems = check_data(layouts.open_dataset("folder", tmp_path, "train", table=table))
    assert len(problems) == 4
    assert "has 3 channels (mode RGB)" in problems[0]


def _augmented(image, labels, seed, **options):
    defaults = {"crop": (40, 48), "scale_range": (0.5, 2.0), "mirror": True, "colour": 0.0}
    return augment(image, labels, np.random.default_rng(seed), **{**defaults, **options})


def _pixels(image):
    """Back to 0 to 255, rounded."""
    zero, one = normalize(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    return np.rint(255 * (image - zero) / (one - zero)).astype(int)


def test_picture_and_labels_are_scaled_cropped_and_mirrored_together():
    _, labels = miniature.crops()[3]
    labels = (labels == np.bincount(labels.ravel()).argmax()).astype(np.uint8)
    painted = np.repeat(255 * labels[..., None], 3, axis=-1)
    decided = 0
    for seed in range(40):
        result = _augmented(painted, labels, seed)
        pixels, classes = _pixels(result["image"])[..., 0], result["labels"]
        inside = classes != IGNORED
        # Where everything that went into a pixel has one class, the label must be that class.
        np.testing.assert_array_equal(classes[inside & (pixels == 255)], 1)
        np.testing.assert_array_equal(classes[inside & (pixels == 0)], 0)
        decided += (inside & np.isin(pixels, (0, 255))).sum()
    assert decided > 0.4 * 40 * 40 * 48


def test_crops_at_scale_1_are_windows_of_the_picture():
    image, labels = miniature.crops()[0]
    result = _augmented(image, labels, 0, scale_range=(1, 1), mirror=False, crop=(20, 30))
    windows = np.lib.stride_tricks.sliding_window_view(labels, (20, 30))
    row, column = np.argwhere((windows == result["labels"]).all(axis=(2, 3)))[0]
    window = image[row : row + 20, column : column + 30]
    np.testing.assert_array_equal(_pixels(result["image"]), window)
    mirrored = [
        _augmented(image, labels, seed, scale_range=(1, 1), crop=miniature.SIZE)["labels"]
        for seed in range(20)
    ]
    assert {np.array_equal(labels, m) for m in mirrored} == {True, False}
    assert all(np.array_equal(labels, m) or np.array_equal(labels[:, ::-1], m) for m in mirrored)


def test_small_pictures_are_padded_with_ignored_pixels():
    image, labels = miniature.crops()[0]
    labels = np.where(labels == IGNORED, 0, labels)
    result = _augmented(image, labels, 1, scale_range=(0.5, 0.5), crop=(64, 64))
    padding = result["labels"] == IGNORED
    assert (~padding).sum() == (miniature.SIZE[0] // 2) * (miniature.SIZE[1] // 2)
    np.testing.assert_array_equal(result["image"][padding], 0)
    assert result["image"].shape == (64, 64, 3)


def test_colours_change_and_labels_do_not():
    image, labels = miniature.crops()[0]
    plain, changed = (
        _augmented(image, labels, 2, colour=c, mirror=False, scale_range=(1, 1)) for c in (0, 0.5)
    )
    np.testing.assert_array_equal(plain["labels"], changed["labels"])
    assert np.abs(plain["image"] - changed["image"]).mean() > 0.05


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("camvid")
    miniature.build("camvid", root, count=7)
    return layouts.open_dataset("camvid", root, "train")


def _take(dataset, count, **options):
    iterator = pipeline.train_batches(dataset, **{"batch": 2, "crop": 32, "seed": 5, **options})
    batches = [next(iterator) for _ in range(count)]
    return batches, iterator


def _assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys() == {"image", "labels"}
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_batches_have_the_promised_shapes_and_follow_the_seed(dataset):
    batches, _ = _take(dataset, 4, crop=(32, 40))
    for batch in batches:
        assert batch["image"].shape == (2, 32, 40, 3)
        assert batch["image"].dtype == np.float32
        assert batch["labels"].shape == (2, 32, 40)
        assert batch["labels"].dtype == np.int32
    _assert_same(batches, _take(dataset, 4, crop=(32, 40), threads=5)[0])
    other = _take(dataset, 4, crop=(32, 40), seed=6)[0]
    assert not np.array_equal(batches[0]["image"], other[0]["image"])


def test_worker_processes_give_the_same_batches_and_resume(dataset, monkeypatch):
    monkeypatch.syspath_prepend(miniature.EXAMPLES)  # new processes take over the path
    alone, _ = _take(dataset, 5)
    batches, iterator = _take(dataset, 3, workers=2)
    state = json.loads(json.dumps(iterator.get_state()))
    _assert_same(batches, alone[:3])
    iterator.close()
    again = pipeline.train_batches(dataset, batch=2, crop=32, seed=5, workers=2)
    again.set_state(state)
    _assert_same([next(again), next(again)], alone[3:])
    again.close()


@pytest.mark.parametrize("done", [1, 5])  # amid the first epoch and amid the second
def test_a_saved_position_continues_as_if_nothing_had_happened(dataset, done):
    batches, _ = _take(dataset, done + 3)
    _, stopped = _take(dataset, done)
    state = json.loads(json.dumps(stopped.get_state()))
    resumed = pipeline.train_batches(dataset, batch=2, crop=32, seed=5)
    resumed.set_state(state)
    _assert_same([next(resumed) for _ in range(3)], batches[done:])


def test_shards_are_disjoint_and_together_complete(dataset):
    whole = {"scale_range": (1, 1), "crop": miniature.SIZE}
    alone, _ = _take(dataset, 7, batch=4, **whole)  # 4 epochs of 7 pictures
    shards = [_take(dataset, 7, shard=(i, 2), **whole)[0] for i in range(2)]

    def sorted_pictures(batches):
        return sorted(image.tobytes() for batch in batches for image in batch["image"])

    for batch, *parts in zip(alone, *shards, strict=True):
        assert sorted_pictures([batch]) == sorted_pictures(parts)
    # Labels do not change colour; undo the mirroring to tell which picture it was.
    seen = [
        min(labels.tobytes(), labels[:, ::-1].tobytes())
        for parts in zip(*shards, strict=True)
        for k in range(2)
        for labels in (part["labels"][k] for part in parts)
    ]
    for epoch in range(4):
        assert len(set(seen[7 * epoch : 7 * epoch + 7])) == 7
    assert seen[:7] != seen[7:14]


def test_a_bad_file_stops_training_by_name(tmp_path):
    miniature.build("camvid", tmp_path)
    file = tmp_path / "trainannot/2007_000001.png"
    file.write_bytes(b"")
    with pytest.raises(BadData, match=r"trainannot.2007_000001\.png: cannot be read"):
        _take(layouts.open_dataset("camvid", tmp_path, "train"), 3)


def test_wrong_shards_are_refused(dataset):
    with pytest.raises(ValueError, match=r"got \(2, 2\)"):
        pipeline.train_batches(dataset, batch=2, crop=32, seed=0, shard=(2, 2))


def test_evaluation_sees_every_picture_once_at_full_size(dataset):
    shards = [list(pipeline.eval_pictures(dataset, (i, 2))) for i in range(2)]
    names = [name for shard in shards for name, _, _ in shard]
    assert sorted(names) == list(dataset.names)
    for name, image, labels in shards[0]:
        wanted, wanted_labels = dataset.read(dataset.names.index(name))
        np.testing.assert_array_equal(image, wanted)
        np.testing.assert_array_equal(labels, wanted_labels)
