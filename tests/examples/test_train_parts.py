"""The parts of `examples/train.py` one by one (`pytest -m examples`)."""

import dataclasses
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import miniature
import numpy as np
import pytest
import resnet_weights
from compiling import quick_flags

with miniature.importing_examples():
    from segmentation import (
        checkpoints,
        config,
        evaluation,
        hosts,
        loop,
        models,
        objective,
        optimizer,
        ownership,
        ranges,
        windows,
    )  # fmt: skip
    from segmentation.models import deeplab, pretrained

pytestmark = pytest.mark.examples

SMALL = config.Config(
    model="unet", dtype="float32", crop=(16, 16), batch=4, steps=10, optimizer="adamw",
    learning_rate=1e-2, rmi=config.Rmi(warmup=0),
)  # fmt: skip


@pytest.mark.parametrize(("name", "size"), [("unet", (16, 24)), ("deeplabv3plus", (33, 50))])
def test_network_computes_in_bfloat16_with_float32_parameters(name, size):
    network = models.build(name, 5, backbone="tiny", dtype="bfloat16", seed=0)
    assert {a.dtype for arrays in network.weights for a in arrays.values()} == {
        jnp.dtype("float32")
    }
    images = jax.random.normal(jax.random.key(0), (2, *size, 3))
    traced = jax.jit(network.predict).trace(network.weights, images)
    convolutions = [
        line for line in str(traced.jaxpr).splitlines() if "conv_general_dilated" in line
    ]
    assert convolutions
    assert all(":bf16[" in line for line in convolutions)
    logits = traced.lower().compile()(network.weights, images)
    assert logits.shape == (2, *size, 5)
    assert logits.dtype == jnp.float32


def test_initial_weights_depend_on_the_seed_alone():
    one, again, other = (
        models.build("unet", 3, backbone="tiny", dtype="float32", seed=seed).weights.params
        for seed in (0, 0, 1)
    )
    for name, value in one.items():
        np.testing.assert_array_equal(value, again[name])
    assert not np.array_equal(one["head.kernel"], other["head.kernel"])


@pytest.mark.parametrize("size", [33, 40])
def test_upsampling_puts_cell_i_on_pixel_stride_times_i(size):
    coarse = np.random.default_rng(0).normal(size=(2, 9, 9, 3))
    fine = np.asarray(deeplab.upsample(jnp.asarray(coarse, jnp.float32), 4, (size, size)))
    np.testing.assert_allclose(fine[:, :33:4, :33:4], coarse, rtol=1e-5)
    cells, pixels = np.arange(9), np.arange(size) / 4
    rows = np.apply_along_axis(lambda v: np.interp(pixels, cells, v), 1, coarse)
    expected = np.apply_along_axis(lambda v: np.interp(pixels, cells, v), 2, rows)
    np.testing.assert_allclose(fine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_weights_of_torchvision_fill_the_backbone(backbone, tmp_path):
    stored = resnet_weights.state_dict(backbone, seed=0)
    file = resnet_weights.save(stored, tmp_path)
    shapes = jax.eval_shape(
        lambda: models.build("deeplabv3plus", 4, backbone=backbone, dtype="float32", seed=0).weights
    )
    blank = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    params, statistics = pretrained.load(blank, file)
    ours = {name for name in params | statistics if name.startswith("backbone.")}
    counted = {name for name in stored if not name.startswith("fc.") and "tracked" not in name}
    assert len(ours) == len(counted)  # each array of the file is used, and once
    kernel = params["backbone.layer2.0.downsample.0.kernel"]
    np.testing.assert_array_equal(
        kernel, stored["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        statistics["backbone.layer4.1.bn2.var"], stored["layer4.1.bn2.running_var"]
    )
    assert not params["head.kernel"].any()  # the rest is left as it was

    del stored["layer3.1.conv2.weight"]
    file = resnet_weights.save(stored, tmp_path)
    with pytest.raises(SystemExit, match=r"has no layer3\.1\.conv2\.weight"):
        pretrained.load(blank, file)
    stored["layer3.1.conv2.weight"] = np.zeros((3, 3, 3, 3), np.float32)
    file = resnet_weights.save(stored, tmp_path)
    with pytest.raises(
        SystemExit, match=r"layer3\.1\.conv2\.weight in .* has shape \(3, 3, 3, 3\)"
    ):
        pretrained.load(blank, file)
    file.write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="cannot read"):
        pretrained.load(blank, file)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (33, 100)])
def test_windows_cover_the_picture_and_overlap(size):
    regions = list(windows.cover(size, (16, 16)))
    seen = np.zeros(size, int)
    for region in regions:
        assert seen[region].shape == (16, 16)
        seen[region] += 1
    assert seen.min() == 1
    columns = sorted({region[1].start for region in regions})
    assert max(np.diff(columns), default=0) <= 16 * (1 - windows.OVERLAP) + 1


