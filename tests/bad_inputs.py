"""The inputs of the tables in docs/reliability.md, by the names that their commands use.

Each builder makes its file or folder at a path, from the good files of :mod:`good_files` where it needs some. A folder
of images has good ones beside what is bad.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from good_files import MUG
from PIL import Image

from nerfgen.storage import renew
from nerfgen.storage.seal import SEAL_SIZE, write_seal
from nerfgen.synth import SynthSettings, synthesize

Builder = Callable[[Path, Path], None]
INPUTS: dict[str, Builder] = {}
# Good files that inputs are made of, as they are.
GOOD = (
    *(
        "age.csv",
        "age.direction.h5",
        "anna.personal.h5",
        "cars",
        "ffhq",
        "ffhq.zip",
        "mesh.glb",
        "model.h5",
        "mugs",
    ),
    *("path.json", "photos", "srn", "views.h5"),
)
SLOW = ("mug.h5", "people", "report.h5", "study.h5", "trained.h5", "unfinished")
# Inputs that are made of those.
SLOW_INPUTS = set(SLOW)


def bad_input(name: str) -> Callable[[Builder], Builder]:
    """Register a builder: called with the path to make and the folder of good files."""

    def register(builder: Builder) -> Builder:
        assert name not in INPUTS, name
        INPUTS[name] = builder
        return builder

    return register


def unable(names: Sequence[str]) -> str:
    """Why these inputs can't be made here; empty if they can."""
    if sys.platform == "darwin" and "name-not-utf8" in names:
        return "file names are UTF-8"
    return ""


def copied(source: Path, path: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, path, symlinks=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)


for _name in (*GOOD, *SLOW):
    INPUTS[_name] = lambda path, good: copied(good / path.name, path)


