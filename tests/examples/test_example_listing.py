"""Which files are a data set's pictures, and which masks are theirs (`pytest -m examples`)."""

import unicodedata
from pathlib import Path

import miniature
import numpy as np
import pytest

with miniature.importing_examples():
    from segmentation import layouts, listing, public
    from segmentation.check import check_data
    from segmentation.problems import BadData

pytestmark = pytest.mark.examples

# Folders of pictures and of masks, and what their names end in, of each layout without lists.
PLACES = {
    "folder": ("images/train", "masks/train", "", ""),
    "ade20k": ("images/training", "annotations/training", "", ""),
    "camvid": ("train", "trainannot", "", ""),
    "cityscapes": (
        "leftImg8bit/train", "gtFine/train", "_leftImg8bit", "_gtFine_labelIds"
    ),
    "isbi": ("image", "label", "", ""),
}  # fmt: skip
LISTED = {"folder": ("images", "masks", "{}.txt")} | dict.fromkeys(
    ("voc", "voc-sbd"), ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/{}.txt")
)


def put(file: Path, value: int = 1) -> None:
    miniature.save(file, np.full((8, 8), value, np.uint8))


def put_pair(root: Path, layout: str, name: str, ending: str = ".png") -> None:
    pictures, masks, tail, mask_tail = PLACES[layout]
    put(root / pictures / f"{name}{tail}{ending}")
    put(root / masks / f"{name}{mask_tail}.png", 255 if layout == "isbi" else 1)


def opened(root: Path, layout: layouts.LayoutName):
    root.mkdir(exist_ok=True)
    (root / "classes.toml").write_text("[classes]\nground = 0\nroad = 1\nsky = 2\ncar = 3")
    return layouts.open_dataset(layout, root, "train")


@pytest.fixture(params=[name for name in PLACES if name != "isbi"])
def layout(request):
    return request.param


def test_endings_count_in_any_case(layout, tmp_path):
    endings = (".png", ".PNG", ".Jpg", ".jpeg", ".JFIF", ".gif", ".ppm", ".pgm", ".bmp", ".tif",
               ".TIFF", ".webp")  # fmt: skip
    for number, ending in enumerate(endings):
        stored = ending.lower().replace(".jfif", ".jpeg")
        put_pair(tmp_path, layout, f"{number:02d}", stored)
        pictures, _, tail, _ = PLACES[layout]
        file = tmp_path / pictures / f"{number:02d}{tail}{stored}"
        file.rename(file.with_suffix(ending))
    dataset = opened(tmp_path, layout)
    assert dataset.names == tuple(f"{n:02d}" for n in range(len(endings)))
    assert not dataset.left_out
    assert not check_data(dataset)


def test_hidden_companions_are_passed_over(layout, tmp_path):
    put_pair(tmp_path, layout, "a")
    put_pair(tmp_path, layout, ".hidden")
    pictures, masks, tail, mask_tail = PLACES[layout]
    for folder, end in ((pictures, tail), (masks, mask_tail)):
        (tmp_path / folder / f"._a{end}.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
        (tmp_path / folder / "Thumbs.db").touch()
        (tmp_path / folder / "desktop.ini").touch()
        put(tmp_path / folder / f"__MACOSX/b{end}.png")
        put(tmp_path / folder / f".cache/c{end}.png")
    dataset = opened(tmp_path, layout)
    assert dataset.names == ("a",)
    assert not dataset.left_out
    assert not check_data(dataset)


def test_folders_within_are_part_of_the_names(layout, tmp_path):
    names = ("a", "b.c", "site 1/a", "site 1/deep/a", "zoo/1", "zoo/2", "zoo/10")
    for name in names:
        put_pair(tmp_path, layout, name)
    dataset = opened(tmp_path, layout)
    assert set(dataset.names) == set(names)
    assert not check_data(dataset)
    if layout != "cityscapes":
        assert dataset.names[-3:] == ("zoo/1", "zoo/2", "zoo/10")


def test_links_that_lead_back_up_are_followed_once(tmp_path):
    put(tmp_path / "there/a.png")
    (tmp_path / "all").mkdir()
    (tmp_path / "all/b").symlink_to(tmp_path / "there")
    (tmp_path / "there/up").symlink_to(tmp_path / "all")
    assert list(listing.listing(tmp_path / "all").files) == ["b/a"]


def test_what_is_left_out_is_told_with_a_count_and_a_name(layout, tmp_path):
    put_pair(tmp_path, layout, "a")
    pictures, masks, tail, mask_tail = PLACES[layout]
    for name in ("c.heic", "b.txt", "sub/d.mp4"):
        file = tmp_path / pictures / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    dataset = opened(tmp_path, layout)
    assert dataset.names == ("a",)
    first = f"3 files in {tmp_path / pictures} are no pictures that can be read"
    assert dataset.left_out[0].startswith(first)
    assert dataset.left_out[0].endswith(f"such as {tmp_path / pictures / 'b.txt'}")
    if layout != "cityscapes":  # whose folders of masks hold much else
        put(tmp_path / masks / f"alone{mask_tail}.png")
        _, alone = opened(tmp_path, layout).left_out
        assert alone.startswith(f"1 files in {tmp_path / masks} have no picture in")
        assert alone.endswith(f"alone{mask_tail}.png")
    else:
        put(tmp_path / pictures / "x/without_tail.png")
        assert opened(tmp_path, layout).left_out[0].startswith("4 files")


def test_a_folder_without_pictures_says_what_is_there(layout, tmp_path):
    pictures, masks, *_ = PLACES[layout]
    for folder in (pictures, masks):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / pictures / "a.heic").touch()
    with pytest.raises(BadData, match=r"1 files .* no pictures that can be read.*a\.heic"):
        opened(tmp_path, layout)


