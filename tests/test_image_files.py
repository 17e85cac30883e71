"""Image files as others leave them: damaged, huge, strangely named, in other colours, or written by nerfgen itself."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, features

from nerfgen import storage
from nerfgen.image import (
    InputImage,
    UnreadableImageError,
    decode,
    find_images,
    is_figure,
    save_image,
    save_video,
)
from nerfgen.image.bands import deep_planar_bands, file_bands
from nerfgen.image.names import path_inside, row_name
from nerfgen.storage import STATUSES

CORPUS = Path(__file__).parent / "corpus" / "images"
HALVES = (200, 40, 40), (40, 40, 200)
WHITE_BLACK = (255, 255, 255), (0, 0, 0)
GREYS = (200, 200, 200), (40, 40, 40)
TWELVE_BITS = (199, 199, 199), (199, 199, 199)
LUMINANCE = (88, 88, 88), (58, 58, 58)

# The right answer for each file: the colours of its upper and lower half when upright, or status and reason.
ANSWERS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]] | tuple[str, str]] = {
    "adobe-rgb.jpg": HALVES,
    "animated.gif": HALVES,
    "animated.png": HALVES,
    "animated.webp": HALVES,
    "big.tif": HALVES,
    "bomb.png": ("too_large", "more pixels than the limit"),
    "camera.CR2": ("unreadable", "camera raw"),
    "camera.dng": ("unreadable", "camera raw"),
    "cmyk.jpg": HALVES,
    "cmyk.tif": HALVES,
    "cut-header.jpg": ("unreadable", "Truncated"),
    "damaged-profile.jpg": HALVES,
    "damaged-profile.png": HALVES,
    "deep-big-endian.tif": HALVES,
    "deep-planar-big-endian.tif": HALVES,
    "deep-planar.tif": HALVES,
    "deep.tif": HALVES,
    "display-p3-alpha.png": HALVES,
    "display-p3-palette.png": HALVES,
    "display-p3.jpg": HALVES,
    "display-p3.png": HALVES,
    "empty.png": ("unreadable", "empty"),
    "exif-behind-pixels.png": HALVES,
    "exif-damaged.jpg": HALVES,
    "float.tif": GREYS,
    "grey16-big-endian.tif": GREYS,
    "header-only.heic": ("unreadable", ""),
    "jpeg-called.png": HALVES,
    "jpeg-xl.jxl": ("unreadable", "JPEG XL"),
    "lab.tif": HALVES,
    "one-bit-g4.tif": WHITE_BLACK,
    "one-bit.png": WHITE_BLACK,
    "orientation-3.tif": HALVES,
    "orientation-6.jpg": HALVES,
    "orientation-6.webp": HALVES,
    "orientation-8.png": HALVES,
    "pages.tif": HALVES,
    "planar8.tif": HALVES,
    "preview-of-raw.tif": ("unreadable", "preview"),
    "rgb-profile-of-grey.png": LUMINANCE,
    "srgb-profile.png": HALVES,
    "text.png": ("unreadable", "not an image"),
    "truncated.avif": ("unreadable", ""),
    "truncated.bmp": ("unreadable", "truncated"),
    "truncated.gif": ("unreadable", "truncated"),
    "truncated.jp2": ("unreadable", "broken"),
    "truncated.jpg": ("unreadable", "truncated"),
    "truncated.lzw.tif": ("unreadable", ""),
    "truncated.png": ("unreadable", "truncated"),
    "truncated.progressive.jpg": ("unreadable", "truncated"),
    "truncated.tif": ("unreadable", "truncated"),
    "truncated.webp": ("unreadable", ""),
    "twelve-bits.tif": TWELVE_BITS,
    "wide.png": ("too_large", "NERFGEN_READ_LIMIT"),
    "xmp-orientation-6.jpg": HALVES,
    "zero-size.png": ("unreadable", ""),
    "zeros.jpg": ("unreadable", "zeros"),
}


def test_every_file_of_the_corpus_has_an_answer() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {*ANSWERS, "head.heic"}


@pytest.mark.parametrize("max_side", [0, 8])
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_corpus(name: str, max_side: int) -> None:
    image, answer = InputImage(name, CORPUS), ANSWERS[name]
    if isinstance(answer[0], str):
        with pytest.raises(UnreadableImageError) as caught:
            image.pixels(max_side)
        assert caught.value.status == answer[0]
        assert str(answer[1]) in caught.value.reason
        # Reasons are stored: they must not depend on where the folder is, or on addresses in memory.
        assert caught.value.reason
        assert str(CORPUS) not in caught.value.reason
        assert " at 0x" not in caught.value.reason
        return
    pixels, _ = image.pixels(max_side)
    assert pixels.shape[:2] == ((5, 8) if max_side else (16, 24))
    assert image.size == (24, 16)
    # The outer rows: JPEG and resampling blur the border between the halves.
    error = [np.abs(pixels[row].mean(0) - color).max() for row, color in zip((0, -1), answer, strict=True)]
    assert max(error) <= 8


@pytest.mark.skipif(not importlib.util.find_spec("pi_heif"), reason="needs the extra heif")
def test_heic_is_read_whatever_its_suffix(tmp_path: Path) -> None:
    pixels = decode(CORPUS / "head.heic")
    assert pixels.shape == (256, 256, 3)
    assert pixels.std() > 20
    shutil.copy(CORPUS / "head.heic", tmp_path / "e.jpg")
    assert (decode(tmp_path / "e.jpg") == pixels).all()


def test_orientation_is_told() -> None:
    told = {name: InputImage(name, CORPUS).orientation for name in ("orientation-6.jpg", "orientation-8.png")}
    assert told == {"orientation-6.jpg": 6, "orientation-8.png": 8}
    assert InputImage("orientation-3.tif", CORPUS).orientation == 3
    assert InputImage(np.zeros((2, 3, 3), np.uint8)).orientation == 1


def _encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "channels", "options"),
    [
        ("PNG", 3, {}),
        ("PNG", 4, {}),
        ("PNG", 2, {}),
        ("PNG", 0, {}),
        ("TIFF", 3, {}),
        ("TIFF", 3, {"compression": "tiff_lzw"}),
        ("TIFF", 3, {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 7, 317: 2}}),
        ("TIFF", 4, {"compression": "packbits"}),
        ("TIFF", 1, {"compression": "tiff_lzw"}),
        ("TIFF", 3, {"compression": "jpeg", "quality": 90}),
        ("TIFF", 0, {}),
        ("BMP", 3, {}),
    ],
)
def test_bands_are_the_whole_image(kind: str, channels: int, options: dict[str, object]) -> None:
    """Part by part a file gives the same pixels as at once."""
    random = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(61), np.arange(47))[..., None] * np.arange(1, 5)
    smooth = smooth + random.integers(0, 9, smooth.shape)
    if channels == 0:
        pixels = (smooth[..., 0] * 150).astype(np.uint16)
    else:
        pixels = smooth[..., :channels].astype(np.uint8)
        pixels = pixels[..., 0] if channels == 1 else pixels
    content = _encoded(pixels, kind, **options)
    with Image.open(io.BytesIO(content)) as whole:
        expected = np.asarray(whole)
    with Image.open(io.BytesIO(content)) as image:
        bands = file_bands(image, io.BytesIO(content))
        assert bands is not None
        for rows in (1, 8, 100):
            assert (np.concatenate([np.asarray(band) for band in bands(rows)]) == expected).all()


def test_deep_planes_are_those_of_other_files_of_16_bits() -> None:
    stream = io.BytesIO((CORPUS / "deep-planar.tif").read_bytes())
    with Image.open(stream) as image:
        bands = deep_planar_bands(image, stream)
        assert bands is not None
        assert (np.concatenate([np.asarray(band) for band in bands(5)]) == decode(CORPUS / "deep.tif")).all()
    for name in ("planar8.tif", "deep.tif", "one-bit.png"):
        stream = io.BytesIO((CORPUS / name).read_bytes())
        with Image.open(stream) as image:
            assert deep_planar_bands(image, stream) is None


def _huge_png(path: Path, size: int, depth: int, channels: int) -> None:
    """A PNG whose rows repeat, so that it is written in an instant."""
    color = {1: 0, 3: 2, 4: 6}[channels]
    row = b"\0" + bytes(range(256)) * (size * channels * depth // 8 // 256 + 1)
    block = row[: 1 + size * channels * depth // 8] * 100
    squeeze = zlib.compressobj(1, wbits=-15)
    same = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    checksum = 1
    for _ in range(size // 100):
        checksum = zlib.adler32(block, checksum)
    pixels = b"\x78\x01" + same * (size // 100) + b"\x03\0" + struct.pack(">I", checksum)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, depth, color, 0, 0, 0)),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks
        )
    )


_MEASURE = """
import sys
from pathlib import Path
from nerfgen.image import InputImage
image = InputImage(Path(sys.argv[1]))
print(*image.size, *image.pixels(1280)[0].shape, image.resample((100, 100, 4000), 64)[0].shape[0])
# The peak of this program alone: that of `getrusage` counts the process that started it, too.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""


