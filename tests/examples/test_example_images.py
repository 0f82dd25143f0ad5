"""What picture files store, against files written byte by byte (`pytest -m examples`)."""

import io
import zlib

import miniature
import numpy as np
import picture_files as files
import pytest
from PIL import Image

with miniature.importing_examples():
    from segmentation import images
    from segmentation.dataset import Table, read_image, read_mask
    from segmentation.problems import BadData

pytestmark = pytest.mark.examples

ROWS, COLUMNS = 13, 11  # neither is a multiple of 8
RANDOM = np.random.default_rng(0)
# Whose brightness is nothing like the index: a reader that converts would show.
COLOURS = RANDOM.integers(0, 256, (256, 3))
RGB = RANDOM.integers(0, 256, (ROWS, COLUMNS, 3))
RGBA = np.dstack([RGB, np.full((ROWS, COLUMNS), 255)])


def numbers(largest, kind: type = int):
    return RANDOM.integers(0, largest, (ROWS, COLUMNS), endpoint=True).astype(kind)


def page(largest, bits, **tags):
    pixels = numbers(largest, float if tags.get("number") == 3 else int)
    return pixels, files.tiff(
        {"pixels": pixels, "bits": bits, **tags}, order=tags.get("order", "<")
    )


def _values():
    """Names, what is stored, and the file."""
    for bits in (1, 2, 4, 8, 16):
        for interlaced in (False, True):
            name, pixels = "interlaced " * interlaced, numbers(2**bits - 1)
            yield f"png {name}grey {bits}", pixels, files.png(pixels, bits, interlaced=interlaced)
            if bits <= 8:
                palette = COLOURS[: 2**bits]
                content = files.png(pixels, bits, 3, palette=palette, interlaced=interlaced)
                yield f"png {name}palette {bits}", pixels, content
    pixels = numbers(255)
    transparent = bytes(range(256))
    content = files.png(pixels, 8, 3, palette=COLOURS, transparent=transparent)
    yield "png palette with transparency", pixels, content
    yield "png grey with transparency", pixels, files.png(pixels, transparent=b"\0\1")
    for order in "<>":
        for bits in (1, 2, 4, 8, 16, *([32] if order == "<" else [])):
            largest = min(2**bits, 2**16) - 1
            yield f"tiff {order} grey {bits}", *page(largest, bits, order=order)
        for bits in (16, 32):
            yield f"tiff {order} signed {bits}", *page(2**15 - 1, bits, order=order, number=2)
        yield f"tiff {order} float", *page(2**16 - 1, 32, order=order, number=3)
        for bits in (1, 2, 4, 8):
            palette = COLOURS[: 2**bits]
            yield (
                f"tiff {order} palette {bits}",
                *page(2**bits - 1, bits, order=order, space=3, palette=palette),
            )
    pixels = numbers(200)
    thumbnail = {"pixels": pixels[:4, :4], "subfile": 1}
    yield "tiff with a thumbnail", pixels, files.tiff({"pixels": pixels}, thumbnail)
    greys = np.repeat(np.arange(256)[:, None], 3, axis=1)
    for bits in (1, 4, 8):
        pixels, step = numbers(2**bits - 1), 255 // (2**bits - 1)
        yield f"bmp colours {bits}", pixels, files.bmp(pixels, bits, COLOURS[: 2**bits])
        yield f"bmp greys {bits}", pixels, files.bmp(pixels, bits, step * greys[: 2**bits])
        yield f"bmp reversed {bits}", pixels, files.bmp(pixels, bits, greys[: 2**bits][::-1])
    for palette, name in ((COLOURS, "colours"), (greys, "greys"), (greys[::-1], "reversed")):
        pixels = numbers(255)
        yield f"gif {name}", pixels, files.gif(pixels, palette=palette)
        content = files.gif(pixels, palette=palette, transparent=7)
        yield f"gif {name} with transparency", pixels, content
    for largest in (1, 3, 20, 254, 255, 256, 1000, 65535):
        for magic in (2, 5):
            pixels = numbers(largest)
            yield f"pgm {magic} {largest}", pixels, files.pnm(pixels, magic, largest)
    pixels = numbers(1000, float)
    yield "pfm", pixels, files.pfm(pixels)


VALUES = {name: (pixels, content) for name, pixels, content in _values()}


