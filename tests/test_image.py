"""Finding, decoding and framing photographs."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.image import (
    MAX_PIXELS,
    InputImage,
    UnreadableImageError,
    decode,
    decode_alpha,
    digest_images,
    find_images,
    match_names,
    resample_window,
)

HEIGHT, WIDTH = 24, 36


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A smooth picture without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1).astype(
        np.uint8
    )


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=-1)


def test_find_images_lists_every_depth_in_order(tmp_path: Path) -> None:
    wanted = ["a.JPG", "b/c.png", "b/d/e.webp", "f.tif"]
    others = [".hidden.png", ".cache/x.png", "notes.txt", ".sheet.12.partial.png", "x.1.partial.png", "png"]
    for name in [*wanted, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert find_images(tmp_path) == wanted


def test_find_images_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no images .*png.*jpg"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        find_images(tmp_path / "absent")


def test_digest_of_an_absent_file_is_that_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    (size, digest), (no_size, no_digest) = digest_images(tmp_path, ["a.png", "b.png"])
    assert (size, no_size) == (3, 0)
    assert digest.startswith("ba7816bf")
    assert no_digest.startswith("e3b0c442")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_rgb_in_every_format(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    error = np.abs(decode(encoded(Image.fromarray(picture()), kind, **options)).astype(int) - picture())
    assert error.mean() < (4 if kind in ("GIF", "JPEG") else 1e-9)


def test_eight_bit_modes() -> None:
    rgb = Image.fromarray(picture())
    luminance = np.asarray(rgb.convert("L"))
    assert (decode(encoded(rgb.convert("L"), "PNG")) == grey(luminance)).all()
    black = np.asarray(rgb.convert("1")).astype(np.uint8) * 255
    assert (decode(encoded(rgb.convert("1"), "PNG")) == grey(black)).all()
    palette = rgb.quantize(64)
    assert (decode(encoded(palette, "PNG")) == np.asarray(palette.convert("RGB"))).all()
    cmyk = encoded(rgb.convert("CMYK"), "JPEG", quality=98)
    assert np.abs(decode(cmyk).astype(int) - picture()).mean() < 4


def test_more_than_eight_bits() -> None:
    sixteen = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round()
    expected = grey(np.round(sixteen / 257).astype(np.uint8))
    for kind in ("PNG", "TIFF"):
        assert (decode(encoded(Image.fromarray(sixteen.astype(np.uint16)), kind)) == expected).all()
    assert (decode(encoded(Image.fromarray(sixteen.astype(np.int32)), "TIFF")) == expected).all()
    for top in (1.0, 255.0, 65535.0):
        floats = Image.fromarray((sixteen / 65535 * top).astype(np.float32))
        assert np.abs(decode(encoded(floats, "TIFF")).astype(int) - expected).max() <= 1
    stretched = Image.fromarray((sixteen - 30000.0).astype(np.float32))
    assert np.abs(decode(encoded(stretched, "TIFF")).astype(int) - expected).max() <= 1
    damaged = (sixteen / 65535).astype(np.float32)
    damaged[0, 0] = np.nan
    assert (decode(encoded(Image.fromarray(damaged), "TIFF"))[0, 0] == 0).all()


def test_sixteen_bit_rgb_png() -> None:
    """Pillow can't write these, so the chunks are put together here."""
    import struct
    import zlib

    values = (picture().astype(np.uint32) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    file = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert (decode(file) == picture()).all()


def test_transparency_is_laid_over_white() -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 0, 51
    rgba = encoded(Image.fromarray(np.dstack([picture(), alpha])), "PNG")
    expected = np.round(picture() * (alpha / 255)[..., None] + 255 * (1 - alpha / 255)[..., None])
    assert np.abs(decode(rgba) - expected).max() <= 1
    assert (decode_alpha(rgba) == alpha).all()
    luminance = np.dstack([picture()[..., 0], alpha])
    assert (decode_alpha(encoded(Image.fromarray(luminance, "LA"), "PNG")) == alpha).all()
    assert decode_alpha(encoded(Image.fromarray(picture()), "PNG")) is None
    assert decode_alpha(encoded(Image.fromarray(picture()), "JPEG")) is None


def test_palette_with_transparency() -> None:
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[:, 12:] = 1
    image = Image.fromarray(indices)
    image.putpalette([10, 20, 30, 200, 100, 50])
    file = encoded(image, "PNG", transparency=0)
    assert (decode(file)[0, 0] == 255).all()
    assert tuple(decode(file)[0, 20]) == (200, 100, 50)
    assert (decode_alpha(file) == indices * 255).all()


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 0, 255))]
    file = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(decode(file)[4, 4]) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_is_upright(orientation: int, kind: str) -> None:
    # How the upright picture lies in a file of each orientation.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    upright = picture(64, 96)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98}, "WEBP": {"quality": 98}}.get(kind, {})
    file = encoded(Image.fromarray(np.ascontiguousarray(stored(upright))), kind, exif=exif, **options)
    photo = InputImage(file)
    assert photo.size == (96, 64)
    image, scale = photo.pixels()
    assert scale == (1.0, 1.0)
    assert np.abs(image.astype(int) - upright).mean() < 3
    small, (scale_x, scale_y) = InputImage(file).pixels(24)
    assert small.shape == (16, 24, 3)
    assert (scale_x, scale_y) == (0.25, 0.25)
    expected = upright.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).mean() < 3