@pytest.mark.parametrize("size", [(20, 37), (9, 50), (61, 37)])
def test_sliding_windows_give_what_a_local_network_gives_at_once(size):
    image = np.random.default_rng(1).normal(size=(*size, 3)).astype(np.float32)
    local = models.Network(models.Weights({}, {}), lambda _, images: 3 * images, pytest.fail)
    predict = windows.predictor(local, (16, 16), batch=3)(local.weights)
    np.testing.assert_array_equal(predict(image), image.argmax(-1))


def test_confusion_in_chunks_counts_every_pixel_once(monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK", 64)
    random = np.random.default_rng(0)
    labels, prediction = random.integers(0, 4, (2, 11, 13)).astype(np.uint8)
    labels[:2] = 255
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (labels[2:].ravel(), prediction[2:].ravel()), 1)
    np.testing.assert_array_equal(evaluation.confusion(prediction, labels, 4), expected)


def test_counts_beyond_32_bits_survive_the_way_between_processes():
    counts = np.array([[2**40 + 3, 5], [2**31, 2**24 - 1]])
    np.testing.assert_array_equal(hosts.summed(counts), counts)


def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole():
    # Alone with four devices and 64-bit types, which the quick tests of this process have not.
    code = f"import sys; sys.path[:0] = {sys.path!r}; import accumulation; accumulation.check()"
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "XLA_FLAGS": quick_flags(4)
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=600, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def test_learning_rate_rises_and_decays_as_in_the_paper():
    options = dataclasses.replace(SMALL, learning_rate=0.007, steps=100)
    rate = optimizer.learning_rate(options)
    steps = np.arange(101)
    np.testing.assert_allclose(
        jax.vmap(rate)(steps), 0.007 * (1 - steps / 100) ** 0.9, rtol=1e-5, atol=1e-9
    )
    rate = optimizer.learning_rate(dataclasses.replace(options, warmup_steps=20))
    expected = [0, 0.0035, 0.007, 0.007 * 0.5**0.9]
    np.testing.assert_allclose(jax.vmap(rate)(np.array([0, 10, 20, 60])), expected, rtol=1e-6)


def test_sgd_decays_kernels_and_speeds_up_the_head():
    options = dataclasses.replace(
        SMALL, optimizer="sgd", learning_rate=0.1, weight_decay=0.5, head_rate=5.0
    )
    params = {
        "backbone.conv.kernel": jnp.ones((1, 1, 1, 1)),
        "backbone.bn.bias": jnp.ones(1),
        "head.kernel": jnp.ones((1, 1, 1, 1)),
    }
    gradient = jax.tree.map(lambda p: 2 * jnp.ones_like(p), params)
    transformation = optimizer.make(options)
    changes, _ = transformation.update(gradient, transformation.init(params), params)
    found = jax.tree.map(lambda change: float(change.ravel()[0]), changes)
    assert found == pytest.approx(
        {"backbone.conv.kernel": -0.25, "backbone.bn.bias": -0.2, "head.kernel": -1.25}
    )


def test_weight_of_the_cross_entropy_follows_its_schedule():
    weight = objective.bce_weight(
        dataclasses.replace(SMALL, steps=100, rmi=config.Rmi(warmup=0.3, transition=0.2))
    )
    assert [float(weight(s)) for s in (0, 30, 40, 50, 99)] == pytest.approx([1, 1, 0.75, 0.5, 0.5])
    assert objective.bce_weight(dataclasses.replace(SMALL, loss="softmax"))(50) == 1


def test_every_option_of_rmi_reaches_the_loss():
    options = dataclasses.asdict(config.Rmi(factor=(2,), bce_weight=0.25))
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(1, 12, 12, 3)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 3, (1, 12, 12)))

    def loss(**changes):
        rmi = config.Rmi(**(options | changes))
        return float(objective.make(dataclasses.replace(SMALL, rmi=rmi))(logits, labels, 0)[0])

    others = {
        "activation": "sigmoid", "factor": (1,), "region_size": 2, "downsampling": "max",
        "bce_weight": 0.5, "anchor": 1.0, "warmup": 0.5,
    }  # fmt: skip
    assert set(others) == set(options) - {"transition"}
    values = [loss(), *(loss(**{name: value}) for name, value in others.items())]
    assert len({round(value, 6) for value in values}) == len(values)


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 5\nclip: null\ncrop: [32, 64]\nrmi: {factor: [1, 2], bce_weight: 0.25}")
    options = config.from_command_line(["--config", str(file), "--seed", "7"])
    assert options.seed == 7
    assert options.clip is None
    assert options.crop == (32, 64)
    assert options.rmi.factor == (1, 2)
    assert options.rmi.bce_weight == 0.25
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml(options))
    assert config.from_command_line(["--config", str(again)]) == options


