"""What picture files store, and which of it is read.

Pillow gives the pixels. What they mean it tells only in part: it scales grey of 2 bits to 0 to 255,
drops the lower half of 16-bit colours, takes signed bytes for unsigned ones, and a fifth band for
nothing. So the header is asked first, and `READ` is all that is read; anything else is refused by
name. Colours are taken as stored: colour profiles are not applied.
"""

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from segmentation.problems import BadData

Use = Literal["picture", "values", "colours"]

ENDINGS = frozenset((
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pfm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))  # fmt: skip
LIMIT = 2 * 89_478_485  # pixels: above that, Pillow suspects a bomb; `read` has its own limit
Image.MAX_IMAGE_PIXELS = None


class Stored(NamedTuple):
    """The pixels of a file, as its header describes them."""

    kind: str  # grey, inverted grey, palette, rgb, grey + alpha, rgb + alpha, or another name
    bits: int  # of each channel
    number: str = "unsigned"
    step: float = 1  # what Pillow makes of a stored 1
    is_lossy: bool = False

    def __str__(self) -> str:
        number = "" if self.number == "unsigned" else f"{self.number} "
        return f"{number}{self.bits}-bit {self.kind}"


FEW = (1, 2, 4, 8)
SHOWN = (
    {(kind, bits, "unsigned") for kind in ("grey", "palette") for bits in FEW}
    | {("inverted grey", bits, "unsigned") for bits in (1, 8)}
    | {(kind, 8, "unsigned") for kind in ("rgb", "grey + alpha", "rgb + alpha")}
)
READ: dict[Use, set[tuple[str, int, str]]] = {
    "picture": SHOWN,
    "colours": SHOWN,
    "values": {(kind, bits, "unsigned") for kind in ("grey", "palette") for bits in FEW}
    | {("grey", bits, "unsigned") for bits in (16, 32)}
    | {("grey", bits, "signed") for bits in (16, 32)}
    | {("grey", 32, "float")},
}
WANTED: dict[Use, str] = {
    "picture": "a picture must be grey, of a palette or RGB, with up to 8 bits",
    "colours": "a mask in colour must be of a palette or RGB, with up to 8 bits",
    "values": "the table gives one value for each class, so a mask must be grey or of a palette",
}


def read(file: Path, use: Use, limit: int | None = None) -> tuple[np.ndarray, Stored]:
    """The pixels as everybody sees them (EXIF orientation), and what the file stores.

    Args:
        file: of any of the formats below, whatever its name ends in.
        use: "picture" and "colours" give uint8 ``[H, W, 3]``, "values" the numbers as they are
            stored ``[H, W]``; of a bit, 0 and 1.
        limit: pixels above which the file is refused, `LIMIT` by default.
    """
    limit = LIMIT if limit is None else limit
    try:
        # Opened here: with its name alone, Pillow maps plain TIFF files into memory, and takes the
        # sides of those that are to be turned one for the other.
        with file.open("rb") as opened, Image.open(opened) as picture:
            if picture.width * picture.height > limit:
                raise BadData(
                    f"{file}: has {picture.width} x {picture.height} pixels, more than {limit}. "
                    "--max-pixels sets the limit"
                )
            stored = _described(file, picture, use)
            picture.load()
            if picture.getexif().get(0x0112, 1) != 1:
                ImageOps.exif_transpose(picture, in_place=True)
            if use == "values":
                return _numbers(picture, stored), stored
            return _colours(file, picture), stored
    except BadData:
        raise
    except FileNotFoundError:
        raise BadData(f"{file}: there is no such file") from None
    except UnidentifiedImageError:
        raise BadData(f"{file}: cannot be read, it is no picture that is known") from None
    except Exception as error:  # broken files make Pillow's readers fail in many ways
        raise BadData(f"{file}: cannot be read, {str(error) or type(error).__name__}") from error


def turned(file: Path) -> str:
    """Where sizes differ, this may be why."""
    with Image.open(file) as picture:
        orientation = picture.getexif().get(0x0112, 1)
    return f" as its EXIF orientation {orientation} turns it" if orientation != 1 else ""


def _described(file: Path, picture: Image.Image, use: Use) -> Stored:
    """What the file stores, if that is read."""
    if picture.format is None or picture.format not in FORMATS:
        known = ", ".join(FORMATS)
        raise BadData(f"{file}: is a file of {picture.format}; read are {known}")
    pages = _pages(picture)
    if pages > 1:
        raise BadData(f"{file}: has {pages} pages or frames, but one picture is wanted")
    stored = FORMATS[picture.format](file, picture)
    if use != "picture" and stored.is_lossy:
        raise BadData(
            f"{file}: is stored with losses ({picture.format}), which invent classes along "
            "borders. Masks must be PNG, TIFF, BMP, GIF or PGM"
        )
    if stored[:3] not in READ[use]:
        raise BadData(f"{file}: stores {stored} ({picture.format}), but {WANTED[use]}")
    return stored