def text(name: str, content: str | bytes) -> None:
    """A single file of this content."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


# --- images: a folder of two good images and a bad one ---------------------------------------------------


def image(name: str, file: str = "000002.png") -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """A folder whose third image the function makes; cameras.h5 lists all three."""

    def register(builder: Callable[[Path], None]) -> Callable[[Path], None]:
        @bad_input(name)
        def build(path: Path, good: Path) -> None:
            three_images(path, good, file)
            builder(path / file)

        return builder

    return register


def three_images(path: Path, good: Path, third: str = "000002.png") -> None:
    """The first two photos, and cameras.h5 for them and for a third image of this name."""
    path.mkdir()
    for name in ("000000.png", "000001.png"):
        shutil.copyfile(good / "photos" / name, path / name)
    cameras = path / "cameras.h5"
    with (
        h5py.File(good / "photos" / "cameras.h5") as source,
        h5py.File(cameras, "w", userblock_size=SEAL_SIZE) as file,
    ):
        file.attrs.update(source.attrs)
        for key, values in source.items():
            if key == "image_sha256":  # the third image has other content
                continue
            content = values[:3]
            if key == "image":
                content[2] = third
            file.create_dataset(key, data=content, dtype=values.dtype)
    renew(cameras)


def photo(size: tuple[int, int] = (24, 24), mode: str = "RGB") -> Image.Image:
    width, height = size
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[height // 4 : -height // 4 or None, width // 4 : -width // 4 or None] = (200, 30, 40)
    return Image.fromarray(pixels).convert(mode)


def encoded(kind: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (picture or photo()).save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, *, bits: int = 1, color: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def bytes_image(name: str, content: Callable[[], bytes], file: str = "000002.png") -> None:
    image(name, file)(lambda path: void(path.write_bytes(content())))


def void(_: object) -> None:
    return None


bytes_image("empty-image", lambda: b"")
bytes_image("text-as-image", lambda: b"<html>not found</html>")
bytes_image("cut-jpeg", lambda: encoded("JPEG", photo((200, 200)))[:900], "000002.jpg")
bytes_image("cut-png", lambda: encoded("PNG", photo((200, 200)))[:200])
bytes_image("cut-webp", lambda: encoded("WEBP", photo((200, 200)))[:60], "000002.webp")
bytes_image("cut-tiff", lambda: encoded("TIFF")[:300], "000002.tif")
bytes_image("cut-gif", lambda: encoded("GIF")[:40], "000002.gif")
bytes_image(
    "wrong-checksum",
    lambda: encoded("PNG").replace(b"IDAT", b"IDAT", 1)[:-20] + b"\0" * 8 + encoded("PNG")[-12:],
)
bytes_image("zip-as-image", lambda: b"PK\x03\x04" + b"\0" * 60, "000002.jpg")
bytes_image("hdf5-as-image", lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
bytes_image("declared-gigapixels", lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(b"\0" * 100)))
bytes_image("png-bomb", lambda: png(20000, 20000, zlib.compress(b"\0" * (2501 * 20000), 9)))
bytes_image("png-of-no-width", lambda: png(0, 10, zlib.compress(b"\0" * 10)))
bytes_image("other-shape", lambda: encoded("PNG", photo((48, 12))))
bytes_image("one-pixel", lambda: encoded("PNG", photo((1, 1))))
bytes_image("larger-image", lambda: encoded("PNG", photo((96, 96))))
bytes_image("cmyk-jpeg", lambda: encoded("JPEG", photo(mode="CMYK")), "000002.jpg")
bytes_image(
    "broken-exif", lambda: encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40), "000002.jpg"
)
bytes_image("broken-profile", lambda: encoded("PNG", icc_profile=b"\xff" * 200))
bytes_image(
    "sixteen-bits", lambda: encoded("PNG", Image.fromarray(np.asarray(photo(mode="L"), np.uint16) * 257))
)
bytes_image(
    "tiff-of-nan",
    lambda: encoded("TIFF", Image.fromarray(np.full((24, 24), math.nan, np.float32))),
    "000002.tif",
)
bytes_image("looping-tiff", lambda: b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0", "000002.tif")
bytes_image(
    "animated-gif",
    lambda: encoded("GIF", photo(), save_all=True, append_images=[photo().rotate(90)]),
    "000002.gif",
)
bytes_image(
    "huge-bmp",
    lambda: (
        b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**31 - 1, -(2**31) + 1, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "000002.bmp",
)
bytes_image("heic-named-jpg", lambda: b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0" * 200, "000002.jpg")
bytes_image(
    "long-text-chunks",
    lambda: (
        encoded("PNG")[:33]
        + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * (20 << 20)))
        + encoded("PNG")[33:]
    ),
)


@image("image-is-folder")
def _(path: Path) -> None:
    path.mkdir()


@image("image-is-pipe")
def _(path: Path) -> None:
    os.mkfifo(path)


@image("image-is-device")
def _(path: Path) -> None:
    path.symlink_to("/dev/zero")


@image("image-is-broken-link")
def _(path: Path) -> None:
    path.symlink_to("nowhere.png")


@image("image-link-to-itself")
def _(path: Path) -> None:
    path.symlink_to(path.name)


@image("image-outside")
def _(path: Path) -> None:
    outside = path.parent.with_name("elsewhere.png")
    photo().save(outside)
    path.symlink_to(outside)


@bad_input("name-not-utf8")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    shutil.copyfile(path / "0.png", os.fsencode(path) + b"/caf\xe9.png")


@bad_input("name-with-escape")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    shutil.copyfile(path / "0.png", path / "\x1b[31mred\n.png")


@image("image-without-permission")
def _(path: Path) -> None:
    photo().save(path)
    path.chmod(0)


@bad_input("all-unreadable")
def _(path: Path, good: Path) -> None:
    three_images(path, good)
    for name in ("000000.png", "000001.png", "000002.png"):
        (path / name).write_bytes(b"none")


@bad_input("heic-folder")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    (path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0" * 200)


@bad_input("cut-face")
def _(path: Path, good: Path) -> None:
    """Two faces and half of a third."""
    path.mkdir()
    synthesize("heads", path, SynthSettings(num_images=2, size=96, views=0, heldout_objects=0), workers=1)
    (path / "truth.h5").unlink()
    content = (path / "000000.png").read_bytes()
    (path / "cut.png").write_bytes(content[: len(content) // 2])


@bad_input("no-face")
def _(path: Path, good: Path) -> None:
    path.mkdir()
    photo().save(path / "square.png")


# --- folders ---------------------------------------------------------------------------------------------


@bad_input("empty-folder")
def _(path: Path, good: Path) -> None:
    path.mkdir()


@bad_input("no-images")
def _(path: Path, good: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("none")
    (path / ".hidden.png").write_bytes(encoded("PNG"))


@bad_input("no-cameras")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    (path / "cameras.h5").unlink()


@bad_input("no-masks")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    (path / "masks.h5").unlink()


@bad_input("missing-image")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    (path / "000001.png").unlink()
    (path / "masks.h5").unlink()


@bad_input("new-image")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    photo().save(path / "new.png")
    (path / "masks.h5").unlink()


@bad_input("changed-image")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    photo().save(path / "000001.png")


@bad_input("looping-folder")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    (path / "masks.h5").unlink()
    (path / "again").symlink_to(".")


@bad_input("folder-outside")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    outside = path.with_name("elsewhere")
    outside.mkdir()
    photo().save(outside / "other.png")
    (path / "linked").symlink_to(outside)


@bad_input("photos-of-pipes")
def _(path: Path, good: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "cameras.h5")
    photo().save(path / "000000.png")


@bad_input("shards")
def _(path: Path, good: Path) -> None:
    """The first of two shards, the same again, and the second of another run."""
    path.mkdir()
    for name, number, changed in (
        ("cameras.shard-1-of-2.h5", 1, {}),
        ("again.h5", 1, {}),
        ("other.h5", 2, {"robust": 0.1}),
    ):
        copied(good / "photos" / "cameras.h5", path / name)
        with h5py.File(path / name, "r+") as file:
            part = {"shard": {"number": number, "of": 2, "listed": "0" * 64}}
            parameters = json.loads(file.attrs["parameters"]) | changed | part
            file.attrs["parameters"] = json.dumps(parameters)
        renew(path / name)


@bad_input("read-only")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    (path / "masks.h5").unlink()
    path.chmod(0o555)


@bad_input("cameras-without-permission.h5")
def _(path: Path, good: Path) -> None:
    copied(good / "photos" / "cameras.h5", path)
    path.chmod(0)


@bad_input("output-is-folder")
def _(path: Path, good: Path) -> None:
    path.mkdir()


@bad_input("full-folder")
def _(path: Path, good: Path) -> None:
    path.mkdir()
    (path / "kept.txt").write_text("kept")


text("file.txt", "text\n")


# --- HDF5 ------------------------------------------------------------------------------------------------


def hdf5(name: str, source: str, change: Callable[[h5py.File], object], *, digests: bool = True) -> None:
    """A copy of a good file with a change, sealed again as its author would do."""
    SLOW_INPUTS.update({name} if source in SLOW else ())

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        copied(good / source, path)
        with h5py.File(path, "r+", locking=False) as file:
            change(file)
            sealed = file.userblock_size == SEAL_SIZE
        if digests:
            renew(path)
        elif sealed:
            write_seal(path)


def damaged(name: str, source: str, change: Callable[[bytearray], object]) -> None:
    """A copy of a good file whose bytes changed."""
    SLOW_INPUTS.update({name} if source in SLOW else ())

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        content = bytearray((good / source).read_bytes())
        change(content)
        path.write_bytes(content)


def replaced(
    dataset: str, values: Callable[[h5py.Dataset], Any], **options: Any
) -> Callable[[h5py.File], None]:
    """Another dataset of the same name."""

    def change(file: h5py.File) -> None:
        content = values(file[dataset])
        attributes = dict(file[dataset].attrs)
        del file[dataset]
        file.create_dataset(dataset, data=content, **options).attrs.update(attributes)

    return change


def put(dataset: str, place: Any, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[dataset][place] = value

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.attrs[name] = value

    return change


def without(*names: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return change


def without_attribute(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]

    return change


def linked(dataset: str, link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[dataset]
        file[dataset] = link

    return change


def as_text(array: h5py.Dataset) -> None:
    """Put a text in the place of an array."""
    file, name = array.file, array.name
    attributes = dict(array.attrs)
    del file[name]
    file.create_dataset(name, data="x").attrs.update(attributes)


def as_group(dataset: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[dataset]
        file.create_group(dataset)

    return change


def declared(dataset: str, shape: tuple[int, ...], **options: Any) -> Callable[[h5py.File], None]:
    """An array of another size, without storage."""

    def change(file: h5py.File) -> None:
        kind = file[dataset].dtype
        del file[dataset]
        file.create_dataset(dataset, shape=shape, dtype=kind, **options)

    return change


def stored_outside(dataset: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        old = file[dataset]
        shape, kind = old.shape, old.dtype
        del file[dataset]
        file.create_dataset(
            dataset, shape=shape, dtype=kind, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
        )

    return change


def virtual(dataset: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        old = file[dataset]
        layout = h5py.VirtualLayout(old.shape, old.dtype)
        layout[:] = h5py.VirtualSource("other.h5", "x", old.shape)
        del file[dataset]
        file.create_virtual_dataset(dataset, layout)

    return change


def many_attributes(file: h5py.File) -> None:
    for number in range(2000):
        file.attrs[f"a{number}"] = number


def deep_groups(file: h5py.File) -> None:
    group = file
    for _ in range(300):
        group = group.create_group("g")


text("text.h5", "text\n")
text("empty.h5", "")
text("signature-only.h5", b"\x89HDF\r\n\x1a\n")


@bad_input("pipe.h5")
def _(path: Path, good: Path) -> None:
    os.mkfifo(path)


@bad_input("device.h5")
def _(path: Path, good: Path) -> None:
    path.symlink_to("/dev/zero")


@bad_input("foreign.h5")
def _(path: Path, good: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)


def flip(content: bytearray) -> None:
    content[len(content) * 2 // 3] ^= 1


_CAMERAS, _MASKS = "photos/cameras.h5", "photos/masks.h5"
damaged("flipped-cameras.h5", _CAMERAS, flip)
damaged("cut-cameras.h5", _CAMERAS, lambda content: content.__delitem__(slice(len(content) // 2, None)))
damaged("longer-cameras.h5", _CAMERAS, lambda content: content.extend(b"\0" * 100))
damaged("zeroed-cameras.h5", _CAMERAS, lambda content: content.__setitem__(slice(6000, 6512), b"\0" * 512))
damaged("unsealed-cameras.h5", _CAMERAS, lambda content: content.__setitem__(slice(0, 512), b"\0" * 512))
damaged("flipped-masks.h5", _MASKS, flip)
damaged("flipped-views.h5", "views.h5", flip)
damaged("cut-model.h5", "model.h5", lambda content: content.__delitem__(slice(60000, None)))
hdf5("no-pose.h5", _CAMERAS, without("cam_to_world"))
hdf5("group-for-pose.h5", _CAMERAS, as_group("cam_to_world"))
hdf5("pose-of-float32.h5", _CAMERAS, replaced("cam_to_world", lambda old: old[:].astype(np.float32)))
hdf5("pose-of-text.h5", _CAMERAS, replaced("cam_to_world", lambda old: np.full(old.shape, b"x")))
hdf5("pose-of-3x4.h5", _CAMERAS, replaced("cam_to_world", lambda old: old[:, :3]))
hdf5("fewer-poses.h5", _CAMERAS, replaced("cam_to_world", lambda old: old[:3]))
hdf5("nan-pose.h5", _CAMERAS, put("cam_to_world", (1, 0, 0), math.nan))
hdf5("infinite-pose.h5", _CAMERAS, put("cam_to_world", (1, 0, 3), math.inf))
hdf5("no-rotation.h5", _CAMERAS, put("cam_to_world", (1, 0, 0), 7.0))
hdf5("zero-focal.h5", _CAMERAS, put("intrinsics", (1, 0, 0), 0.0))
hdf5("negative-window.h5", _CAMERAS, put("window", (1, 2), -5.0))
hdf5("infinite-window.h5", _CAMERAS, put("window", (1, 2), math.inf))
hdf5("enormous-window.h5", _CAMERAS, put("window", (1, 2), 1e30))
hdf5("negative-size.h5", _CAMERAS, put("image_size", (1, 0), -24))
hdf5("image-twice.h5", _CAMERAS, put("image", 1, "000000.png"))
hdf5("image-outside.h5", _CAMERAS, put("image", 1, "../../../evil.png"))
hdf5("absolute-image.h5", _CAMERAS, put("image", 1, "/etc/passwd.png"))
hdf5("image-of-drive.h5", _CAMERAS, put("image", 1, "C:\\evil.png"))
hdf5("image-with-escape.h5", _CAMERAS, put("image", 1, "\x1b[31mred.png"))
hdf5("image-not-utf8.h5", _CAMERAS, put("image", 1, b"caf\xe9.png"))
hdf5("instance-outside.h5", _CAMERAS, put("instance", 1, "../../../evil"))
hdf5("unknown-status.h5", _CAMERAS, put("status", 1, "\x1b[31mfine"))
hdf5("outward-link.h5", _CAMERAS, linked("cam_to_world", h5py.ExternalLink("other.h5", "x")), digests=False)
hdf5("soft-link.h5", _CAMERAS, linked("cam_to_world", h5py.SoftLink("/intrinsics")), digests=False)
hdf5("link-to-nowhere.h5", _CAMERAS, linked("cam_to_world", h5py.SoftLink("/nowhere")), digests=False)
hdf5(
    "looping-groups.h5",
    _CAMERAS,
    lambda file: file.create_group("loop").__setitem__("again", file["/"]),
    digests=False,
)
hdf5("stored-outside.h5", _CAMERAS, stored_outside("cam_to_world"), digests=False)
hdf5("virtual-pose.h5", _CAMERAS, virtual("cam_to_world"), digests=False)
hdf5(
    "terabyte-of-poses.h5",
    _CAMERAS,
    declared("cam_to_world", (1 << 33, 4, 4), chunks=(1, 4, 4)),
    digests=False,
)
hdf5("many-attributes.h5", _CAMERAS, many_attributes)
hdf5("deep-groups.h5", _CAMERAS, deep_groups)
hdf5("parameters-not-json.h5", _CAMERAS, attribute("parameters", "{"))
hdf5("parameters-of-list.h5", _CAMERAS, attribute("parameters", "[]"))
hdf5("deep-parameters.h5", _CAMERAS, attribute("parameters", "[" * 50_000))
hdf5("long-number.h5", _CAMERAS, attribute("parameters", '{"a": ' + "9" * 400 + "}"))
hdf5("no-parameters.h5", _CAMERAS, without_attribute("parameters"))
hdf5("parameters-of-numbers.h5", _CAMERAS, attribute("parameters", np.arange(3)))
hdf5("inputs-of-numbers.h5", _CAMERAS, attribute("inputs", "[1]"))
hdf5("unknown-class.h5", _CAMERAS, attribute("class", "unicorn"))
hdf5("class-with-escape.h5", _CAMERAS, attribute("class", "\x1b]0;title\x07"))
hdf5("class-not-toml.h5", _CAMERAS, attribute("class_description", "= ="))
hdf5("newer-schema.h5", _CAMERAS, attribute("nerfgen_schema", "cameras/9"))
hdf5("schema-of-number.h5", _CAMERAS, attribute("nerfgen_schema", 7))
hdf5("escape-in-attribute.h5", _CAMERAS, attribute("parameters", '{"note": "\\u001b[31mred"}'))
hdf5("no-mask-array.h5", _MASKS, without("mask"))
hdf5(
    "gigabytes-of-masks.h5",
    _MASKS,
    declared("mask", (6, 200_000, 200_000), chunks=(1, 1000, 1000)),
    digests=False,
)
hdf5(
    "mask-in-one-chunk.h5",
    _MASKS,
    declared("mask", (6, 60_000, 60_000), chunks=(1, 60_000, 60_000), compression="gzip"),
    digests=False,
)
hdf5("nan-mask-window.h5", _MASKS, put("mask_window", (1, 0), math.nan))
hdf5("bad-landmark-names.h5", "mugs/landmarks.h5", put("landmark_names", 0, "tail"))
hdf5("infinite-landmarks.h5", "mugs/landmarks.h5", put("landmarks", (1, 0, 0), math.inf))
hdf5("nan-landmarks.h5", "mugs/landmarks.h5", put("landmarks", (1, 0, 0), math.nan))
hdf5("score-of-two.h5", "mugs/landmarks.h5", put("score", 1, 2.0))
hdf5("no-landmarks.h5", "mugs/landmarks.h5", without("landmarks"))
hdf5(
    "gigabytes-of-landmarks.h5",
    "mugs/landmarks.h5",
    declared("landmarks", (12, 100_000_000, 2), chunks=(1, 1000, 2)),
    digests=False,
)
hdf5("nan-latents.h5", "model.h5", put("latents", (1, 0), math.nan))
hdf5(
    "gigabytes-of-latents.h5",
    "model.h5",
    declared("latents", (5, 400_000_000), chunks=(1, 1000)),
    digests=False,
)
hdf5("nan-occupancy.h5", "model.h5", put("occupancy", (0, 0, 0), math.nan))
hdf5("negative-occupancy.h5", "model.h5", put("occupancy", (0, 0, 0), -1.0))
hdf5("no-field.h5", "model.h5", without("field"))
hdf5(
    "field-of-one-array.h5", "model.h5", lambda file: (file.__delitem__("field"), file.create_group("field"))
)
hdf5("preset-not-json.h5", "model.h5", attribute("preset", "{"))
hdf5("preset-of-unknown.h5", "model.h5", attribute("preset", '{"samplez": 3}'))
hdf5("nan-bounds.h5", "model.h5", attribute("bounds", np.array([1.0, math.nan, 1.0])))
hdf5("two-bounds.h5", "model.h5", attribute("bounds", np.array([1.0, 1.0])))
hdf5("huge-bounds.h5", "model.h5", attribute("bounds", np.array([1e30, 1.0, 1.0])))
hdf5("newer-model.h5", "model.h5", attribute("model_version", 99))
hdf5("model-of-cats.h5", "model.h5", attribute("class", "unicorn"))
hdf5("model-row-outside.h5", "model.h5", put("image", 0, "../../../evil.png"))
hdf5("negative-steps.h5", "model.h5", attribute("steps", -5))
hdf5("nan-weights.h5", "model.h5", lambda file: next(_arrays(file["field"])).__setitem__(..., math.nan))
hdf5("wide-weights.h5", "model.h5", lambda file: _widened(file["field"]))
hdf5("views-of-other-size.h5", "views.h5", replaced("latents", lambda old: old[:, :1]))
hdf5("nan-views.h5", "views.h5", put("latents", (0, 0), math.nan))
hdf5("no-views.h5", "views.h5", without("rgb"))
hdf5(
    "gigabytes-of-views.h5",
    "views.h5",
    declared("rgb", (2, 3, 60_000, 60_000, 3), chunks=(1, 1, 100, 100, 3)),
    digests=False,
)
hdf5("nan-direction.h5", "age.direction.h5", put("vector", 0, math.nan))
hdf5("long-direction.h5", "age.direction.h5", put("vector", slice(None), 0.9))
hdf5("direction-without-vector.h5", "age.direction.h5", without("vector"))
hdf5("direction-of-another.h5", "age.direction.h5", attribute("inputs", "[]"))
hdf5("person-of-another.h5", "anna.personal.h5", attribute("inputs", "[]"))
hdf5(
    "nan-person.h5", "anna.personal.h5", lambda file: next(_arrays(file["delta"])).__setitem__(..., math.nan)
)
hdf5("person-without-status.h5", "anna.personal.h5", without("status"))
hdf5("person-without-photographs.h5", "anna.personal.h5", without("photographs"))
text("labels-without-header.csv", "a.png,1\nb.png,2\n")
text("labels-of-strangers.csv", "image,value\nstranger.png,1\n")
text("labels-of-three.csv", "image,value\n000000.png,red\n000001.png,green\n000002.png,blue\n")
hdf5("truth-without-depth.h5", "cars/truth.h5", without("depth"))
hdf5("nan-truth.h5", "cars/truth.h5", put("depth", (0, 0, 0), math.nan))
damaged("flipped-truth.h5", "cars/truth.h5", flip)
damaged("flipped-landmarks.h5", "mugs/landmarks.h5", flip)
# Of files that take long to make.
damaged("flipped-report.h5", "report.h5", flip)
hdf5("report-with-markup.h5", "report.h5", attribute("name", "<script>alert(1)</script>"))
hdf5("report-of-text.h5", "report.h5", replaced("mean", lambda old: np.full(old.shape, b"x")))
hdf5(
    "pictures-of-text.h5",
    "report.h5",
    lambda file: as_text(next(_arrays(file["pictures"]))),
)
damaged("flipped-study.h5", "study.h5", flip)
damaged("flipped-estimator.h5", "mug.h5", flip)
hdf5("estimator-without-weights.h5", "mug.h5", without("weights"))
hdf5("estimator-of-nan.h5", "mug.h5", lambda file: next(_arrays(file["weights"])).__setitem__(..., math.nan))
hdf5("threshold-of-nan.h5", "mug.h5", replaced("threshold", lambda old: math.nan))


SLOW_INPUTS.update(("png-bomb", "broken-cache", "broken-checkpoint", "broken-shard", "checkpoint-of-nan"))


def _arrays(group: h5py.Group) -> Iterator[h5py.Dataset]:
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from _arrays(item)
        else:
            yield item


def _widened(group: h5py.Group) -> None:
    array = next(_arrays(group))
    name, content = array.name, array[()]
    parent = array.parent
    del parent.file[name]
    parent.file.create_dataset(name, data=np.concatenate([content, content], axis=-1))


@bad_input("broken-checkpoint")
def _(path: Path, good: Path) -> None:
    copied(good / "unfinished", path)
    (checkpoint,) = path.glob("*.h5")
    content = bytearray(checkpoint.read_bytes())
    flip(content)
    checkpoint.write_bytes(content)


@bad_input("checkpoint-of-nan")
def _(path: Path, good: Path) -> None:
    copied(good / "unfinished", path)
    (checkpoint,) = path.glob("*.h5")
    with h5py.File(checkpoint, "r+") as file:
        next(_arrays(file["state"]))[...] = 0
        file.attrs["seconds"] = math.nan
    renew(checkpoint)


@bad_input("broken-cache")
def _(path: Path, good: Path) -> None:
    copied(good / "photos", path)
    content = bytearray((path / "pixels.h5").read_bytes())
    flip(content)
    (path / "pixels.h5").write_bytes(content)


@bad_input("broken-shard")
def _(path: Path, good: Path) -> None:
    copied(good / "people", path)
    shard = path / "shard-00000" / "identities.h5"
    content = bytearray(shard.read_bytes())
    flip(content)
    shard.write_bytes(content)


@bad_input("masks-of-others")
def _(path: Path, good: Path) -> None:
    """Other images of the same names as those that the masks are of."""
    copied(good / "photos", path)
    for name in ("000000.png", "000001.png", "000002.png", "000003.png", "000004.png", "000005.png"):
        photo().save(path / name)


# --- importers of cameras --------------------------------------------------------------------------------


def scene(name: str, change: Callable[[dict[str, Any]], object] | None = None, content: str = "") -> None:
    """A folder with images and a transforms.json, changed or replaced."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        path.mkdir()
        for number in range(6):
            shutil.copyfile(good / "photos" / f"{number:06d}.png", path / f"{number:06d}.png")
        values = json.loads((good / "photos" / "transforms.json").read_text())
        if change:
            change(values)
        (path / "transforms.json").write_text(content or json.dumps(values))