# Just outside, and the last values inside: None where there is no end. Every option with a number
# is in `ranges.RANGES`, and every one of those is here.
ENDS = {
    "--fold": (("-1", "5"), ("0", "4")),
    "--max-pixels": (("0",), ("1", "100000000000")),
    "--steps": (("0", "2147483648"), ("1", "2147483647")),
    "--batch": (("0", "-2"), ("1",)),
    "--accumulate": (("0",), ("1",)),
    "--crop": (("0 32", "32 0"), ("1 2147483647",)),
    "--scale": (("-1 2", "0 1", "nan 2", "1 nan", "1 inf"), ("0.1 0.1",)),
    "--seed": (("-1", "2147483648"), ("0", "2147483647")),
    "--workers": (("-1",), ("0",)),
    "--learning-rate": (("0", "-1", "nan", "inf"), ("1e-9",)),
    "--head-rate": (("-1", "nan", "inf"), ("0",)),
    "--power": (("-0.1", "nan", "inf"), ("0",)),
    "--warmup-steps": (("-1",), ("0",)),
    "--weight-decay": (("-1e-4", "nan", "inf"), ("0",)),
    "--clip": (("0", "nan", "inf"), ("1e-9",)),
    "--ema": (("-0.1", "1", "2", "nan"), ("0", "0.9999")),
    "--eval-every": (("0",), ("1",)),
    "--eval-batch": (("0",), ("1",)),
    "--save-every": (("0",), ("1",)),
    "--keep": (("0",), ("1",)),
    "--log-every": (("0",), ("1",)),
    "--rmi.factor": (("0", "1 0", "", "2147483648"), ("1 2 4",)),
    "--rmi.region-size": (("0", "-3"), ("1",)),
    "--rmi.bce-weight": (("-0.1", "1.5", "nan", "inf"), ("0", "1")),
    "--rmi.anchor": (("-0.1", "1.1e6", "nan", "inf"), ("0", "1e6")),
    "--rmi.warmup": (("-0.5", "1.1", "nan"), ("0", "1")),
    "--rmi.transition": (("-0.5", "1.1", "nan"), ("0", "1")),
    "--hosts.count": (("0",), ("1",)),
    "--hosts.index": (("-1",), ("0",)),
    "--hosts.timeout": (("0",), ("1",)),
}


@pytest.mark.parametrize("flag", ENDS)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_flag(flag):
    outside, inside = ENDS[flag]
    for value in outside:
        shown = value.replace("inf", "inf") or "nothing"
        with pytest.raises(SystemExit, match=rf"^{flag} must be .*, got ") as refused:
            config.from_command_line([flag, *value.split()])
        numbers = str(refused.value).partition(", got ")[2].split()
        assert numbers == ["nothing"] if not value else len(numbers) == len(shown.split())
    for value in inside:
        config.from_command_line([flag, *value.split()])


