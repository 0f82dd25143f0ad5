"""Picture files written byte by byte, as their specifications say."""

import itertools
import struct
import zlib

import numpy as np

# Of the interlaced images of PNG: the first row and column, and the steps.
ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # fmt: skip


def packed(row: np.ndarray, bits: int, order: str = ">") -> bytes:
    """Whole numbers one after the other, the first in the highest bits."""
    if bits >= 8:
        kind = "f" if row.dtype.kind == "f" else "i" if (row < 0).any() else "u"
        return row.astype(f"{order}{kind}{bits // 8}").tobytes()
    spread = row.reshape(-1)[:, None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(spread.reshape(-1)).tobytes()


def exif(orientation: int, order: str = "<") -> bytes:
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    head = b"II" if order == "<" else b"MM"
    return head + struct.pack(f"{order}HIH", 42, 8, 1) + entry + bytes(4)


def png(
    pixels: np.ndarray,
    bits: int = 8,
    colour: int = 0,
    *,
    interlaced: bool = False,
    palette: np.ndarray | None = None,
    transparent: bytes = b"",
    orientation: int = 1,
) -> bytes:
    """Of ``[H, W]`` or ``[H, W, channels]``.

    Colour 0 is grey, 2 RGB, 3 indices of a palette, 4 grey with alpha and 6 RGB with alpha.
    """
    height, width = pixels.shape[:2]
    images = [pixels]
    if interlaced:
        images = [pixels[top::down, left::right] for top, left, down, right in ADAM7]
    rows = [row for image in images if image.size for row in image]
    chunks = [(b"IHDR", struct.pack(">II5B", width, height, bits, colour, 0, 0, interlaced))]
    if orientation != 1:
        chunks.append((b"eXIf", exif(orientation)))
    if palette is not None:
        chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
    if transparent:
        chunks.append((b"tRNS", transparent))
    data = b"".join(b"\0" + packed(row, bits) for row in rows)  # 0: no filter
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def tiff(*pages: dict, order: str = "<") -> bytes:
    """Each page has `pixels` ``[H, W]`` or ``[H, W, bands]``, `bits`, and tags in words."""
    data, offsets = b"", []
    for page in pages:
        pixels = np.atleast_3d(page["pixels"])
        bits = page.get("bits", 8)
        strip = b"".join(packed(row, bits, order) for row in pixels)
        height, width, bands = pixels.shape
        tags = {
            254: (4, [page.get("subfile", 0)]),
            256: (4, [width]),
            257: (4, [height]),
            258: (3, [bits] * bands),
            259: (3, [1]),
            262: (3, [page.get("space", 1)]),
            273: (4, [8 + len(data)]),
            274: (3, [page.get("orientation", 1)]),
            277: (3, [bands]),
            278: (4, [height]),
            279: (4, [len(strip)]),
            339: (3, [page.get("number", 1)] * bands),
        }
        if "palette" in page:  # all reds, all greens, all blues, in 16 bits
            tags[320] = (3, (page["palette"].T.reshape(-1).astype(int) * 257).tolist())
        if "extra" in page:
            tags[338] = (3, page["extra"])
        data += strip + b"\0" * (len(strip) % 2)
        entries = b""
        for number, (kind, values) in sorted(tags.items()):
            content = b"".join(struct.pack(order + {3: "H", 4: "I"}[kind], v) for v in values)
            if len(content) > 4:
                at, content = 8 + len(data), content + b"\0" * (len(content) % 2)
                data += content
                content = struct.pack(f"{order}I", at)
            entries += struct.pack(f"{order}HHI", number, kind, len(values)) + content.ljust(
                4, b"\0"
            )
        offsets.append(len(data))
        data += struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    for this, following in itertools.pairwise(offsets):  # where the next page is
        end = this + 2 + 12 * struct.unpack_from(f"{order}H", data, this)[0]
        data = data[:end] + struct.pack(f"{order}I", 8 + following) + data[end + 4 :]
    head = b"II" if order == "<" else b"MM"
    return head + struct.pack(f"{order}HI", 42, 8 + offsets[0]) + data


def bmp(pixels: np.ndarray, bits: int, palette: np.ndarray | None = None) -> bytes:
    """Of ``[H, W]`` with a palette, or ``[H, W, 3]`` with 24 bits; rows from the bottom."""
    height, width = pixels.shape[:2]
    colours = b""
    if palette is not None:
        colours = b"".join(bytes([b, g, r, 0]) for r, g, b in palette.astype(int))
    stored = pixels[::-1, :, ::-1] if pixels.ndim == 3 else pixels[::-1]
    rows = [packed(row, min(bits, 8)) for row in stored]
    data = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    count = 0 if palette is None else len(palette)
    start = 54 + len(colours)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 0, 0, count, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + colours + data


def pnm(pixels: np.ndarray, magic: int, largest: int = 255) -> bytes:
    """P2 and P5 are grey, P3 and P6 RGB; P2 and P3 in digits. P1 and P4 are bits."""
    height, width = pixels.shape[:2]
    limit = b"" if magic in (1, 4) else b"%d\n" % largest
    head = b"P%d\n# a comment, 1 2 3\n%d %d\n%b" % (magic, width, height, limit)
    if magic <= 3:
        return head + " ".join(map(str, pixels.reshape(-1).tolist())).encode() + b"\n"
    bits = 1 if magic == 4 else 8 if largest < 256 else 16
    return head + b"".join(packed(row, bits) for row in pixels)


def pfm(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape
    return b"Pf\n%d %d\n-1.0\n" % (width, height) + pixels[::-1].astype("<f4").tobytes()


def gif(*frames: np.ndarray, palette: np.ndarray, transparent: int | None = None) -> bytes:
    """Of ``[H, W]``, with a palette of 256 colours."""
    height, width = frames[0].shape
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0)
    data += palette.astype(np.uint8).tobytes()
    for frame in frames:
        if transparent is not None or len(frames) > 1:
            flag, index = (0, 0) if transparent is None else (1, transparent)
            data += b"\x21\xf9\x04" + struct.pack("<BHBB", flag, 10, index, 0)
        codes = []
        for number, pixel in enumerate(frame.reshape(-1).tolist()):
            codes += [256, pixel] if number % 200 == 0 else [pixel]  # cleared, so 9 bits stay
        codes.append(257)
        total = sum(code << 9 * number for number, code in enumerate(codes))
        stream = total.to_bytes(-(-9 * len(codes) // 8), "little")
        blocks = [stream[at : at + 255] for at in range(0, len(stream), 255)]
        data += b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08"
        data += b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return data + b"\x3b"


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG file with its orientation stated in the first segment."""
    segment = b"Exif\0\0" + exif(orientation, ">")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
