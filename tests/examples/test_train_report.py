"""Scores and the report of `examples/train.py` on pictures made for it (`pytest -m examples`)."""

import html
import re

import miniature
import numpy as np
import pytest

with miniature.importing_examples():
    from segmentation import augment, config, evaluation, hosts, report, writing
    from segmentation.dataset import IGNORED, Dataset

pytestmark = pytest.mark.examples

# Of each picture, how many pixels of class 1 are taken for class 0, and of class 2 for class 1.
MISTAKES = ((3, 0), (0, 0), (5, 4), (0, 1), (2, 2), (6, 6), (1, 1))
BLANK = 5  # all of it is ignored
LABELS = np.repeat([0, 1, 2], 8).reshape(4, 6).astype(np.uint8)


def read(i):
    labels = np.full_like(LABELS, IGNORED) if i == BLANK else LABELS
    return np.full((*LABELS.shape, 3), i, np.uint8), labels


NAMES = tuple(f"picture {i}" for i in range(len(MISTAKES)))
DATASET = Dataset(("sea", "land", "lake"), np.eye(3, dtype=np.uint8) * 200, NAMES, read)


def predict(image):
    value = 255 * (image * augment.STD + augment.MEAN)
    wrong_1, wrong_2 = MISTAKES[round(float(value.mean()))]
    prediction = LABELS.copy().ravel()
    prediction[8 : 8 + wrong_1] = 0
    prediction[16 : 16 + wrong_2] = 1
    return prediction.reshape(LABELS.shape)


def matrix(i):
    wrong_1, wrong_2 = MISTAKES[i]
    return np.array([[8, 0, 0], [wrong_1, 8 - wrong_1, 0], [0, wrong_2, 8 - wrong_2]])


def mean_iou(counts):
    right = np.diag(counts)
    return (right / (counts.sum(0) + counts.sum(1) - right)).mean()


def test_scores_add_up_and_the_best_and_the_worst_are_in_order():
    result = evaluation.evaluate(predict, DATASET)
    read_ones = [i for i in range(len(NAMES)) if i != BLANK]
    total = sum(map(matrix, read_ones))
    np.testing.assert_array_equal(result.matrix, total)
    assert evaluation.mean_iou(result.matrix) == pytest.approx(mean_iou(total), rel=1e-6)
    assert [p.name for p in result.first] == ["picture 0", "picture 1", "picture 2"]
    assert [p.name for p in result.best] == ["picture 1", "picture 3", "picture 6"]
    assert [p.name for p in result.worst] == ["picture 2", "picture 4", "picture 0"]
    for picture in (*result.best, *result.worst):
        i = NAMES.index(picture.name)
        assert picture.score == pytest.approx(mean_iou(matrix(i)), rel=1e-6)
        np.testing.assert_array_equal(picture.image, read(i)[0])
        np.testing.assert_array_equal(picture.labels, LABELS)
        assert (picture.prediction != LABELS).sum() == sum(MISTAKES[i])


def written(folder, records):
    options = config.Config(model="unet", crop=(16, 16))
    result = evaluation.evaluate(predict, DATASET)
    report.write(folder / "report.html", options, DATASET, records, result)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_report_of_a_run_whose_history_is_lost(tmp_path):
    score = {"step": 6, "miou": 0.5, "accuracy": 0.5, "iou_per_class": [0.5] * 3}
    text = written(tmp_path, [score])
    assert text.count("<td>–</td>") == 6  # mutual information and slope
    assert "among those that process" not in text


def test_report_says_which_pictures_one_of_several_processes_has_read(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "shard", lambda: (0, 2))
    text = written(tmp_path, [{"step": 6, "miou": 0.5}])
    assert "among those that process 0 has read, one picture in 2" in text
    assert "picture 2:" in text
    assert "picture 1:" not in text


SCRIPTS = ("木", "غابة", "वन", "forêt", "ป่า", "🌲", "<b>&", "\u200bx")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [3, 8, 41])
def test_names_in_any_script_are_in_the_report(count, tmp_path):
    names = (*SCRIPTS, *(f"木{n}" for n in range(count)))[:count]
    dataset = Dataset(names, np.zeros((count, 3), np.uint8), NAMES, read)
    result = evaluation.evaluate(predict, dataset)
    options = config.Config(model="unet", crop=(16, 16))
    report.write(tmp_path / "report.html", options, dataset, [{"step": 6, "miou": 0.5}], result)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in names:
        # In the table of classes; up to 40, at the rows and at the columns of the confusion.
        assert text.count(f">{html.escape(name)}<") == (3 if count <= 40 else 1)
    assert text.count("<img class='plot'") == (1 if count <= 40 else 2)


def test_confusion_shows_the_shares_of_each_true_class():
    rows = report.confusion(("a", "b"), np.array([[3, 1], [0, 0]]))[0].split("<tr>")
    assert re.findall(r">([^<]*)</t[dh]>", rows[2]) == ["a", "0.75", "0.25"]
    assert re.findall(r">([^<]*)</t[dh]>", rows[3]) == ["b", "", ""]


def test_a_foreign_report_is_not_replaced(tmp_path):
    (tmp_path / "report.html").write_text("somebody's")
    with pytest.raises(writing.ForeignFile, match=r"report\.html: is in the way"):
        written(tmp_path, [])
    assert (tmp_path / "report.html").read_text() == "somebody's"