def test_every_number_has_a_range():
    def numbers(options, prefix=""):
        for field in dataclasses.fields(options):
            name, value = prefix + field.name, getattr(options, field.name)
            if dataclasses.is_dataclass(value):
                yield from numbers(value, f"{name}.")
            elif re.search(r"\b(int|float)\b", str(field.type)):
                yield name

    assert set(numbers(config.Config())) == set(ranges.RANGES)
    assert {f"--{name.replace('_', '-')}" for name in ranges.RANGES} == set(ENDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--batch 6 --accumulate 4", "--batch 6 must be a multiple"),
        ("--batch 6 --hosts.count 4 --hosts.coordinator a:1", "--batch 6 must be a multiple"),
        ("--model unet --crop 33 32", "--crop: the U-Net needs multiples of 4"),
        (
            "--model unet --crop 8 8 --weights a.safetensors",
            "--weights is for a network with a backbone",
        ),
        ("--scale 2 0.5", "--scale must be the smaller factor first, got 2.0 0.5"),
        ("--steps 9 --warmup-steps 9", "--warmup-steps 9 must be below --steps 9"),
        ("--hosts.count 2 --hosts.index 2", "--hosts.index must be below --hosts.count 2, got 2"),
        ("--hosts.count 2 --batch 2", "--hosts.count above 1 needs --hosts.coordinator"),
        ("--hosts.coordinator here", "--hosts.coordinator must be HOST:PORT"),
        ("--hosts.coordinator here:70000", "--hosts.coordinator must be HOST:PORT"),
        ("--data voc", "--data voc needs --root"),
        ("--root pictures", "--root pictures: --data water ships with the examples"),
        ("--data voc --root here --table classes.toml", "--table is for --data folder"),
        ("--config none.yaml", "--config: cannot read"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(SystemExit, match=message):
        config.from_command_line(arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--crop 16 16 --rmi.factor 16", r"^--crop 16 16: --rmi.region-size .* --rmi.factor"),
        (
            "--crop 16 16 --rmi.factor 1 64 --rmi.downsampling interpolate",
            r"^--crop 16 16: --rmi.factor \(64, 64\) leaves no cell",
        ),
        ("--crop 16 2", "^--crop 16 2: --rmi.region-size"),
        ("--crop 16 2 --loss softmax", "^--crop 16 2: --rmi.region-size"),  # it is logged
    ],
)
def test_what_the_library_would_refuse_is_refused_by_flags(arguments, message):
    options = config.from_command_line(arguments.split())
    with pytest.raises(SystemExit, match=message):
        objective.check(options, 3)


def test_options_of_a_file_in_utf_8_whatever_the_editor(tmp_path):
    file = tmp_path / "options.yaml"
    for content, output in (("output: œuvre", "œuvre"), ("\ufeffoutput: plain", "plain")):
        file.write_bytes(content.encode())
        assert str(config.from_command_line(["--config", str(file)]).output) == output
    file.write_bytes("output: œuvre".encode("utf-16"))
    with pytest.raises(SystemExit, match="--config: cannot read"):
        config.from_command_line(["--config", str(file)])


def test_options_may_change_until_there_is_a_checkpoint(tmp_path):
    config.settle(SMALL, tmp_path)
    other = dataclasses.replace(SMALL, batch=6, keep=9)
    unfinished = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    unfinished.mkdir(parents=True)
    config.settle(other, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == config.to_yaml(other)

    unfinished.rename(unfinished.with_name("3"))
    with pytest.raises(SystemExit, match="batch: 6 -> 4"):
        config.settle(SMALL, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == config.to_yaml(other)
    config.settle(dataclasses.replace(other, keep=1), tmp_path)
    assert config.read(tmp_path / "config.yaml")["keep"] == 1
    with pytest.raises(SystemExit, match="weights: None -> late"):
        config.settle(dataclasses.replace(other, weights=Path("late")), tmp_path)


def test_a_restart_on_a_full_disk_is_explained(tmp_path):
    options = dataclasses.replace(SMALL, output=tmp_path)
    with ownership.claimed(tmp_path):
        config.settle(options, tmp_path)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    other = dataclasses.replace(options, keep=9)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # bytes: not even its options
    try:
        with pytest.raises(loop.Stopped) as stopped:
            loop.run(other)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"Could not write to {tmp_path}: [Errno 27] File too large" in str(stopped.value)
    assert f"The last good checkpoint is step 3 in {tmp_path}" in str(stopped.value)
    assert (tmp_path / "config.yaml").read_text() == config.to_yaml(options)

    file = tmp_path / "config.yaml"
    with pytest.raises(loop.Stopped, match="There is no checkpoint yet"):
        loop.run(dataclasses.replace(options, output=file / "no folder"))
    with pytest.raises(SystemExit, match=r"--output .*config\.yaml is a file"):
        loop.run(dataclasses.replace(options, output=file))


@pytest.mark.parametrize("option", ["steps: 1.5", "model: vgg", "crop: [32]", "sed: 5"])
def test_wrong_options_of_a_file_are_refused(option, tmp_path, capsys):
    file = tmp_path / "typo.yaml"
    file.write_text(option)
    with pytest.raises(SystemExit):
        config.from_command_line(["--config", str(file)])
    errors = "".join(re.findall(r"[^\s│]", capsys.readouterr().err))  # whatever the lines' width
    assert f"--{option.partition(':')[0]}" in errors
    assert f"--config{file}" in errors


def test_help_shows_the_options_of_the_file(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 31337")
    with pytest.raises(SystemExit):
        config.from_command_line(["--config", str(file), "--help"])
    assert "31337" in capsys.readouterr().out


@pytest.mark.parametrize("has_average", [False, True])
def test_the_weights_to_predict_with_are_the_average_where_there_is_one(tmp_path, has_average):
    weights, average = (
        models.Weights({"kernel": jnp.full(3, value)}, {"mean": jnp.full(2, value + 1)})
        for value in (1.0, 5.0)
    )
    items = {checkpoints.WEIGHTS: weights}
    if has_average:
        items[checkpoints.AVERAGE] = average
    with checkpoints.opened(tmp_path, keep=2) as manager:
        checkpoints.save(manager, 4, items, {"place": 0}, {"options": {}})
        checkpoints.finish(manager)
    number, found = checkpoints.weights(tmp_path, jax.tree.map(jnp.zeros_like, weights))
    assert number == 4
    jax.tree.map(np.testing.assert_array_equal, found, average if has_average else weights)


def test_prediction_imports_nothing_of_the_loss():
    code = (
        f"import sys; sys.path.insert(0, {str(miniature.EXAMPLES)!r}); import predict; "
        "print([name for name in sys.modules if name.startswith(('rmi_jax', 'segmentation.o'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
