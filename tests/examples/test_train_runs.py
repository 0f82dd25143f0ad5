"""What a run of `examples/train.py` is, and whose folder (`pytest -m examples`).

Nothing is trained here: all of it is decided before.
"""

import dataclasses
import gc
import inspect
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import miniature
import numpy as np
import pytest

with miniature.importing_examples():
    from segmentation import (
        checkpoints,
        config,
        identity,
        layouts,
        loop,
        ownership,
        preflight,
        watch,
        writing,
    )  # fmt: skip
    from segmentation.problems import BadData

pytestmark = pytest.mark.examples

ITEMS = {checkpoints.WEIGHTS: {"kernel": jnp.arange(6.0)}}


@pytest.fixture
def root(tmp_path):
    miniature.build("folder", tmp_path / "data")
    return tmp_path / "data"


def options_for(root, **changes):
    return config.Config(
        data="folder", root=root, output=root.parent / "run", model="unet", crop=(16, 16), batch=2,
        **changes,
    )  # fmt: skip


def opened(options):
    return layouts.open_dataset("folder", options.root, "train", table=options.table)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def trained(options):
    """The folder of a run, stopped after its third step."""
    folder = options.output
    with ownership.claimed(folder):
        config.settle(options, folder)
        loop.describe(opened(options), folder)
    described = {
        "options": config.to_dict(options), "identity": identity.of(options, opened(options))
    }  # fmt: skip
    with checkpoints.opened(folder / "checkpoints", keep=3) as manager:
        for step in (1, 2, 3):
            checkpoints.save(manager, step, ITEMS, {"place": step}, described)
        checkpoints.finish(manager)


def other_classes(root):
    table = root / "classes.toml"
    table.write_text(table.read_text().replace("water", "sea"))


def other_order(root):
    table = root / "classes.toml"
    lines = table.read_text().splitlines()
    lines[2:4] = reversed(lines[2:4])
    table.write_text("\n".join(lines))


def other_values(root):
    table = root / "classes.toml"
    table.write_text(table.read_text().replace("ignored = 255", "ignored = [255, 254]"))


def one_class_more(root):
    with (root / "classes.toml").open("a") as file:
        file.write("\nhouse = 7\n")


def one_picture_less(root):
    names = [file.stem for file in (root / "images/train").iterdir()]
    for kind in ("images", "masks"):
        for file in (root / kind / "train").iterdir():
            file.rename(root / kind / file.name)
    (root / "train.txt").write_text("\n".join(sorted(names)[1:]))


