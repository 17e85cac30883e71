"""Bands of rows of an image file, so that an image larger than memory is decoded part by part.

Pillow decodes an image whole. Here PNG, TIFF and BMP files are cut into files of few rows, which Pillow decodes one
after the other.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

# Gives an image's consecutive bands, of about as many rows as wanted.
Bands = Callable[[int], Iterator[Image.Image]]


def loaded_bands(image: Image.Image) -> Bands:
    """Bands of an image in memory."""

    def bands(rows: int) -> Iterator[Image.Image]:
        if rows >= image.height:
            yield image
            return
        for top in range(0, image.height, rows):
            yield _described(image.crop((0, top, image.width, min(top + rows, image.height))), image)

    return bands


def file_bands(image: ImageFile.ImageFile, stream: BinaryIO) -> Bands | None:
    """Bands of a file as it is stored, whatever its orientation; None if it can only be decoded whole.

    Args:
        image: the file opened by Pillow, not loaded.
        stream: the file.
    """
    match image.format:
        case "PNG":
            return _png_bands(image, stream)
        case "TIFF":
            return _tiff_bands(stream)
        case "BMP":
            return _bmp_bands(image, stream)
    return None


def deep_planar_bands(image: Image.Image, stream: BinaryIO) -> Bands | None:
    """Bands of a TIFF file whose colours lie in separate planes of 16 bits, which Pillow reads as if of 8 bits.

    None for any other file.

    Raises:
        ValueError: planes of such a kind that can't be decoded.
    """
    if image.format != "TIFF":
        return None
    directory = _read_directory(stream)
    bits = directory.numbers(_BITS) if _BITS in directory.entries else [1]
    if directory.number(_PLANAR, 1) != 2 or len(bits) == 1 or max(bits) <= 8:
        return None
    bands = _tiff_bands(stream)
    if bands is None:
        raise ValueError(f"separate planes of {max(bits)} bits")
    return bands


def _described(band: Image.Image, image: Image.Image) -> Image.Image:
    """A band with the colour key and the profile of its image."""
    band.info = image.info
    return band


# PNG: the filtered rows of a band become a file of their own, behind the last row of the band before.

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # of 8 bits, by bytes per pixel
_PIECE = 1 << 20


def png_chunk(stream: BinaryIO, wanted: bytes) -> bytes | None:
    """The content of the first chunk of a name, wherever it is in a PNG file; None without one of moderate size."""
    stream.seek(len(_SIGNATURE))
    while len(header := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", header)
        if name == wanted:
            return stream.read(length) if length <= _PIECE else None
        stream.seek(length + 4, io.SEEK_CUR)
    return None


def _png_bands(image: Image.Image, stream: BinaryIO) -> Bands | None:
    stream.seek(len(_SIGNATURE) + 8)
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", stream.read(13))
    if interlaced or depth < 8 or color == 3:
        return None
    grey16 = depth == 16 and color == 0
    row_bytes = width * _CHANNELS[color] * depth // 8

    def bands(rows: int) -> Iterator[Image.Image]:
        content = _inflated(stream)
        before: np.ndarray | None = None
        for top in range(0, height, rows):
            count = min(rows, height - top)
            filtered = np.frombuffer(content(count * (1 + row_bytes)), np.uint8).reshape(count, -1)
            if depth == 16 and not grey16:
                # Filters act on each byte of a pixel separately, and 8-bit images consist of the upper bytes.
                filtered = np.concatenate([filtered[:, :1], filtered[:, 1::2]], axis=1)
            if before is not None:
                filtered = np.concatenate([np.append(np.uint8(0), before)[None], filtered])
            channels = (filtered.shape[1] - 1) // width
            unfiltered = np.asarray(_small_png(filtered, width, channels)).reshape(len(filtered), -1)
            before = unfiltered[-1]
            values = unfiltered[len(filtered) - count :]
            if grey16:
                yield Image.frombytes("I;16", (width, count), values.tobytes(), "raw", "I;16B")
            else:
                shape = (count, width, channels) if channels > 1 else (count, width)
                yield _described(Image.fromarray(np.ascontiguousarray(values).reshape(shape)), image)

    return bands


def _inflated(stream: BinaryIO) -> Callable[[int], bytes]:
    """A function that gives the next bytes of a PNG file's pixels."""
    stream.seek(len(_SIGNATURE))
    inflater = zlib.decompressobj()
    left = 0  # of the chunk of pixels under way

    def piece() -> bytes:
        nonlocal left
        while not left:
            header = stream.read(8)
            if len(header) < 8:
                raise OSError("image file is truncated")
            length, name = struct.unpack(">I4s", header)
            if name == b"IDAT":
                left = length
            if not left:
                stream.seek(length + 4, io.SEEK_CUR)
        found = stream.read(min(left, _PIECE))
        if not found:
            raise OSError("image file is truncated")
        left -= len(found)
        if not left:
            stream.seek(4, io.SEEK_CUR)
        return found

    def content(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            if inflater.eof:
                raise OSError("image file is truncated")
            parts += inflater.decompress(inflater.unconsumed_tail or piece(), count - len(parts))
        return bytes(parts)

    return content


def _small_png(filtered: np.ndarray, width: int, channels: int) -> Image.Image:
    """The image of filtered rows of ``channels`` bytes per pixel."""
    header = struct.pack(">IIBBBBB", width, len(filtered), 8, _COLOR_TYPE[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 0)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return Image.open(io.BytesIO(_SIGNATURE + content), formats=["PNG"])


def _bmp_bands(image: ImageFile.ImageFile, stream: BinaryIO) -> Bands | None:
    """Bands of uncompressed rows."""
    tiles: list[Any] = image.tile
    if len(tiles) != 1 or tiles[0][0] != "raw":
        return None
    _, _, offset, (raw_mode, stride, orientation) = tiles[0]
    width, height = image.size

    def bands(rows: int) -> Iterator[Image.Image]:
        for top in range(0, height, rows):
            count = min(rows, height - top)
            first = top if orientation > 0 else height - top - count
            stream.seek(offset + first * stride)
            content = stream.read(count * stride)
            if len(content) < count * stride:
                raise OSError("image file is truncated")
            band = Image.frombytes(image.mode, (width, count), content, "raw", raw_mode, stride, orientation)
            if image.palette is not None:
                band.putpalette(image.palette)
            yield _described(band, image)

    return bands


# TIFF: the strips or rows of tiles of a band become a file of their own, with the directory of the whole.

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 317, 322, 323, 324, 325
_JPEG_TABLES, _SAMPLE_FORMAT = 347, 339
# What a band has in common with its file. The caller rotates, and pointers to other directories are void.
_COMMON = (
    *(_WIDTH, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _PLANAR, _PREDICTOR, 320),
    *(_TILE_WIDTH, _TILE_HEIGHT, 338, _SAMPLE_FORMAT, _JPEG_TABLES, 529, 530, 531, 532),
)
_OF_PLANE = (_WIDTH, _COMPRESSION, 266, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _JPEG_TABLES)
_FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f"}
_FORMATS |= {12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_MAX_SEGMENT = 1 << 28  # bytes of one strip or row of tiles
_MAX_ENTRY = 1 << 26
_RAW_ROWS = 64
_MODES = {(1, 1): "L", (2, 3): "RGB", (2, 4): "RGBA", (5, 4): "CMYK"}  # by photometry and samples


@dataclass(frozen=True)
class _Directory:
    """The first directory of a TIFF file: type, count and bytes of each entry, in the file's byte order."""

    order: str
    entries: dict[int, tuple[int, int, bytes]]

    def numbers(self, tag: int) -> list[int]:
        """The whole numbers of an entry."""
        kind, count, content = self.entries[tag]
        form = _FORMATS[kind]
        values = struct.unpack(f"{self.order}{count * len(form)}{form[0]}", content)
        return [int(value) for value in values]

    def number(self, tag: int, default: int) -> int:
        """The only number of an entry, or the default without the entry."""
        return self.numbers(tag)[0] if tag in self.entries else default


def _read_directory(stream: BinaryIO) -> _Directory:
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    number, inline, counter = ("Q", 8, "Q") if big else ("I", 4, "H")
    stream.seek(struct.unpack(order + number, head[8:16] if big else head[4:8])[0])
    (count,) = struct.unpack(order + counter, stream.read(struct.calcsize(counter)))
    entry_size = 4 + 2 * inline
    table = stream.read(min(count, 4096) * entry_size)
    entries = {}
    for start in range(0, len(table), entry_size):
        tag, kind = struct.unpack_from(order + "HH", table, start)
        (length,) = struct.unpack_from(order + number, table, start + 4)
        content = table[start + 4 + inline : start + entry_size]
        if kind not in _FORMATS:
            continue
        size = struct.calcsize("=" + _FORMATS[kind]) * length
        if size > _MAX_ENTRY:
            raise OSError(f"entry {tag} has {size:,} bytes")
        if size > inline:
            stream.seek(struct.unpack(order + number, content)[0])
            content = stream.read(size)
            if len(content) < size:
                raise OSError("image file is truncated")
        entries[tag] = kind, length, content[:size]
    return _Directory(order, entries)


def _tiff_bands(stream: BinaryIO) -> Bands | None:
    directory = _read_directory(stream)
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    tiled = _TILES in directory.entries
    places, sizes = (_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)
    if not {places, sizes, _PHOTOMETRIC} <= directory.entries.keys():
        return None
    offsets, lengths = directory.numbers(places), directory.numbers(sizes)
    segment_rows = directory.number(_TILE_HEIGHT if tiled else _STRIP_ROWS, height)
    segment_rows = max(1, min(segment_rows, height))
    across = -(-width // max(1, directory.number(_TILE_WIDTH, width))) if tiled else 1
    down = -(-height // segment_rows)
    samples = directory.number(_SAMPLES, 1)
    planes = samples if directory.number(_PLANAR, 1) == 2 else 1
    bits = directory.numbers(_BITS) if _BITS in directory.entries else [1]
    if down == 1 and not tiled and directory.number(_COMPRESSION, 1) == 1 and max(bits) % 8 == 0:
        # One strip of uncompressed rows is as good as many.
        segment_rows = min(_RAW_ROWS, height)
        down = -(-height // segment_rows)
        row_bytes = width * (samples if planes == 1 else 1) * bits[0] // 8
        counts = [min(segment_rows, height - row) for row in range(0, height, segment_rows)]
        offsets = [offset + number * segment_rows * row_bytes for offset in offsets for number in range(down)]
        lengths = [count * row_bytes for _ in lengths for count in counts]
    mode = _MODES.get((directory.number(_PHOTOMETRIC, 0), samples))
    if len(offsets) != planes * down * across or len(lengths) != len(offsets):
        return None
    if (
        width * segment_rows * samples * max(bits) // 8 > _MAX_SEGMENT
        or directory.number(_COMPRESSION, 1) == 6
    ):
        return None
    if planes > 1 and (mode is None or max(bits) not in (8, 16)):
        return None

    def part(first: int, stop: int, plane: int) -> Image.Image:
        """Rows of strips or tiles ``first`` to ``stop`` of a plane."""
        chosen = slice((plane * down + first) * across, (plane * down + stop) * across)
        rows = min(stop * segment_rows, height) - first * segment_rows
        tags = _COMMON if planes == 1 else _OF_PLANE
        entries = {tag: directory.entries[tag] for tag in tags if tag in directory.entries}
        if planes > 1:
            short = struct.Struct(directory.order + "H").pack
            ones = {_PHOTOMETRIC: 1, _SAMPLES: 1, _PLANAR: 1, _BITS: bits[plane]}
            entries |= {tag: (3, 1, short(value)) for tag, value in ones.items()}
        segments = []
        for offset, length in zip(offsets[chosen], lengths[chosen], strict=True):
            stream.seek(offset)
            segments.append(stream.read(length))
            if len(segments[-1]) < length:
                raise OSError("image file is truncated")
        content = _small_tiff(directory.order, entries, rows, segment_rows, segments, (places, sizes))
        image = Image.open(io.BytesIO(content), formats=["TIFF"])
        image.load()
        return image

    def bands(rows: int) -> Iterator[Image.Image]:
        step = max(1, rows // segment_rows)
        for first in range(0, down, step):
            parts = [part(first, min(first + step, down), plane) for plane in range(planes)]
            if planes == 1:
                yield parts[0]
            else:
                assert mode is not None
                yield Image.merge(mode, [_upper_byte(one) for one in parts])

    return bands


def _upper_byte(plane: Image.Image) -> Image.Image:
    """A plane in 8 bits, as Pillow reduces colours of 16 bits."""
    if plane.mode == "L":
        return plane
    return Image.fromarray((np.asarray(plane).astype(np.uint16) >> 8).astype(np.uint8))


def _small_tiff(
    order: str,
    entries: dict[int, tuple[int, int, bytes]],
    rows: int,
    segment_rows: int,
    segments: list[bytes],
    tags: tuple[int, int],
) -> bytes:
    """A TIFF file of some of the segments of another one.

    Args:
        tags: of the positions and of the sizes of segments.
    """
    count = len(segments)

    def numbers(*values: int) -> tuple[int, int, bytes]:
        return 4, len(values), struct.pack(f"{order}{len(values)}I", *values)

    entries = {**entries, _HEIGHT: numbers(rows), tags[1]: numbers(*map(len, segments))}
    if tags[0] == _STRIPS:
        entries[_STRIP_ROWS] = numbers(segment_rows)
    entries[tags[0]] = numbers(*[0] * count)
    start = 8 + 2 + 12 * len(entries) + 4
    start += sum(len(content) + len(content) % 2 for _, _, content in entries.values() if len(content) > 4)
    ends = np.cumsum([len(segment) for segment in segments])
    entries[tags[0]] = numbers(
        *[int(start + end - len(part)) for end, part in zip(ends, segments, strict=True)]
    )
    table, further = b"", b""
    base = 8 + 2 + 12 * len(entries) + 4
    for tag, (kind, length, content) in sorted(entries.items()):
        held = content.ljust(4, b"\0")
        if len(content) > 4:
            held = struct.pack(order + "I", base + len(further))
            further += content + b"\0" * (len(content) % 2)
        table += struct.pack(order + "HHI", tag, kind, length) + held
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    return b"".join([head, table, bytes(4), further, *segments])