def test_a_missing_mask_is_named_when_it_is_read(layout, tmp_path):
    put_pair(tmp_path, layout, "a")
    put_pair(tmp_path, layout, "b")
    pictures, masks, tail, mask_tail = PLACES[layout]
    mask = tmp_path / masks / f"b{mask_tail}.png"
    mask.unlink()
    (problem,) = check_data(opened(tmp_path, layout))
    picture = tmp_path / pictures / f"b{tail}.png"
    assert problem == f"{mask}: there is no such file, the mask of {picture}"


def test_two_pictures_of_one_name_are_refused(layout, tmp_path):
    put_pair(tmp_path, layout, "a")
    put_pair(tmp_path, layout, "a", ".bmp")
    with pytest.raises(BadData, match=r"has the same name as a.*\.bmp"):
        opened(tmp_path, layout)


def test_names_match_in_every_form_of_unicode(layout, tmp_path):
    pictures, masks, tail, mask_tail = PLACES[layout]
    put(tmp_path / pictures / unicodedata.normalize("NFD", f"forêt{tail}.png"))
    put(tmp_path / masks / unicodedata.normalize("NFC", f"forêt{mask_tail}.png"))
    dataset = opened(tmp_path, layout)
    assert dataset.names == ("forêt",)
    assert not check_data(dataset)


NAMES = ("cam.001", "cam.002", "cam", "my photo", " led by a blank", "site 1/a.b", "site 2/a.b",
         "forêt", "a.png", "a  b")  # fmt: skip


@pytest.fixture(params=["folder", "voc"])
def listed(request, tmp_path):
    """A data set with a list; a function that writes the list and opens it."""
    pictures, masks, where = LISTED[request.param]
    for number, name in enumerate(NAMES):
        put(tmp_path / pictures / f"{name}.jpg", 9)
        put(tmp_path / masks / f"{unicodedata.normalize('NFD', name)}.png", number % 4)
    file = tmp_path / where.format("train")

    def read(*lines: str):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines), encoding="utf-8")
        return opened(tmp_path, request.param)

    return read


def test_lists_are_names_in_their_order_and_as_often(listed):
    chosen = ("my photo", "cam.002", "cam", "cam.002", "site 2/a.b", *NAMES)
    dataset = listed(*chosen)
    assert dataset.names == chosen
    assert not check_data(dataset)
    for i, name in enumerate(chosen):
        assert (dataset.read(i)[1] == NAMES.index(name) % 4).all(), name


def test_lists_may_have_endings_and_folders(listed):
    top = Path(listed("cam").reader.samples[0].image).parent.name
    lines = ("cam.001.jpg", f"{top}/cam.JPG", f"/{top}/site 1/a.b.jpg", "./my photo ", "  cam.002")
    dataset = listed(*lines, unicodedata.normalize("NFD", "forêt.jpg"))
    assert dataset.names == ("cam.001", "cam", "site 1/a.b", "my photo", "cam.002", "forêt")
    assert not check_data(dataset)