def _memory(path: Path) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", _MEASURE, path], capture_output=True, text=True, check=True)
    told, megabytes = done.stdout.splitlines()
    return told, int(megabytes)


@pytest.mark.parametrize(
    ("size", "depth", "channels", "limit"),
    [
        (8_300, 8, 3, "0.4"),
        pytest.param(10_000, 8, 3, "1", marks=pytest.mark.slow),
        pytest.param(20_000, 8, 3, "1", marks=pytest.mark.slow),
        pytest.param(20_000, 16, 1, "1", marks=pytest.mark.slow),
        pytest.param(20_000, 16, 4, "1", marks=pytest.mark.slow),
    ],
)
def test_huge_images_are_decoded_within_the_limit(
    size: int, depth: int, channels: int, limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NERFGEN_READ_LIMIT", limit)
    _huge_png(tmp_path / "a.png", size, depth, channels)
    told, megabytes = _memory(tmp_path / "a.png")
    assert told == f"{size} {size} 1280 1280 3 64"
    assert megabytes < 1000 * float(limit)


def test_huge_jpeg_is_decoded_at_a_reduced_scale(tmp_path: Path) -> None:
    Image.new("L", (10_000, 7_000)).save(tmp_path / "a.jpg", quality=30)
    image = InputImage("a.jpg", tmp_path)
    pixels, scale = image.pixels()
    assert (image.size, pixels.shape, scale) == ((10_000, 7_000), (3500, 5000, 3), (0.5, 0.5))
    # Windows are in pixels of the full image all the same.
    assert image.resample((8000, 5000, 4000), 8)[1].sum() == 16


def test_progressive_jpeg_beyond_memory_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (5000, 4000)).save(tmp_path / "a.jpg", progressive=True, quality=20)
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "0.05")
    with pytest.raises(UnreadableImageError, match="NERFGEN_READ_LIMIT") as caught:
        InputImage("a.jpg", tmp_path).pixels(500)
    assert caught.value.status == "too_large"
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "1")
    assert InputImage("a.jpg", tmp_path).pixels(500)[0].shape == (400, 500, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_decoding_keeps_the_place_of_pixels(orientation: int) -> None:
    """Partly filled blocks come first where the stored image is reversed."""
    y, x = np.mgrid[:403, :605]
    upright = np.stack([x * 255 / 605, y * 255 / 403, x * 0 + 128], -1).astype(np.uint8)
    stored = upright
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    if orientation >= 5:
        stored = stored.swapaxes(0, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _encoded(np.ascontiguousarray(stored), "JPEG", quality=98, subsampling=0, exif=exif)
    pixels, (scale_x, scale_y) = InputImage(content).pixels(120)
    v, u = np.mgrid[4 : pixels.shape[0] - 4, 4 : pixels.shape[1] - 4] + 0.5
    # Half a pixel to its centre, and half a level of truncation.
    expected = np.stack([(u / scale_x - 0.5) * 255 / 605 - 0.5, (v / scale_y - 0.5) * 255 / 403 - 0.5], -1)
    assert np.abs(pixels[4:-4, 4:-4, :2] - expected).mean() < 0.5


def test_names_of_rows_are_safe_and_unique() -> None:
    raw = [
        b"caf\xe9.png",
        b"a\nb.png",
        b"a\\xe9.png",
        b"caf\xc3\xa9.png",
        b"plain.png",
        b"\x1b[2J.png",
        b"C:x.png",
    ]
    names = [row_name(os.fsdecode(name)) for name in raw]
    assert names[0] == "caf\\xe9.png"
    assert names[3:5] == ["café.png", "plain.png"]
    assert len(set(names)) == len(raw)
    for name in names:
        name.encode()
        assert name.isprintable()
    for name in (*names[:3], names[5], "../a.png", "/etc/passwd", "", "C:x.png"):
        with pytest.raises(UnreadableImageError) as caught:
            path_inside(Path(), name)
        assert caught.value.status == "bad_name"


def _strange_folder(folder: Path) -> dict[str, str]:
    """Files that can't be used and the status of each."""
    outside = folder.parent / f"{folder.name}-outside"
    for place in (folder / "sub", outside):
        place.mkdir(parents=True)
    save_image(outside / "x.png", np.zeros((9, 9, 3), np.uint8))
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"a")
    (folder / "new\nline.png").write_bytes(b"a")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "link.png").symlink_to(outside / "x.png")
    (folder / "linked").symlink_to(outside)
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "sub" / "notes.png").write_text("notes")
    return {
        "caf\\xe9.png": "bad_name",
        "device.png": "outside",
        "gone.png": "absent",
        "link.png": "outside",
        "linked": "outside",
        "new\\x0aline.png": "bad_name",
        "pipe.png": "unreadable",
        "sub/notes.png": "unreadable",
    }


