"""What `examples/predict.py` reads and writes, with a stand-in for the network."""

from types import SimpleNamespace

import miniature
import numpy as np
import pytest
from PIL import Image

with miniature.importing_examples():
    import predict

    from segmentation import checkpoints, config, models, windows, writing
    from segmentation.problems import BadData

pytestmark = pytest.mark.examples

COLOURS = np.array([(0, 0, 0), (255, 0, 0)], np.uint8)


@pytest.fixture
def seen():
    """Shapes of the pictures that the last start predicted."""
    return []


@pytest.fixture
def start(monkeypatch, tmp_path, seen):
    """Predicts class 1 where a picture is bright; gives the shapes of what was predicted."""
    weights = {"kernel": np.arange(3.0)}

    def run(*pictures, output=tmp_path / "out", bias=0.0, **options):
        seen.clear()

        def network(image):
            seen.append(image.shape[:2])
            return (image[..., 0] > 0).astype(np.uint8)

        described = config.Config(model="unet", crop=(16, 16)), ["dark", "木"], COLOURS
        monkeypatch.setattr(predict, "described", lambda run: described)
        monkeypatch.setattr(models, "build", lambda *_, **__: SimpleNamespace(weights=None))
        given = {"kernel": weights["kernel"] + bias}
        monkeypatch.setattr(checkpoints, "weights", lambda *_: (7, given))
        monkeypatch.setattr(windows, "predictor", lambda *_: lambda _: network)
        predict.main(tmp_path / "run", pictures, output, **options)
        return list(seen)

    return run