@pytest.mark.parametrize("name", VALUES)
def test_masks_are_read_as_stored(name, tmp_path):
    pixels, content = VALUES[name]
    file = tmp_path / "mask.png"  # what the name ends in does not matter
    file.write_bytes(content)
    read, _ = images.read(file, "values")
    assert read.shape == pixels.shape
    np.testing.assert_array_equal(read, pixels)


def test_a_bit_is_what_the_table_speaks_of(tmp_path):
    file, pixels = tmp_path / "mask.png", numbers(1)
    file.write_bytes(files.png(pixels, 1))
    for table in (((0, 0), (255, 1)), ((0, 0), (1, 1)), ((0, 0), (1, 1), (255, 255))):
        np.testing.assert_array_equal(read_mask(file, Table(table)), pixels)
    with pytest.raises(BadData, match=r"value 255 at .* stored in 1 bits\)"):
        read_mask(file, Table(((0, 0), (7, 1))))


def test_values_of_floats_must_be_whole(tmp_path):
    file, table = tmp_path / "mask.tif", Table(((0, 0), (1, 1), (2, 2)))
    for value in (0.99999, 1.7, 0.5, -0.4, np.nan, np.inf, -np.inf, 1e20):
        pixels = np.zeros((ROWS, COLUMNS), np.float32)
        pixels[2, 3] = value
        file.write_bytes(files.tiff({"pixels": pixels, "bits": 32, "number": 3}))
        with pytest.raises(BadData, match=r"at row 2, column 3 is no class.*\(1 such"):
            read_mask(file, table)


def test_negative_values_are_no_class(tmp_path):
    file = tmp_path / "mask.tif"
    for bits in (16, 32):
        pixels = np.full((ROWS, COLUMNS), -1)
        file.write_bytes(files.tiff({"pixels": pixels, "bits": bits, "number": 2}))
        with pytest.raises(BadData, match="value -1 at row 0, column 0 is not in the table"):
            read_mask(file, Table(((0, 0), (255, 1), (65535, 2))))