@pytest.mark.parametrize("size", [(1203, 997), (997, 1203), (3001, 700)])
def test_reduced_jpeg_keeps_its_place(size: tuple[int, int]) -> None:
    """The same feature lies at the same place times the scale, whatever the decoder's own reduction."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    x, y = width * 3 // 4, height * 2 // 3
    image[:, x:, 0] = 255
    image[y:, :, 1] = 255
    file = encoded(Image.fromarray(image), "JPEG", quality=98)
    for max_side in (150, 300, 700):
        small, scale = InputImage(file).pixels(max_side)
        assert max(small.shape[:2]) <= max_side
        # A step's position is the number of pixels before it, in whole and part.
        for profile, place in ((small[2, :, 0], x * scale[0]), (small[:, 2, 1], y * scale[1])):
            darkness = 1 - profile / np.median(profile[-5:])
            assert abs(darkness.sum() - place) < 0.15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_damaged_files_are_unreadable(kind: str, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), kind)
    for damaged in (whole[: len(whole) // 2], whole[:20], b"", b"garbage", whole[:4] + b"\xff" * 300):
        with pytest.raises(UnreadableImageError):
            decode(damaged)
    with pytest.raises(UnreadableImageError, match="absent"):
        decode(tmp_path / "absent.png")


def test_too_many_pixels_are_refused() -> None:
    file = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    file[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(UnreadableImageError, match="limit of 500,000,000"):
        decode(bytes(file))


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows along x by one grey level a pixel, green along y; the value at a pixel's centre."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x + 0.5, y + 0.5, x * 0.0], -1).astype(np.uint8)


@pytest.mark.parametrize("side", [40.0, 57.3, 100.0, 151.7])
@pytest.mark.parametrize("size", [16, 64, 100, 333])
def test_a_ramp_stays_the_same_ramp(side: float, size: int) -> None:
    x0, y0 = 31.4, 22.8
    raster, valid = resample_window(ramp(220, 240), (x0, y0, side), size)
    assert raster.shape == (size, size, 3)
    assert valid.all()
    centres = (np.arange(size) + 0.5) * side / size
    assert np.abs(raster[..., 0] + 0.5 - (x0 + centres)[None, :]).max() <= 1
    assert np.abs(raster[..., 1] + 0.5 - (y0 + centres)[:, None]).max() <= 1


def test_a_large_window_is_averaged_not_sampled() -> None:
    y, x = np.mgrid[:2000, :3000]
    checks = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    raster, _ = resample_window(checks, (0, 0, 2000), 50)
    assert np.abs(raster.astype(int) - 127).max() <= 2
    slope = np.repeat((x * 255 / 3000)[..., None], 3, axis=-1).astype(np.uint8)
    raster, _ = resample_window(slope, (400.0, 0.0, 2000.0), 50)
    assert np.abs(raster[..., 0] - ((400 + (np.arange(50) + 0.5) * 40) * 255 / 3000)[None]).max() <= 1.5


def test_beyond_the_photograph() -> None:
    image = np.full((20, 30, 3), 200, np.uint8)
    raster, valid = resample_window(image, (-10, -10, 40), 40)
    assert (raster == 200).all()
    expected = np.zeros((40, 40), bool)
    expected[10:30, 10:40] = True
    assert (valid == expected).all()
    assert not resample_window(image, (1000, 1000, 5), 8)[1].any()


def test_any_number_of_channels() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 5), np.uint8)
    raster, _ = resample_window(image, (0, 0, 20), 20)
    assert (raster == image).all()


def test_many_threads_decode_at_once() -> None:
    """Decoding changes nothing that other threads share: neither Pillow's limit nor the filters of warnings."""
    large = encoded(Image.new("L", (3000, 3000)), "PNG")
    damaged = encoded(Image.fromarray(picture()), "JPEG")[:200]
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters), warnings.showwarning
    seen: set[object] = set()

    def work(number: int) -> bool:
        try:
            shape = decode(damaged if number % 3 else large).shape
        except UnreadableImageError:
            return False
        seen.add(Image.MAX_IMAGE_PIXELS)
        return shape == (3000, 3000, 3)

    with ThreadPoolExecutor(16) as threads:
        readable = list(threads.map(work, range(120)))
    assert readable == [number % 3 == 0 for number in range(120)]
    assert seen == {before[0]}
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters), warnings.showwarning) == before
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS >= MAX_PIXELS