def test_lists_may_name_the_masks(listed):
    sample = listed("cam").reader.samples[0]
    pictures, masks = sample.image.parent.name, sample.mask.parent.name
    lines = (
        f"/{pictures}/cam.jpg /{masks}/cam.001.png",
        f"{pictures}/my photo.jpg  {masks}/a  b.png",
        "cam.001.jpg\tcam.png",
        f"/{pictures}/cam.jpg /{masks}/nowhere.png",
    )
    dataset = listed(*lines)
    assert dataset.names == ("cam", "my photo", "cam.001", "cam")
    assert [(dataset.read(i)[1][0, 0]) for i in range(3)] == [0, 9 % 4, 2]
    (problem,) = check_data(dataset)
    assert f"{masks}/nowhere.png: there is no such file" in problem


def test_a_line_that_names_nothing_is_named(listed):
    dataset = listed("cam", "no such picture.1")
    (problem,) = check_data(dataset)
    assert "no such picture.1.png: there is no such file" in problem


def test_sbd_trains_on_all_masks_but_those_of_validation(tmp_path):
    for number, name in enumerate(NAMES):
        put(tmp_path / f"JPEGImages/{name}.jpg")
        put(tmp_path / f"SegmentationClassAug/{name}.png", number)
        put(tmp_path / f"SegmentationClass/{name}.png", number)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("cam.002\nmy photo\n")
    dataset = opened(tmp_path, "voc-sbd")
    assert set(dataset.names) == set(NAMES) - {"cam.002", "my photo"}
    assert not check_data(dataset)


@pytest.mark.parametrize("variant", ["", "testing"])
@pytest.mark.parametrize("below", [".", "DRIVE"])
def test_drive_ignores_what_is_outside_the_field_of_view(variant, below, tmp_path):
    for split, expected in miniature.drive(tmp_path, variant).items():
        dataset = layouts.open_dataset("drive", tmp_path / below, split)
        assert dataset.classes == ("background", "vessel")
        assert dataset.names == tuple(e.name for e in expected)
        assert not dataset.left_out
        assert check_data(dataset) == []
        for i, (_, wanted, wanted_labels) in enumerate(expected):
            image, labels = dataset.read(i)
            np.testing.assert_array_equal(image, wanted)
            np.testing.assert_array_equal(labels, wanted_labels)
            assert set(np.unique(labels)) <= {0, 1, 255}
    view = tmp_path / "DRIVE/training/mask/22_training_mask.gif"
    view.unlink()
    (problem,) = check_data(layouts.open_dataset("drive", tmp_path, "train"))
    assert problem.startswith(f"{view}: there is no such file, the field of view of")


@pytest.mark.parametrize("below", [".", "data/membrane", "data/membrane/train"])
def test_isbi_in_folds_of_slices_in_a_row(below, tmp_path):
    made = miniature.isbi(tmp_path)
    for fold in range(public.FOLDS):
        for split in ("train", "val", "test"):
            dataset = layouts.open_dataset("isbi", tmp_path / below, split, fold=fold)
            assert dataset.classes == ("cell", "membrane")
            assert check_data(dataset) == []
            for i, name in enumerate(dataset.names):
                image, labels = dataset.read(i)
                np.testing.assert_array_equal(image, made[int(name)].image)
                np.testing.assert_array_equal(labels, made[int(name)].labels)
    told = layouts.open_dataset("isbi", tmp_path, "val", fold=1).left_out
    assert told == ("3 slices lie between the parts of fold 1: 2, 6, 9",)
    with pytest.raises(BadData, match="has folds 0 to 4, got 5"):
        layouts.open_dataset("isbi", tmp_path, "train", fold=5)


@pytest.mark.parametrize("slices", [15, 30, 31])
def test_no_slice_of_a_part_has_a_neighbour_in_another(slices):
    tested = []
    for fold in range(public.FOLDS):
        chosen, between = public.parts(slices, fold)
        everything = [*chosen["train"], *chosen["val"], *chosen["test"], *between]
        assert sorted(everything) == list(range(slices))
        tested += chosen["test"]
        for part in chosen:
            for other in set(chosen) - {part}:
                gaps = np.subtract.outer(chosen[part], chosen[other])
                assert abs(gaps).min() > 1
        for part in ("val", "test"):
            assert chosen[part] == list(range(chosen[part][0], chosen[part][-1] + 1))
        assert len(between) <= 3
    assert sorted(tested) == list(range(slices))
