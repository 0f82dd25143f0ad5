"""Data sets on disk, as `examples/train.py` reads them (`pytest -m examples`)."""

import shutil
from pathlib import Path

import miniature
import numpy as np
import pytest
from PIL import Image

with miniature.importing_examples():
    from segmentation import catalogue, layouts
    from segmentation.check import check_data
    from segmentation.dataset import IGNORED, FileReader
    from segmentation.problems import BadData

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
    layout: layouts.LayoutName = "camvid" if suffix == ".png" else "ade20k"
    miniature.build(layout, tmp_path)
    dataset = layouts.open_dataset(layout, tmp_path, "train")
    assert isinstance(dataset.reader, FileReader)
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
    assert problem.startswith(f"{file}: stores 16-bit grey (PNG), but a picture must be")


def test_missing_folders_and_lists_are_named(tmp_path):
    with pytest.raises(BadData, match=r"ImageSets.Segmentation.train\.txt: there is no such file"):
        layouts.open_dataset("voc", tmp_path, "train")
    with pytest.raises(BadData, match=r"leftImg8bit.val: there is no such folder"):
        layouts.open_dataset("cityscapes", tmp_path, "val")
    with pytest.raises(BadData, match="nowhere: there is no such folder"):
        layouts.open_dataset("voc", tmp_path / "nowhere", "train")
    with pytest.raises(BadData, match="needs the data set's folder"):
        layouts.open_dataset("voc", None, "train")
    with pytest.raises(BadData, match=r"classes\.toml: there is no such file"):
        layouts.open_dataset("folder", tmp_path, "train")
    (tmp_path / "classes.toml").write_text("[classes]\nsea = 0\nland = 1")
    with pytest.raises(BadData, match=r"images.train: there is no such folder.*train\.txt"):
        layouts.open_dataset("folder", tmp_path, "train")


def test_a_listed_picture_that_is_missing_is_named_by_the_check(tmp_path):
    miniature.build("folder:lists", tmp_path)
    with (tmp_path / "train.txt").open("a") as file:
        file.write("\nno_such_stem\n")
    (problem,) = check_data(layouts.open_dataset("folder", tmp_path, "train"))
    assert "no_such_stem.png: there is no such file" in problem


def test_two_pictures_of_one_name_are_refused(tmp_path):
    miniature.build("folder", tmp_path)
    file = tmp_path / "images/train/2007_000000.png"
    shutil.copy(file, file.with_suffix(".bmp"))
    with pytest.raises(BadData, match="has the same name as 2007_000000"):
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
        ('[classes]\nland = 0\nsea = "blue"', "got 'blue'"),
        ("[classes]\nland = 0\nsea = -1", "got -1"),
        ("[classes]\nland = 0\nsea = true", "got True"),
        ("[classes\nsea = 0", "cannot be read"),
        ('[classes]\nsea = 0\nlake = 1\n[colours]\nland = "#00ff00"', "no such class"),
        ("[classes]\nsea = 0\nland = 1\n[colours]\nsea = 7", "got 7"),
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
    table.write_text("[classes]\nsea = 0\nland = 1")
    problems = check_data(layouts.open_dataset("folder", tmp_path, "train", table=table))
    assert len(problems) == 4
    assert "stores 8-bit rgb (PNG), but the table gives one value" in problems[0]