def _shown():
    """Names, the colours that everybody sees, and the file."""
    grey = RANDOM.integers(0, 256, (ROWS, COLUMNS))
    for bits in (1, 2, 4, 8):
        pixels = numbers(2**bits - 1)
        shown = np.repeat((pixels * 255 // (2**bits - 1))[..., None], 3, axis=-1)
        yield f"png grey {bits}", shown, files.png(pixels, bits)
        yield f"tiff grey {bits}", shown, files.tiff({"pixels": pixels, "bits": bits})
        if bits in (1, 8):
            page = {"pixels": 2**bits - 1 - pixels, "bits": bits, "space": 0}
            yield f"tiff inverted grey {bits}", shown, files.tiff(page)
        palette = COLOURS[: 2**bits]
        yield f"png palette {bits}", palette[pixels], files.png(pixels, bits, 3, palette=palette)
        page = {"pixels": pixels, "bits": bits, "space": 3, "palette": palette}
        yield f"tiff palette {bits}", palette[pixels], files.tiff(page)
        if bits != 2:
            yield f"bmp {bits}", palette[pixels], files.bmp(pixels, bits, palette)
    yield "png rgb", RGB, files.png(RGB, 8, 2)
    yield "png rgb interlaced", RGB, files.png(RGB, 8, 2, interlaced=True)
    yield "png rgb and alpha", RGB, files.png(RGBA, 8, 6)
    greys = np.repeat(grey[..., None], 3, axis=-1)
    yield "png grey and alpha", greys, files.png(np.dstack([grey, 255 + 0 * grey]), 8, 4)
    unused = np.where(grey == 7, 8, grey)
    content = files.png(unused, transparent=b"\0\7")  # a transparent grey that no pixel has
    yield "png unused transparency", np.repeat(unused[..., None], 3, axis=-1), content
    yield "tiff rgb", RGB, files.tiff({"pixels": RGB, "space": 2})
    for alpha in (1, 2):
        page = {"pixels": RGBA, "space": 2, "extra": [alpha]}
        yield f"tiff rgb and alpha {alpha}", RGB, files.tiff(page)
    yield "bmp rgb", RGB, files.bmp(RGB, 24)
    yield "gif", COLOURS[grey], files.gif(grey, palette=COLOURS)
    for magic in (3, 6):
        yield f"ppm {magic}", RGB, files.pnm(RGB, magic)
        fifteen = RGB // 17
        yield f"ppm {magic} of 15", 17 * fifteen, files.pnm(fifteen, magic, 15)
    ink = grey % 2
    for magic in (1, 4):  # in which 1 is black
        yield f"pbm {magic}", np.repeat(255 - 255 * ink[..., None], 3, -1), files.pnm(ink, magic)


SHOWN = {name: (pixels, content) for name, pixels, content in _shown()}


@pytest.mark.parametrize("name", SHOWN)
def test_pictures_are_read_as_shown(name, tmp_path):
    pixels, content = SHOWN[name]
    file = tmp_path / "picture"
    file.write_bytes(content)
    read = read_image(file)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)
    colour = Table(
        tuple(
            {
                (int(r) << 16) + (int(g) << 8) + int(b): 3 for r, g, b in pixels.reshape(-1, 3)
            }.items()
        ),
        is_rgb=True,
    )
    if "pbm" not in name:
        assert (read_mask(file, colour) == 3).all()


def _by_pillow(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(RGB.astype(np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


GREY = numbers(255)
REFUSED: dict[str, tuple[images.Use, str, bytes]] = {
    "png grey 16": ("picture", "16-bit grey", files.png(GREY, 16)),
    "png rgb 16": ("picture", "16-bit rgb", files.png(RGB, 16, 2)),
    "png rgb 16 and alpha": ("picture", r"16-bit rgb \+ alpha", files.png(RGBA, 16, 6)),
    "png transparent": (
        "picture",
        "has 143 transparent",
        files.png(np.dstack([RGB, GREY * 0]), 8, 6),
    ),
    "png transparent grey": ("picture", "transparent", files.png(GREY * 0, transparent=b"\0\0")),
    "png transparent index": (
        "picture",
        "transparent",
        files.png(GREY * 0 + 1, 8, 3, palette=COLOURS, transparent=b"\xff\x80"),
    ),
    "gif transparent": (
        "picture",
        "transparent",
        files.gif(GREY, palette=COLOURS, transparent=GREY[0, 0]),
    ),
    "gif animated": ("picture", "has 2 pages or frames", files.gif(GREY, GREY, palette=COLOURS)),
    "gif animated mask": (
        "values",
        "has 2 pages or frames",
        files.gif(GREY, GREY, palette=COLOURS),
    ),
    "tiff pages": ("picture", "has 2 pages", files.tiff({"pixels": GREY}, {"pixels": GREY})),
    "tiff rgb 16": ("picture", "16-bit rgb", files.tiff({"pixels": RGB, "bits": 16, "space": 2})),
    "tiff grey 16": ("picture", "16-bit grey", files.tiff({"pixels": GREY, "bits": 16})),
    "tiff signed bytes": ("picture", "signed 8-bit", files.tiff({"pixels": GREY, "number": 2})),
    "tiff float": (
        "picture",
        "float 32-bit",
        files.tiff({"pixels": GREY * 1.0, "bits": 32, "number": 3}),
    ),
    "tiff infrared": (
        "picture",
        "rgb in 4 bands",
        files.tiff({"pixels": RGBA, "space": 2, "extra": [0]}),
    ),
    "tiff unsaid band": ("picture", "rgb in 4 bands", files.tiff({"pixels": RGBA, "space": 2})),
    "tiff five bands": (
        "picture",
        "rgb in 5 bands",
        files.tiff({"pixels": np.dstack([RGBA, GREY]), "space": 2, "extra": [0, 0]}),
    ),
    "tiff CMYK": ("picture", "CMYK", files.tiff({"pixels": RGBA, "space": 5})),
    "tiff YCbCr": ("picture", "YCbCr", files.tiff({"pixels": RGB, "space": 6})),
    "tiff Lab": ("picture", "colour space 8", files.tiff({"pixels": RGB, "space": 8})),
    "ppm 16": ("picture", "16-bit rgb", files.pnm(RGB, 6, 1000)),
    "pgm 16": ("picture", "16-bit grey", files.pnm(GREY, 5, 1000)),
    "pfm": ("picture", "float 32-bit", files.pfm(GREY * 1.0)),
    "ico": ("picture", "a file of ICO; read are PNG, JPEG", _by_pillow("ico", sizes=[(8, 8)])),
    "rgb mask": ("values", "8-bit rgb", files.png(RGB, 8, 2)),
    "mask with alpha": ("values", r"8-bit grey \+ alpha", files.png(np.dstack([GREY, GREY]), 8, 4)),
    "signed bytes": ("values", "signed 8-bit", files.tiff({"pixels": GREY, "number": 2})),
    "inverted": ("values", "8-bit inverted grey", files.tiff({"pixels": GREY, "space": 0})),
    "inverted bit": (
        "values",
        "1-bit inverted",
        files.tiff({"pixels": GREY % 2, "bits": 1, "space": 0}),
    ),
    "pbm": ("values", "1-bit inverted grey", files.pnm(GREY % 2, 4)),
    "two bands": (
        "values",
        "grey in 2 bands",
        files.tiff({"pixels": np.dstack([GREY, GREY]), "extra": [0]}),
    ),
    "double": (
        "values",
        "cannot be read|64-bit",
        files.tiff({"pixels": GREY * 1.0, "bits": 64, "number": 3}),
    ),
    "wide and big-endian": (
        "values",
        "cannot be read",
        files.tiff({"pixels": GREY, "bits": 32}, order=">"),
    ),
    "jpeg mask": ("values", r"stored with losses \(JPEG\)", _by_pillow("jpeg")),
    "jpeg mask in colour": ("colours", r"stored with losses \(JPEG\)", _by_pillow("jpeg")),
    "webp mask": ("colours", r"stored with losses \(WEBP\)", _by_pillow("webp")),
    "colours of 16 bits": ("colours", "16-bit rgb", files.png(RGB, 16, 2)),
    "text": ("picture", "cannot be read", b"not a picture"),
    "nothing": ("values", "cannot be read", b""),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("error")
def test_anything_else_is_refused_by_name(name, tmp_path):
    use, message, content = REFUSED[name]
    file = tmp_path / f"{name}.png"
    file.write_bytes(content)
    with pytest.raises(BadData, match=message) as error:
        images.read(file, use)
    assert str(error.value).startswith(f"{file}: ")


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_and_masks_are_turned_as_everybody_sees_them(orientation, tmp_path):
    turn, file = TURNS[orientation], tmp_path / "a"
    for content in (
        files.png(GREY, orientation=orientation),
        files.tiff({"pixels": GREY, "orientation": orientation}),
        files.tiff({"pixels": GREY, "orientation": orientation}, order=">"),
        files.tiff({"pixels": GREY, "bits": 16, "orientation": orientation}),
        files.png(GREY, 8, 3, palette=COLOURS, orientation=orientation),
        files.tiff({"pixels": GREY % 2, "bits": 1, "orientation": orientation}),
    ):
        file.write_bytes(content)
        read, stored = images.read(file, "values")
        np.testing.assert_array_equal(read, turn(GREY % 2 if stored.bits == 1 else GREY))
    file.write_bytes(files.tiff({"pixels": RGB, "space": 2, "orientation": orientation}))
    np.testing.assert_array_equal(read_image(file), turn(RGB))
    large = np.zeros((24, 40), np.uint8)
    large[3:10, 20:] = 255
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "jpeg", quality=95)
    file.write_bytes(files.with_exif(buffer.getvalue(), orientation))
    np.testing.assert_array_equal(read_image(file)[..., 0] > 127, turn(large) > 127)


def test_photographs_with_previews_are_one_picture(tmp_path):
    """As phones store them: JPEG files one behind the other."""
    file = tmp_path / "a.jpg"
    photograph = Image.fromarray(np.full((32, 48, 3), 200, np.uint8))
    preview = Image.fromarray(np.zeros((8, 12, 3), np.uint8))
    photograph.save(file, "mpo", save_all=True, append_images=[preview])
    np.testing.assert_array_equal(read_image(file), 200)


def test_large_pictures_need_leave(tmp_path):
    file = tmp_path / "large.png"
    content = files.png(np.zeros((1, 14_000), int), 1)
    width_and_height = b"\0\0\x36\xb0\0\0\x36\xb0"
    head = b"IHDR" + width_and_height + content[24:29]
    file.write_bytes(content[:12] + head + zlib.crc32(head).to_bytes(4, "big") + content[33:60])
    with pytest.raises(BadData, match=r"14000 x 14000 pixels, more than 178956970\. --max-pixels"):
        images.read(file, "values")
    with pytest.raises(BadData, match=r"cannot be read, .*truncated"):
        images.read(file, "values", 14_000**2)
    small = tmp_path / "small.png"
    small.write_bytes(files.png(GREY))
    with pytest.raises(BadData, match="11 x 13 pixels, more than 142"):
        images.read(small, "values", 142)