def frame(key: str, value: Any, number: int = 1) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        if value is None:
            del values["frames"][number][key]
        else:
            values["frames"][number][key] = value

    return change


def every(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for each in values["frames"]:
            each[key] = value(each) if callable(value) else value

    return change


scene("scene-not-json", content="{")
scene("scene-with-comma", content='{"frames": [\n {"file_path": "000000.png",}\n]}')
scene("scene-deep", content="[" * 100_000)
scene("scene-of-list", content="[]")
scene("scene-without-frames", lambda values: values.pop("frames"))
scene("scene-of-no-frames", lambda values: values["frames"].clear())
scene("scene-frames-of-text", lambda values: values.update(frames="none"))
scene("scene-frame-of-number", lambda values: values["frames"].append(5))
scene("scene-long-number", content='{"frames": [{"file_path": "000000.png", "fl_x": ' + "9" * 400 + "}]}")
scene("scene-nan-pose", frame("transform_matrix", [[math.nan] * 4] * 4))
scene(
    "scene-no-rotation", frame("transform_matrix", [[9, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]])
)
scene("scene-short-pose", frame("transform_matrix", [1, 2, 3]))
scene("scene-no-pose", frame("transform_matrix", None))
scene("scene-text-pose", frame("transform_matrix", "none"))
scene("scene-zero-focal", frame("fl_x", 0))
scene("scene-text-focal", frame("fl_x", "wide"))
scene("scene-null-focal", every("fl_y", lambda each: None))
scene("scene-infinite-focal", frame("fl_x", math.inf))
scene("scene-outside", frame("file_path", "../../../etc/passwd.png"))
scene("scene-absolute", frame("file_path", "/etc/passwd.png"))
scene("scene-drive", frame("file_path", "C:\\photos\\a.png"))
scene("scene-escape", frame("file_path", "a\x1b[31m.png"))
scene("scene-nul", frame("file_path", "a\0.png"))
scene("scene-surrogate", frame("file_path", "a\udcff.png"))
scene("scene-instance-outside", frame("instance", "../../evil"))
scene("scene-number-for-name", frame("file_path", 7))
scene("scene-mask-outside", frame("mask_path", "../secret.png"))
scene("scene-missing-mask", frame("mask_path", "missing.png"))
scene("scene-missing-image", frame("file_path", "missing.png"))
scene("scene-all-missing", every("file_path", lambda each: "x" + each["file_path"]))
scene("scene-image-twice", frame("file_path", "000000.png"))
scene("scene-wrong-shape", every("w", 48))
scene("scene-fisheye", lambda values: values.update(camera_model="OPENCV_FISHEYE"))
scene("scene-distorted", every("k1", 0.2))
scene("scene-no-distortion", every("k1", 1e-9))
scene("scene-not-utf8", content="")
INPUTS["scene-not-utf8"] = lambda path, good: (
    path.mkdir(),
    void((path / "transforms.json").write_bytes(b'{"frames": "\xff"}')),
)[1]


def labels(name: str, change: Callable[[Any], Any]) -> None:
    """A folder with images and a dataset.json."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        copied(good / "ffhq", path)
        file = path / "dataset.json"
        changed = change(json.loads(file.read_text()))
        file.write_text(changed if isinstance(changed, str) else json.dumps(changed))


def label(number: int, change: Callable[[list[Any]], object]) -> Callable[[Any], Any]:
    def changed(values: Any) -> Any:
        change(values["labels"][number])
        return values

    return changed


labels("labels-not-json", lambda values: "{")
labels("labels-null", lambda values: {"labels": None})
labels("labels-of-numbers", lambda values: {"labels": [1, 2]})
labels("labels-empty", lambda values: {"labels": []})
labels("label-null", label(1, lambda one: one.__setitem__(1, None)))
labels("label-short", label(1, lambda one: one[1].pop()))
labels("label-of-text", label(1, lambda one: one[1].__setitem__(0, "x")))
labels("label-nan", label(1, lambda one: one[1].__setitem__(0, math.nan)))
labels("label-outside", label(1, lambda one: one.__setitem__(0, "../../evil.png")))
labels("label-absolute", label(1, lambda one: one.__setitem__(0, "/etc/passwd.png")))
labels("label-twice", label(1, lambda one: one.__setitem__(0, "000000.png")))
labels("label-missing", label(1, lambda one: one.__setitem__(0, "missing.png")))
text("not-a.zip", "text")


def archive(name: str, fill: Callable[[zipfile.ZipFile, Path], object]) -> None:
    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
            fill(content, good)


def members(content: zipfile.ZipFile, good: Path, prefix: str = "") -> None:
    for member in sorted((good / "ffhq").iterdir()):
        content.write(member, prefix + member.name)


def bomb(content: zipfile.ZipFile, good: Path) -> None:
    """A member that claims, and unpacks to, more than its few kilobytes."""
    members(content, good)
    content.writestr("bomb.png", b"\0" * (30 << 20))
    content.getinfo("bomb.png").file_size = 3 << 30


archive("empty.zip", lambda content, good: None)
archive("wrapped.zip", lambda content, good: members(content, good, "ffhq/"))
archive("outside.zip", lambda content, good: (members(content, good), content.writestr("../evil.png", b"x")))
archive(
    "absolute.zip", lambda content, good: (members(content, good), content.writestr("/tmp/evil.png", b"x"))
)
archive("bomb.zip", bomb)
damaged("cut.zip", "ffhq.zip", lambda content: content.__delitem__(slice(len(content) // 2, None)))


def srn(name: str, file: str, content: str | None) -> None:
    """A folder of SRN objects with one file of the first object changed, or removed."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        copied(good / "srn", path)
        (target,) = (path / "000000.png").glob(file)
        if content is None:
            target.unlink()
        else:
            target.write_text(content)


srn("srn-short-pose", "pose/*.txt", "1 0 0 0")
srn("srn-text-pose", "pose/*.txt", "none")
srn("srn-nan-pose", "pose/*.txt", "nan " * 16)
srn("srn-empty-pose", "pose/*.txt", "")
srn("srn-missing-pose", "pose/*.txt", None)
srn("srn-text-intrinsics", "intrinsics.txt", "wide")
srn("srn-zero-focal", "intrinsics.txt", "0 12 12 0.\n0. 0. 0.\n1.\n24 24\n")
srn("srn-missing-intrinsics", "intrinsics.txt", None)
srn("srn-missing-image", "rgb/*.png", None)
srn("srn-broken-image", "rgb/*.png", "none")


# --- importers of landmarks, and classes -----------------------------------------------------------------


def mugs(path: Path, good: Path) -> None:
    """Images of mugs with mugs.csv and mug.toml, without landmarks.h5."""
    copied(good / "mugs", path)
    (path / "landmarks.h5").unlink(missing_ok=True)


def table(name: str, change: Callable[[list[str]], str | bytes]) -> None:
    """A folder of mugs whose table of landmarks is changed, a line an item."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        mugs(path, good)
        file = path / "mugs.csv"
        content = change(file.read_text().splitlines())
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def field(line: int, column: int, value: str) -> Callable[[list[str]], str]:
    def change(lines: list[str]) -> str:
        fields = lines[line].split(",")
        fields[column] = value
        lines[line] = ",".join(fields)
        return "\n".join(lines)

    return change


table("table-empty", lambda lines: "")
table("table-header-only", lambda lines: lines[0])
table("table-without-header", lambda lines: "\n".join(lines[1:]))
table("table-of-text", field(2, 1, "left"))
table("table-infinite", field(2, 1, "inf"))
table("table-ragged", lambda lines: "\n".join([*lines[:3], "a.png,1,2"]))
table("table-outside", field(2, 0, "../../evil.png"))
table("table-absolute", field(2, 0, "/etc/passwd.png"))
table("table-with-nul", field(2, 0, "a\0.png"))
table("table-with-escape", field(2, 0, "\x1b[31mred.png"))
table("table-not-utf8", lambda lines: b"\xff\xfe" + "\n".join(lines).encode())
table("table-image-missing", field(2, 0, "missing.png"))
table("table-all-missing", lambda lines: "\n".join([lines[0], *("x" + line for line in lines[1:])]))
table("table-points-outside", field(2, 1, "1e9"))
table("table-empty-field", field(2, 1, ""))
table("table-quoted-newline", lambda lines: "\n".join([*lines, '"a']))
table("table-wide-field", lambda lines: "\n".join([*lines[:2], "x" * 200_000 + lines[2]]))
table("table-image-twice", field(2, 0, "0.png"))
table("table-unknown-landmark", lambda lines: "\n".join([lines[0].replace("handle", "spout"), *lines[1:]]))
table("table-with-bom", lambda lines: "\ufeff" + "\n".join(lines))


def coco(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """A folder of mugs with COCO keypoints in place of the table."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        mugs(path, good)
        lines = (path / "mugs.csv").read_text().splitlines()
        names = [column[:-2] for column in lines[0].split(",")[1::2]]
        content: dict[str, Any] = {
            "images": [{"id": n, "file_name": f"{n}.png", "width": 48, "height": 48} for n in range(12)],
            "categories": [{"id": 1, "name": "mug", "keypoints": names}],
            "annotations": [
                {
                    "id": n,
                    "image_id": n,
                    "category_id": 1,
                    "keypoints": [
                        value
                        for x, y in zip(line.split(",")[1::2], line.split(",")[2::2], strict=True)
                        for value in (float(x), float(y), 2)
                    ],
                }
                for n, line in enumerate(lines[1:])
            ],
        }
        (path / "mugs.csv").unlink()
        changed = change(content)
        (path / "mugs.json").write_text(
            changed if isinstance(changed, str) else json.dumps(content if changed is None else changed)
        )


coco("coco-not-json", lambda content: '{"images": [],\n "annotations": [}')
coco("coco-deep", lambda content: '{"images": ' + "[" * 100_000)
coco("coco-of-list", lambda content: [1, 2])
coco("coco-images-of-text", lambda content: content.update(images="none"))
coco("coco-annotations-null", lambda content: content.update(annotations=None))
coco("coco-no-annotations", lambda content: content.update(annotations=[]))
coco("coco-orphan", lambda content: content["annotations"][1].update(image_id=99))
coco("coco-list-as-id", lambda content: content["images"][1].update(id=[1]))
coco("coco-number-as-name", lambda content: content["images"][1].update(file_name=7))
coco("coco-name-outside", lambda content: content["images"][1].update(file_name="../../evil.png"))
coco("coco-short-keypoints", lambda content: content["annotations"][1]["keypoints"].pop())
coco("coco-keypoints-of-text", lambda content: content["annotations"][1].update(keypoints="many"))
coco("coco-keypoints-number", lambda content: content["annotations"][1].update(keypoints=5))
coco(
    "coco-infinite-keypoint", lambda content: content["annotations"][1]["keypoints"].__setitem__(0, math.inf)
)
coco("coco-box-of-text", lambda content: content["annotations"][1].update(bbox=["a", "b", "c", "d"]))
coco("coco-names-of-numbers", lambda content: content["categories"][0].update(keypoints=[1, 2, 3, 4, 5, 6]))
coco(
    "coco-other-size",
    lambda content: [each.update(width=480, height=360) for each in content["images"]] and None,
)


def celeba(name: str, lines: list[str]) -> None:
    """A folder of mugs with a list of CelebA's form."""

    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        mugs(path, good)
        (path / "mugs.csv").unlink()
        (path / "list.txt").write_text("\n".join(lines) + "\n")


_CELEBA = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
_FACE = "16 16 32 16 24 24 18 34 30 34"
celeba("celeba-ragged", ["2", _CELEBA, f"0.png {_FACE}", "1.png 16 16 32"])
celeba("celeba-of-text", ["2", _CELEBA, f"0.png {_FACE}", "1.png a b c d e f g h i j"])
celeba("celeba-infinite", ["2", _CELEBA, f"0.png {_FACE}", "1.png inf 16 32 16 24 24 18 34 30 34"])
celeba("celeba-empty", ["0", _CELEBA])
celeba("celeba-outside", ["2", _CELEBA, f"0.png {_FACE}", f"../../evil.png {_FACE}"])


@bad_input("cat-short")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    (path / "0.png.cat").write_text("9 1 2 3")


@bad_input("cat-of-text")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    (path / "0.png.cat").write_text("nine")


@bad_input("ffhq-of-numbers")
def _(path: Path, good: Path) -> None:
    mugs(path, good)
    (path / "ffhq.json").write_text('{"0": {"image": 5, "in_the_wild": {}}}')


def described(name: str, content: str | bytes) -> None:
    text(name, content)


described("not-toml.toml", "name = \n")
described("empty.toml", "")
described("no-name.toml", MUG.replace('name = "mug"\n', ""))
described("name-with-slash.toml", MUG.replace('"mug"', '"../mug"'))
described("name-of-face.toml", MUG.replace('"mug"', '"face"'))
described("name-with-escape.toml", MUG.replace('"mug"', '"\\u001b[31mmug"'))
described("unknown-key.toml", MUG + "colour = 3\n")
described("landmark-twice.toml", MUG.replace('"rim_right"', '"rim_left"', 1))
described("landmarks-of-numbers.toml", 'name = "mug"\nlandmarks = [1, 2]\n')
described("unknown-symmetry.toml", MUG.replace('symmetry = [["rim_left"', 'symmetry = [["spout"'))
described("nan-bounds.toml", MUG + "bounds = [nan, 1.0, 1.0]\n")
described("negative-reach.toml", MUG + "reach = -1.0\n")
described("infinite-focal.toml", MUG + "focal = inf\n")
described("huge-focal.toml", MUG + "focal = 1e300\n")
described("not-utf8.toml", b'name = "\xff"\n')
described("deep.json", '{"name": ' + "[" * 100_000)
described("comma.json", '{"name": "mug",\n}')
described("list.json", "[]")
described("mug.yaml", "name: mug\n")


@bad_input("pipe.toml")
def _(path: Path, good: Path) -> None:
    os.mkfifo(path)


@bad_input("folder.toml")
def _(path: Path, good: Path) -> None:
    path.mkdir()


# --- camera paths, meshes, other files -------------------------------------------------------------------


def camera_path(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    @bad_input(name)
    def build(path: Path, good: Path) -> None:
        content = json.loads((good / "path.json").read_text())
        changed = change(content)
        path.write_text(changed if isinstance(changed, str) else json.dumps(content))


def camera(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["camera_path"][0][key] = value

    return change


camera_path("path-not-json.json", lambda content: "{")
camera_path("path-deep.json", lambda content: "[" * 100_000)
camera_path("path-empty.json", lambda content: content["camera_path"].clear())
camera_path("path-of-list.json", lambda content: "[]")
camera_path("path-of-numbers.json", lambda content: content.update(camera_path=[1, 2]))
camera_path("path-nan.json", camera("camera_to_world", [math.nan] * 16))
camera_path("path-short.json", camera("camera_to_world", [1.0] * 5))
camera_path("path-ragged.json", camera("camera_to_world", [[1.0], [1.0, 2.0]]))
camera_path("path-no-rotation.json", camera("camera_to_world", [2.0 * (i % 5 == 0) for i in range(16)]))
camera_path("path-fov-zero.json", camera("fov", 0))
camera_path("path-fov-180.json", camera("fov", 180))
camera_path("path-fov-text.json", camera("fov", "wide"))
camera_path("path-fov-long.json", camera("fov", 10**400))
camera_path("path-fps-infinite.json", lambda content: content.update(fps=math.inf))
camera_path("path-fps-tiny.json", lambda content: content.update(fps=1e-300))
camera_path("path-panorama.json", lambda content: content.update(camera_type="equirectangular"))
camera_path(
    "path-far.json", camera("camera_to_world", [1.0, 0, 0, 1e200, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
)
damaged("cut.glb", "mesh.glb", lambda content: content.__delitem__(slice(100, None)))
damaged("huge-chunk.glb", "mesh.glb", lambda content: content.__setitem__(slice(12, 16), b"\xff\xff\xff\x7f"))
text("text.glb", "text")
text("empty.glb", "")
text("foreign.ply", "ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
text("foreign.obj", "v 0 0 0\n")


@bad_input("pipe.glb")
def _(path: Path, good: Path) -> None:
    os.mkfifo(path)


def listing(name: str, content: str) -> None:
    text(name, content)


listing("pairs-without-header.csv", "a.png,b.png\n")
listing("pairs-outside.csv", "source,target\n../a.png,b.png\n")
text("not-a.tflite", "text")
text("cut.tflite", b"\x1c\0\0\0TFL3" + b"\xff" * 64)