def _status(name: str, folder: Path) -> str:
    try:
        InputImage(name, folder).pixels()
    except UnreadableImageError as error:
        return error.status
    return "ok"


def test_every_file_of_a_folder_is_listed_with_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    expected = _strange_folder(folder)
    (folder / "zlink").symlink_to(folder / "sub")
    names = find_images(folder)
    assert {name: _status(name, folder) for name in names} == expected
    assert {*expected.values()} <= STATUSES.keys()
    assert all(InputImage(name, folder).digest[0] == 0 for name in names if name != "sub/notes.png")
    monkeypatch.setenv("NERFGEN_FOLLOW_LINKS", "1")
    assert "linked/x.png" in find_images(folder)
    assert _status("link.png", folder) == _status("linked/x.png", folder) == "ok"
    assert _status("device.png", folder) == "unreadable"


def test_camera_raw_and_other_suffixes_are_listed(tmp_path: Path) -> None:
    names = ["a.ARW", "a.avif", "a.cr2", "a.dng", "a.heic", "a.jfif", "a.jp2", "a.jpe", "a.jxl", "a.nef"]
    for name in [*names, "a.mp4", "a.txt", "a.h5"]:
        (tmp_path / name).write_bytes(b"x")
    assert find_images(tmp_path) == names


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_is_read() -> None:
    pixels = np.full((16, 16, 3), (200, 40, 40), np.uint8)
    assert np.abs(decode(_encoded(pixels, "AVIF", quality=90)).astype(int) - pixels).max() < 8


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_figures_are_no_images(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    save_image(tmp_path / f"figure.{suffix}", pixels, figure=True)
    save_image(tmp_path / f"image.{suffix}", pixels)
    assert is_figure(tmp_path / f"figure.{suffix}")
    assert find_images(tmp_path) == [f"image.{suffix}"]
    assert decode(tmp_path / f"figure.{suffix}").shape == pixels.shape


def test_videos_are_no_images(tmp_path: Path) -> None:
    save_video(tmp_path / "turn.gif", [np.full((32, 32, 3), value, np.uint8) for value in (0, 200)], 10)
    save_image(tmp_path / "mask.png", np.zeros((8, 8), np.uint8), figure=True)
    save_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert find_images(tmp_path) == ["a.png"]
    (tmp_path / "a.png").unlink()
    from nerfgen.errors import InputError

    with pytest.raises(InputError, match="2 figures"):
        find_images(tmp_path)


def test_landmark_gives_every_file_a_row(run, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    expected = _strange_folder(folder)
    shutil.copy(CORPUS / "header-only.heic", folder / "IMG_1.HEIC")
    shutil.copy(CORPUS / "truncated.jpg", folder / "cut.jpg")
    shutil.copy(CORPUS / "orientation-6.jpg", folder / "plain.jpg")
    expected |= {"IMG_1.HEIC": "unreadable", "cut.jpg": "unreadable", "plain.jpg": "no_object"}
    done = run("landmark", folder, "--strict", "--workers", 1)
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    if not importlib.util.find_spec("pi_heif"):  # else it is a damaged image as others are
        assert "HEIC" in done.err
    with h5py.File(folder / "landmarks.h5") as file:
        names, status = storage.strings(file["image"]), storage.strings(file["status"])
        reasons = storage.strings(file["reason"])
    assert dict(zip(names, status, strict=True)) == expected
    assert all(bool(reason) == (value != "no_object") for reason, value in zip(reasons, status, strict=True))