def save(file, height=8, value=200):
    pixels = np.zeros((height, 12, 3), np.uint8)
    pixels[: height // 2] = value
    miniature.save(file, pixels)


def tree(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_writes_a_mask_and_an_overlay_for_each_picture(start, tmp_path, capsys):
    for name in ("a.png", "site 1/b.c.JPG", "site 1/deep/a.gif"):
        save((tmp_path / "in" / name).with_suffix(".png"))
        (tmp_path / "in" / name).with_suffix(".png").rename(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").touch()
    start(tmp_path / "in")
    made = {str(file.relative_to(tmp_path / "out")) for file in tree(tmp_path / "out")}
    made = {name for name in made if writing.RECORD not in name}
    names = ("a", "site 1/b.c", "site 1/deep/a")
    assert made == {name + end for name in names for end in (".png", "_overlay.jpg")}
    for name in names:
        with Image.open(tmp_path / f"out/{name}.png") as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask)[:, 0], [1, 1, 1, 1, 0, 0, 0, 0])
            assert mask.getpalette()[:6] == [0, 0, 0, 255, 0, 0]
    printed = capsys.readouterr().out
    assert "1 files in" in printed
    assert "notes.txt" in printed
    assert "3 masks and overlays" in printed


@pytest.mark.parametrize("way", ["folder", "file"])
def test_pictures_are_never_replaced_by_their_masks(way, start, seen, tmp_path):
    folder = tmp_path / "in"
    for name in ("a.jpg", "b.png", "c.png", "a_overlay.jpg"):
        save(folder / name)
    before = tree(tmp_path)
    with pytest.raises(writing.ForeignFile, match=r"is in the way"):
        start(*([folder] if way == "folder" else sorted(folder.iterdir())), output=folder)
    assert tree(tmp_path) == before
    assert not seen


def test_what_it_wrote_is_no_picture_and_may_be_written_again(start, tmp_path, capsys):
    folder = tmp_path / "in"
    save(folder / "a.jpg")
    picture = (folder / "a.jpg").read_bytes()
    assert start(folder, output=folder) == [(8, 12)]
    assert start(folder, output=folder) == []
    assert "1 masks and overlays in" in capsys.readouterr().out
    assert start(folder, output=folder, bias=1.0) == [(8, 12)]
    assert {f.name for f in tree(folder)} == {"a.jpg", "a.png", "a_overlay.jpg", writing.RECORD}
    assert (folder / "a.jpg").read_bytes() == picture
    before = tree(folder)
    with pytest.raises(BadData, match=r"a\.png: is a picture, and would be replaced"):
        start(folder / "a.png", output=folder)
    assert tree(folder) == before


def test_the_output_may_lie_among_the_pictures(start, tmp_path):
    save(tmp_path / "in/a.png")
    for _ in range(2):
        start(tmp_path / "in", output=tmp_path / "in/masks")
    assert start(tmp_path / "in", output=tmp_path / "in/masks", bias=1.0) == [(8, 12)]


def test_masks_that_were_corrected_by_hand_stay(start, tmp_path):
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/b.png")
    start(tmp_path / "in")
    save(tmp_path / "out/b.png", value=3)
    before = tree(tmp_path)
    with pytest.raises(writing.ForeignFile, match=r"out/b\.png: is in the way"):
        start(tmp_path / "in", bias=1.0)
    assert tree(tmp_path) == before


def test_one_bad_picture_does_not_end_the_others(start, seen, tmp_path, capsys):
    folder = tmp_path / "in"
    for number in range(4):
        save(folder / f"{number}.png", height=8 + number)
    good = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(good[:45])
    (folder / "3.png").unlink()
    (folder / "3.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadData) as error:
        start(folder)
    first, *named = str(error.value).splitlines()
    assert first == "2 pictures without a mask:"
    assert [line.split(": ")[0] for line in named] == [str(folder / "1.png"), str(folder / "3.png")]
    assert seen == [(8, 12), (10, 12)]
    assert "2 masks and overlays" in capsys.readouterr().out
    assert not (tmp_path / "out/1.png").exists()
    (folder / "1.png").write_bytes(good)  # a second start goes on
    (folder / "3.png").unlink()
    assert start(folder) == [(9, 12)]
    assert "3 masks and overlays in" in capsys.readouterr().out


def test_a_stopped_start_goes_on(start, tmp_path, monkeypatch):
    for number in range(3):
        save(tmp_path / f"in/{number}.png", height=8 + number)
    write = writing.write_whole

    def killed(file, *arguments, **options):
        if file.name == "1_overlay.jpg":
            raise KeyboardInterrupt
        write(file, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "in")
    assert start(tmp_path / "in") == [(9, 12), (10, 12)]
    save(tmp_path / "in/0.png", value=90)  # another picture under the same name
    assert start(tmp_path / "in") == [(8, 12)]


def test_pictures_that_would_have_one_mask_are_refused(start, tmp_path):
    for first, second in (("a.png", "a.jpg"), ("x/a.png", "y/A.jpg"), ("é.png", "e\u0301.jpg")):
        save(tmp_path / "in" / first)
        save(tmp_path / "in" / second)
        files = [tmp_path / "in" / name for name in (first, second)]
        with pytest.raises(BadData, match="would have one name"):
            start(*files)
        assert start(files[0], files[0]) in ([(8, 12)], [])
    with pytest.raises(BadData, match=r"nowhere: there is no such file"):
        start(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="empty: holds no picture"):
        start(tmp_path / "empty")


def test_large_pictures_need_leave_and_have_small_overlays(start, tmp_path, monkeypatch):
    save(tmp_path / "large.png", height=20)
    with pytest.raises(BadData, match=r"12 x 20 pixels, more than 239\. --max-pixels"):
        start(tmp_path / "large.png", max_pixels=239)
    monkeypatch.setattr(predict, "LONGEST", 10)  # of a JPEG file
    start(tmp_path / "large.png", max_pixels=240)
    with Image.open(tmp_path / "out/large.png") as mask:
        assert mask.size == (12, 20)
    with Image.open(tmp_path / "out/large_overlay.jpg") as overlay:
        assert overlay.size == (6, 10)
    for name in ("batch", "max_pixels"):
        with pytest.raises(SystemExit, match=f"--{name.replace('_', '-')} must be at least 1"):
            start(tmp_path / "large.png", **{name: 0})


def test_a_picture_that_memory_does_not_hold_is_named(start, tmp_path, monkeypatch):
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/b.png", height=10)
    normalize = predict.normalize

    def full(image):
        if image.shape[0] == 8:
            raise MemoryError
        return normalize(image)

    monkeypatch.setattr(predict, "normalize", full)
    with pytest.raises(BadData, match=r"a\.png: needs more memory"):
        start(tmp_path / "in")
    assert (tmp_path / "out/b.png").exists()