def test_an_image_is_sent_as_its_source(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(picture()), "PNG"))
    image = InputImage(path)
    size, digest = image.digest
    assert image.pixels()[0].shape == picture().shape
    again = pickle.loads(pickle.dumps(image))
    assert len(pickle.dumps(image)) < 1000
    assert (again.pixels()[0] == image.pixels()[0]).all()
    assert again.digest == (size, digest) == (size, hashlib.sha256(path.read_bytes()).hexdigest())
    absent = InputImage(tmp_path / "absent.png")
    assert absent.digest[0] == 0
    with pytest.raises(UnreadableImageError, match=r"absent\.png"):
        absent.pixels()


@pytest.mark.parametrize(
    ("wanted", "present", "matched"),
    [
        (["a/x.png"], ["a/x.png", "a/X.png", "a/x.jpg"], ["a/x.png"]),
        (["K\u00e4.png"], ["Ka\u0308.png"], ["Ka\u0308.png"]),
        (["f.PNG", "A/g.png"], ["f.png", "a/G.png"], ["f.png", "a/G.png"]),
        (["IMG_1", "2.png", "v1.5"], ["IMG_1.JPG", "2.jpg", "v1.5.png"], ["IMG_1.JPG", "2.jpg", "v1.5.png"]),
        (["x.png", "x.png"], ["X.png"], ["X.png", "X.png"]),
        (["x.png", "x.jpg"], ["x.jpg"], [None, "x.jpg"]),
        (["x"], ["x.png", "x.jpg"], [None]),
        (["f.png"], ["F.png", "f.PNG"], [None]),
        (["f.PNG", "F.png"], ["f.png"], [None, None]),
        (["x.5", "b/x.png", ""], ["x.6", "x.png", "x"], [None, None, None]),
    ],
)
def test_a_name_means_the_one_file_that_is_spelled_like_it(
    wanted: list[str], present: list[str], matched: list[str | None]
) -> None:
    assert match_names(wanted, present) == matched