def _pages(picture: Image.Image) -> int:
    if picture.format == "MPO":  # the photograph, then the camera's previews
        return 1
    count = getattr(picture, "n_frames", 1)
    if picture.format != "TIFF" or count == 1:
        return count
    whole = 0
    for page in range(count):
        picture.seek(page)
        whole += page == 0 or not _tag(picture, 254, 0) & 0b101  # no thumbnail and no mask
    picture.seek(0)
    return whole


def _numbers(picture: Image.Image, stored: Stored) -> np.ndarray:
    # The pixels of a palette picture are the indices. They are kept as they are: converting to
    # grey or RGB would give the brightness or the colours of the palette.
    pixels = np.asarray(picture)
    if stored.step != 1:
        return np.rint(pixels / stored.step).astype(np.int32)
    return pixels if stored.number == "float" else pixels.astype(np.int32)


def _colours(file: Path, picture: Image.Image) -> np.ndarray:
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            raise BadData(
                f"{file}: has {(alpha < 255).sum()} transparent pixels, which have no colour of "
                "their own. Save it without transparency"
            )
    return np.asarray(picture.convert("RGB"))


def _png(file: Path, picture: Image.Image) -> Stored:
    bits, colour = _head(file, 26)[24:]
    kinds = {0: "grey", 2: "rgb", 3: "palette", 4: "grey + alpha", 6: "rgb + alpha"}
    return Stored(kinds[colour], bits, step=_step(bits) if colour == 0 else 1)


def _tiff(file: Path, picture: TiffImageFile) -> Stored:
    space, samples = _tag(picture, 262, 1), _tag(picture, 277, 1)
    widths, formats = picture.tag_v2.get(258, (1,)), picture.tag_v2.get(339, (1,))
    extra = picture.tag_v2.get(338, ())
    # Codes of JPEG (old and new), JPEG 2000, LERC, WebP and others that may lose.
    is_lossy = _tag(picture, 259, 1) in (6, 7, 34712, 33003, 33005, 34887, 50001, 50002)
    kinds = {0: "inverted grey", 1: "grey", 2: "rgb", 3: "palette", 5: "CMYK", 6: "YCbCr"}
    kind = kinds.get(space, f"colour space {space}")
    if kind == "YCbCr" and is_lossy:  # libtiff gives RGB
        kind = "rgb"
    channels = {"rgb": 3, "CMYK": 4, "YCbCr": 3}.get(kind, 1)
    if samples == channels + 1 and tuple(extra) in ((1,), (2,)):
        kind += " + alpha"
    elif samples != channels:
        kind = f"{kind} in {samples} bands"
    if len(set(widths)) > 1:
        kind = f"{kind} of uneven widths"
    number = {1: "unsigned", 2: "signed", 3: "float"}.get(formats[0], f"format {formats[0]}")
    return Stored(kind, widths[0], number, _step(widths[0]) if kind == "grey" else 1, is_lossy)


def _bmp(file: Path, picture: Image.Image) -> Stored:
    head = _head(file, 30)
    at = 24 if int.from_bytes(head[14:18], "little") == 12 else 28  # OS/2's header is short
    bits = int.from_bytes(head[at : at + 2], "little")
    if bits <= 8:
        return Stored("palette", bits)
    if bits == 16:
        return Stored("rgb in 16 bits", 5)
    return Stored("rgb + alpha" if picture.mode == "RGBA" else "rgb", 8)


def _pnm(file: Path, picture: Image.Image) -> Stored:
    words = re.sub(rb"#[^\r\n]*", b"", _head(file, 4096)).split(maxsplit=4)
    if words[0] in (b"P1", b"P4"):
        return Stored("inverted grey", 1)
    if words[0] in (b"Pf", b"PF"):
        return Stored("grey" if words[0] == b"Pf" else "rgb", 32, "float")
    largest = int(words[3])
    bits, full = (8, 255) if largest < 256 else (16, 65535)
    kind = {b"P2": "grey", b"P5": "grey", b"P3": "rgb", b"P6": "rgb"}.get(words[0], "PNM")
    return Stored(kind, bits, step=full / largest)


def _gif(file: Path, picture: Image.Image) -> Stored:
    return Stored("palette", 8)


def _jpeg(file: Path, picture: Image.Image) -> Stored:
    kinds = {"L": "grey", "RGB": "rgb"}
    return Stored(kinds.get(picture.mode, picture.mode), 8, is_lossy=True)


def _webp(file: Path, picture: Image.Image) -> Stored:
    return Stored("rgb + alpha" if picture.mode == "RGBA" else "rgb", 8, is_lossy=True)


FORMATS: dict[str, Any] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "TIFF": _tiff,
    "BMP": _bmp,
    "GIF": _gif,
    "PPM": _pnm,
    "WEBP": _webp,
}


def _step(bits: int) -> float:
    return {2: 85, 4: 17}.get(bits, 1)


def _tag(picture: Any, number: int, default: int) -> int:
    value = picture.tag_v2.get(number, default)
    return value[0] if isinstance(value, tuple) else value


def _head(file: Path, size: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(size)