def other_pictures(root):
    for file in (root / "images/train").iterdir():
        miniature.save(file, np.zeros((*miniature.SIZE, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "message", "moves"),
    [
        (other_classes, "classes: water, forest, .* -> sea, forest, ", True),
        (other_order, "classes: water, forest, .* -> forest, water, ", False),
        (other_values, "values in masks: .*255 ignored -> .*254 ignored", False),
        (one_class_more, "classes: .* snow -> .* snow, house", False),
        (one_picture_less, r"training pictures \(number; digest\): 4; \w+ -> 3; \w+", False),
        (other_pictures, "training pictures under the same names: .*data -> ", False),
        (other_pictures, "training pictures under the same names: .*data -> ", True),
    ],
)
def test_a_run_does_not_go_on_with_other_data(root, change, message, moves):
    options = options_for(root)
    trained(options)
    if moves:  # and with all else as it was
        elsewhere = shutil.copytree(root, root.with_name("elsewhere"))
        options = dataclasses.replace(options, root=elsewhere)
    before = contents(options.output)
    change(options.root)
    with pytest.raises(SystemExit, match=message) as refused:
        loop.run(options)
    assert (f"root: {root} -> {options.root}" in str(refused.value)) == moves
    assert str(options.output) in str(refused.value)
    after = contents(options.output)
    del before[options.output / ownership.LOCK], after[options.output / ownership.LOCK]
    assert before == after


def test_a_run_does_not_go_on_with_another_table_of_classes(root):
    options = options_for(root)
    trained(options)
    other = root / "other.json"
    names = ("water", "wood", "shrub", "grass", "crop", "barren", "snow")
    classes = {name: 20 * i for i, name in enumerate(names)}
    other.write_text(json.dumps({"classes": classes, "ignored": 255}))
    options = dataclasses.replace(options, table=other)
    with pytest.raises(SystemExit, match=r"forest.* -> .*wood") as refused:
        loop.run(options)
    assert f"table: None -> {other}" in str(refused.value)


def same(options, other):
    return identity.differences(
        *(json.loads(json.dumps(identity.of(o, opened(o)))) for o in (options, other))
    )


def test_a_run_may_move_and_a_picture_may_be_repaired(root):
    options = options_for(root)
    elsewhere = shutil.copytree(root, root.with_name("moved"))
    moved = dataclasses.replace(options, root=elsewhere)
    assert same(options, moved) == []
    picture, *_ = sorted((elsewhere / "images/train").iterdir())
    picture.write_bytes(b"")
    assert same(options, moved) == same(moved, options) == []


def test_weights_to_start_from_are_part_of_a_run(root):
    files = [root / name for name in ("a.safetensors", "copy.safetensors", "other.safetensors")]
    for file, data in zip(files, (b"a", b"a", b"b"), strict=True):
        file.write_bytes(data)
    first, copy, other = (options_for(root, weights=file) for file in files)
    none = options_for(root)
    assert same(first, copy) == []
    for one, two in ((first, other), (first, none), (none, first)):
        (line,) = same(one, two)
        assert line == f"  weights to start from: {one.weights} -> {two.weights}"
    before = identity.of(first, opened(first))
    files[0].unlink()  # they are in the checkpoint
    without = identity.of(first, opened(first))
    assert identity.continued(before, without, root) == before
    files[0].write_bytes(b"b")
    assert identity.differences(before, identity.of(first, opened(first)))


def test_options_are_compared_where_config_yaml_is_lost(root):
    options = options_for(root)
    trained(options)
    (options.output / "config.yaml").unlink()
    with pytest.raises(SystemExit, match=r"learning_rate: 0\.007 -> 0\.5"):
        loop.run(dataclasses.replace(options, learning_rate=0.5))
    assert not (options.output / "config.yaml").exists()


# --- Whose folder.


@pytest.mark.parametrize("name", [*ownership.FILES, *ownership.FOLDERS])
def test_nothing_that_is_not_of_a_run_is_replaced(root, name):
    options = options_for(root)
    precious = options.output / name
    if name in ownership.FOLDERS:
        precious /= "3/mine"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    before = contents(options.output)
    with pytest.raises(writing.ForeignFile, match=f"{name}: is in the way"):
        loop.run(options)
    assert contents(options.output) == before


def test_files_that_a_run_does_not_write_may_lie_in_its_folder(tmp_path):
    (tmp_path / "slurm.log").write_text("mine")
    with ownership.claimed(tmp_path):
        pass
    ownership.check(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    ownership.check(tmp_path)
    (tmp_path / "report.html").write_text("mine as well")
    with pytest.raises(writing.ForeignFile, match=r"report\.html"):
        ownership.check(tmp_path)


def test_the_folder_of_the_data_is_none_for_a_run(root):
    options = dataclasses.replace(options_for(root), output=root / ".")
    with pytest.raises(SystemExit, match=r"--output .* is the data set's folder"):
        loop.run(options)


def holder(folder):
    """A process that has the folder."""
    code = (
        f"import sys; sys.path.insert(0, {str(miniature.EXAMPLES)!r})\n"
        "from pathlib import Path; from segmentation import ownership\n"
        f"with ownership.claimed(Path({str(folder)!r})): print(flush=True); input()\n"
    )
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    process = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe)
    assert process.stdout.readline() == "\n"
    return process


def test_one_run_at_a_time_has_a_folder_until_it_is_killed(tmp_path):
    folder = tmp_path / "run"
    with holder(folder) as process:
        message = rf"run is in use: process {process.pid} on \S+ since 2.*another --output"
        for _ in range(2):  # asking takes nothing away
            with pytest.raises(ownership.Busy, match=message), ownership.claimed(folder):
                pass
        process.kill()
    for _ in range(2):
        with ownership.claimed(folder):
            text = (folder / ownership.LOCK).read_text()
            assert text.startswith(f"process {os.getpid()} on ")


def test_without_locks_a_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(ownership.fcntl, "flock", unsupported)
    with ownership.claimed(tmp_path):
        assert "cannot be locked" in capsys.readouterr().err


# --- What is stored may be damaged.


@pytest.fixture
def without_remains(monkeypatch):
    """Of a checkpoint that cannot be read, Orbax leaves coroutines that nobody awaits.

    They complain when they are collected, which without this is in the midst of some other test.
    """
    gc.collect()  # what other tests left is not excused
    hook = sys.unraisablehook

    def others(complaint):
        if not inspect.iscoroutine(complaint.object):  # of which this project has none
            hook(complaint)

    monkeypatch.setattr(sys, "unraisablehook", others)
    yield
    gc.collect()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three checkpoints."""
    folder = tmp_path_factory.mktemp("three") / "checkpoints"
    with checkpoints.opened(folder, keep=4) as manager:
        for step in (1, 2, 3):
            items = jax.tree.map(lambda array, step=step: step * array, ITEMS)
            checkpoints.save(manager, step, items, {"place": step}, {"options": step})
        checkpoints.finish(manager)
    return folder


@pytest.mark.usefixtures("without_remains")
@pytest.mark.parametrize(
    "lost",
    [
        {3: "weights"},
        {3: "position"},
        {3: "*"},
        {3: "position/metadata"},
        {3: "weights/manifest.ocdbt", 2: "weights"},
        {3: "weights/array_metadatas/*"},
    ],
)
def test_of_damaged_checkpoints_the_one_before_is_read(three, tmp_path, lost):
    folder, good = tmp_path / "checkpoints", 3 - len(lost)
    shutil.copytree(three, folder)
    for step, name in lost.items():
        for path in (folder / str(step)).glob(name):
            shutil.rmtree(path) if path.is_dir() else path.write_bytes(path.read_bytes()[:5])
    with checkpoints.opened(folder, keep=4) as manager:
        found = checkpoints.restore(manager, ITEMS)
        assert found is not None
        assert (found.step, found.position) == (good, {"place": good})
        np.testing.assert_array_equal(found.items["weights"]["kernel"], good * np.arange(6))
        assert list(found.damaged) == list(lost)
        assert checkpoints.listed(found.damaged).count("\nThat of step ") == len(lost)
        checkpoints.set_aside(manager, found)
        assert manager.latest_step() == good
        checkpoints.save(manager, 3, ITEMS, {"place": 9}, {})  # this step comes again
        checkpoints.finish(manager)
    assert all((folder / f"{step}.damaged").exists() for step in lost)
    with checkpoints.opened(folder) as manager:
        assert checkpoints.restore(manager, ITEMS).position == {"place": 9}


@pytest.mark.usefixtures("without_remains")
def test_checkpoints_of_which_none_can_be_read_are_not_begun_anew(three, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(three, folder)
    for step in (1, 2, 3):
        shutil.rmtree(folder / str(step) / "weights")
    before = contents(folder)
    with (
        checkpoints.opened(folder, keep=4) as manager,
        pytest.raises(checkpoints.Unreadable, match=r"(?s)step 3: KeyError.*step 1: KeyError"),
    ):
        checkpoints.restore(manager, ITEMS)
    assert contents(folder) == before


def test_what_a_run_is_comes_from_the_newest_checkpoint_that_tells(three, tmp_path):
    folder = tmp_path / "checkpoints"
    assert checkpoints.record(folder) is None
    shutil.copytree(three, folder)
    assert checkpoints.record(folder) == {"options": 3, "items": ["weights"]}
    (folder / "3/run/metadata").write_text("{half a li")
    shutil.rmtree(folder / "2/run")
    assert checkpoints.record(folder)["options"] == 1


RECORDS = (
    {"step": 2, "loss": 1.5, "information": None, "slope_per_class": [0.5, None]},
    {"step": 4, "miou": 0.5, "iou_per_class": [0.25, 0.75]},
)


def test_history_is_json_and_survives_damaged_lines(tmp_path):
    file = tmp_path / "history.jsonl"
    good = [json.dumps(record) for record in RECORDS]
    damaged = (
        "{half a li", "", "[]", "7", "null", b"\xff\xfe", '{"loss": 1}', '{"step": "2"}',
        '{"step": 2, "loss": "low"}', '{"step": 2, "slope_per_class": [1]}', "[" * 99999,
        '{"step": 2, "slope_per_class": 1}', '{"step": true}', '{"step": 2, "loss": {}}',
    )  # fmt: skip
    lines = [good[0], *damaged, good[1]]
    data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    file.write_bytes(data + b'\n{"step": 6, "lo')
    records, said = watch.read(file, 2)
    assert [record["step"] for record in records] == [2, 4]
    assert said == ", ".join(map(str, range(2, 2 + len(damaged))))
    assert np.isnan([records[0]["information"], records[0]["slope_per_class"][1]]).all()
    assert [json.loads(watch.line(record)) for record in records] == list(RECORDS)
    assert watch.read(tmp_path / "none", 2) == ([], "")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_null_in_the_history(value):
    written = watch.line({"step": 1, "loss": value, "iou_per_class": [1.0, value]})
    assert json.loads(written, parse_constant=pytest.fail) == {
        "step": 1, "loss": None, "iou_per_class": [1.0, None]
    }  # fmt: skip


# --- Data that nothing can be learnt from.


def test_a_class_alone_and_masks_without_labels_are_refused(root):
    options = options_for(root)
    data = {"train": opened(options)}
    preflight.check_data(options, data)
    for mask in (root / "masks/train").iterdir():
        miniature.save(mask, np.full(miniature.SIZE, 255, np.uint8))
    with pytest.raises(BadData, match=r"split train: not a single pixel .* 4 pictures is labelled"):
        loop.run(options)
    assert not options.output.exists()
    (root / "classes.toml").write_text("ignored = 255\n[classes]\nroad = 0")
    with pytest.raises(BadData, match=r"of 2 to 255 names.*such as the background"):
        loop.run(options)


def test_large_pictures_need_leave_in_training_as_well(root):
    pixels = miniature.SIZE[0] * miniature.SIZE[1]

    def check(limit):
        options = options_for(root, max_pixels=limit)
        preflight.check_data(options, {"train": preflight.opened(options, "train")})

    with pytest.raises(BadData, match=rf"more than {pixels - 1}\. --max-pixels sets the limit"):
        check(pixels - 1)
    check(pixels)
