"""Augmentation and batches of `examples/train.py` (`pytest -m examples`)."""

import json

import miniature
import numpy as np
import pytest

with miniature.importing_examples():
    from segmentation import layouts, pipeline
    from segmentation.augment import augment, normalize
    from segmentation.dataset import IGNORED
    from segmentation.problems import BadData

pytestmark = pytest.mark.examples


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
