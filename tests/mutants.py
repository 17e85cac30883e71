"""Mutants of nerfgen's HDF5 files, read by everything that reads such files, each in a process that may die of it.

Two kinds: damage, which changes the bytes of a file and leaves its seal, so that it has to be noticed; and forgeries,
which change what the file holds and seal it again, so that they have to be harmless. A finding is a crash, a reading of
more than :data:`SECONDS` or :data:`MEMORY`, an error that is none of nerfgen's, a file that is left behind, and a
reading of damage that gives other values than the original's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from good_files import FILES

from nerfgen import storage
from nerfgen.storage.seal import SEAL_SIZE, write_seal

SECONDS, MEMORY = 10.0, 2 << 30
_LIMIT = 6 << 30
# A busy machine gives a process this fraction of the time of day at least.
_PATIENCE = 10

# --- mutants ---------------------------------------------------------------------------------------------------------

Damage = Callable[[bytearray, random.Random], None]
Forgery = Callable[[h5py.File, random.Random], None]


def _flip_bit(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _change_bytes(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 16)):
        content[chance.randrange(len(content))] = chance.randrange(256)


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def _extend(content: bytearray, chance: random.Random) -> None:
    content.extend(chance.randbytes(chance.randint(1, 2000)))


def _zero_block(content: bytearray, chance: random.Random) -> None:
    start, size = chance.randrange(len(content)), chance.choice((8, 64, 512, 4096))
    content[start : start + size] = bytes(len(content[start : start + size]))


def _swap_blocks(content: bytearray, chance: random.Random) -> None:
    size = chance.choice((8, 64, 512))
    first, second = (chance.randrange(max(1, len(content) - size)) for _ in range(2))
    content[first : first + size], content[second : second + size] = (
        content[second : second + size],
        content[first : first + size],
    )


def _repeat_block(content: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 8, 512))
    start = chance.randrange(max(1, len(content) - size))
    content[start:start] = content[start : start + size]


DAMAGE: tuple[Damage, ...] = (
    _flip_bit,
    _change_bytes,
    _cut,
    _extend,
    _zero_block,
    _swap_blocks,
    _repeat_block,
)
_NAMES = (
    "../../evil",
    "/etc/passwd",
    "a\\b",
    "C:\\a",
    "\x1b[31mred",
    "a\nb",
    "",
    "x" * 5000,
    "caf\xe9",
    "a/./b",
    "..",
)
_NUMBERS = (
    0,
    -1,
    1,
    math_nan := float("nan"),
    float("inf"),
    -float("inf"),
    1e300,
    2**31 - 1,
    -(2**31),
    1e-300,
)
_TEXTS = (
    "",
    "{",
    "null",
    "[]",
    "{}",
    "[" * 20_000,
    "9" * 400,
    '{"a": NaN}',
    '{"a": 1e999}',
    "\ud7ff",
    "\x1b]0;x\x07",
    "nan",
    "\x7f" * 3,
)


def _arrays(group: h5py.Group) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    group.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _array(file: h5py.File, chance: random.Random) -> h5py.Dataset:
    return chance.choice(_arrays(file))


def _number_in_array(file: h5py.File, chance: random.Random) -> None:
    arrays = [each for each in _arrays(file) if each.dtype.kind in "iuf" and each.size]
    array = chance.choice(arrays)
    value = chance.choice(_NUMBERS)
    if array.dtype.kind in "iu":
        bounds = np.iinfo(array.dtype)
        value = chance.choice((0, 1, bounds.min, bounds.max, bounds.max // 2))
    place = tuple(chance.randrange(size) for size in array.shape) if chance.random() < 0.8 else ...
    with np.errstate(all="ignore"):
        array[place] = value


def _text_in_array(file: h5py.File, chance: random.Random) -> None:
    arrays = [each for each in _arrays(file) if h5py.check_string_dtype(each.dtype) and each.size]
    if not arrays:
        return _number_in_array(file, chance)
    array = chance.choice(arrays)
    place = tuple(chance.randrange(size) for size in array.shape)
    value: Any = chance.choice((*_NAMES, *_TEXTS))
    if chance.random() < 0.2:
        value = b"\xff\xfe" + chance.randbytes(3)
    array[place] = value
    return None


def _replace(array: h5py.Dataset, **options: Any) -> None:
    file, name = array.file, array.name
    del file[name]
    file.create_dataset(name, **options)


def _other_kind(file: h5py.File, chance: random.Random) -> None:
    array = _array(file, chance)
    kind = chance.choice(
        ("uint8", "int32", "int64", "float16", "float32", "float64", "S5", "bool", "complex64")
    )
    _replace(array, shape=array.shape, dtype=kind)


def _compound(file: h5py.File, chance: random.Random) -> None:
    array = _array(file, chance)
    kind = chance.choice(
        (
            np.dtype([("a", "f4"), ("b", "i8")]),
            h5py.enum_dtype({"a": 1}),
            h5py.vlen_dtype(np.float32),
            h5py.ref_dtype,
            h5py.opaque_dtype(np.dtype("V8")),
            np.dtype(("f4", (2,))),
        )
    )
    _replace(array, shape=array.shape, dtype=kind)


def _other_shape(file: h5py.File, chance: random.Random) -> None:
    array = _array(file, chance)
    shape = list(array.shape)
    change = chance.randrange(5)
    if change == 0 or not shape:
        shape.append(chance.choice((0, 1, 3)))
    elif change == 1:
        shape.pop(chance.randrange(len(shape)))
    elif change == 2:
        shape[chance.randrange(len(shape))] = 0
    else:
        place = chance.randrange(len(shape))
        shape[place] = max(0, shape[place] + chance.choice((-1, 1, 7)))
    _replace(array, shape=tuple(shape), dtype=array.dtype)


def _huge_shape(file: h5py.File, chance: random.Random) -> None:
    """Terabytes that are nowhere stored."""
    array = _array(file, chance)
    shape = list(array.shape) or [1]
    shape[chance.randrange(len(shape))] = chance.choice((10**7, 10**9, 2**40, 2**62))
    chunks = tuple(min(size, chance.choice((1, 64, 1024))) or 1 for size in shape)
    options = {"compression": "gzip"} if chance.random() < 0.5 and array.dtype.kind != "O" else {}
    with contextlib.suppress(ValueError):
        _replace(array, shape=tuple(shape), dtype=array.dtype, chunks=chunks, **options)


def _bomb(file: h5py.File, chance: random.Random) -> None:
    """A stored chunk of some kilobytes that unpacks to hundreds of megabytes."""
    array = _array(file, chance)
    if not array.shape or array.dtype.kind == "O":
        return _huge_shape(file, chance)
    kind, rows = array.dtype, 1 << 22
    shape = (rows, *array.shape[1:])
    with contextlib.suppress(ValueError):
        _replace(
            array,
            shape=shape,
            dtype=kind,
            chunks=(min(rows, 1 << 20), *(1,) * (len(shape) - 1)),
            compression="gzip",
        )
        file[array.name][0] = 1
    return None


def _group_for_array(file: h5py.File, chance: random.Random) -> None:
    name = _array(file, chance).name
    del file[name]
    file.create_group(name)


def _array_for_group(file: h5py.File, chance: random.Random) -> None:
    groups: list[str] = []
    file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
    name = chance.choice(groups) if groups else "pictures"
    if name in file:
        del file[name]
    file[name] = np.arange(3)


def _remove(file: h5py.File, chance: random.Random) -> None:
    del file[_array(file, chance).name]


def _add(file: h5py.File, chance: random.Random) -> None:
    name = chance.choice((*_NAMES[2:], "extra", "0", "a/b/c")) or "empty"
    with contextlib.suppress(ValueError):
        file.require_group("state" if chance.random() < 0.2 else "/").create_dataset(name, data=np.arange(4))


def _rename(file: h5py.File, chance: random.Random) -> None:
    name = _array(file, chance).name
    with contextlib.suppress(ValueError, RuntimeError):
        file.move(name, name + chance.choice(("", "x", "/x", "\x1b[31m", "é")) + "y")


def _link(file: h5py.File, chance: random.Random) -> None:
    array = _array(file, chance)
    name = array.name
    target: Any = chance.choice(
        (
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink(name),
            h5py.SoftLink("/"),
            h5py.ExternalLink("other.h5", "/x"),
            h5py.ExternalLink("/etc/passwd", "/x"),
            h5py.ExternalLink("", name),
            file["/"],
            _array(file, chance),
        )
    )
    del file[name]
    with contextlib.suppress(Exception):
        file[name] = target


def _stored_elsewhere(file: h5py.File, chance: random.Random) -> None:
    array = _array(file, chance)
    shape, kind = array.shape, array.dtype
    if not shape or kind.kind == "O":
        return _link(file, chance)
    if chance.random() < 0.5:
        path = chance.choice(("/etc/passwd", "/dev/zero", "elsewhere"))
        _replace(array, shape=shape, dtype=kind, external=[(path, 0, h5py.h5f.UNLIMITED)])
        return None
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(
        chance.choice((".", "other.h5", "/etc/passwd")), chance.choice(("x", array.name)), shape
    )
    name = array.name
    del file[name]
    file.create_virtual_dataset(name, layout)
    return None


def _holder(file: h5py.File, chance: random.Random) -> Any:
    return file if chance.random() < 0.7 else _array(file, chance)


def _attribute(file: h5py.File, chance: random.Random) -> None:
    holder = _holder(file, chance)
    names = [name for name in holder.attrs if chance.random() < 0.9 or name != "nerfgen_schema"] or ["x"]
    name = chance.choice(names)
    value: Any = chance.choice(
        (
            *_NUMBERS,
            *_TEXTS,
            *_NAMES,
            np.arange(3),
            np.full(3, math_nan),
            np.array([1e300, 1.0, -1.0]),
            np.zeros((0,)),
            np.array(["a", "b"], object),
            b"\xff\xfe",
            h5py.Empty("f4"),
            True,
            "x" * 60_000,
        )
    )
    with contextlib.suppress(ValueError, OSError, TypeError):
        if isinstance(value, int | float) and chance.random() < 0.3:
            value = str(value)
        holder.attrs[name] = value


def _json_attribute(file: h5py.File, chance: random.Random) -> None:
    """Well-formed JSON with other content than expected."""
    names = [name for name, value in file.attrs.items() if isinstance(value, str) and value[:1] in ("{", "[")]
    if not names:
        return _attribute(file, chance)
    name = chance.choice(names)
    content = json.loads(file.attrs[name])
    value: Any = chance.choice(
        (None, 0, -1, "x", [], {}, [1], math_nan, 1e300, True, 10**30, "../../evil", 1e-300, 10**9)
    )
    if isinstance(content, dict) and content:
        key = chance.choice(list(content))
        if chance.random() < 0.2:
            del content[key]
        elif chance.random() < 0.1:
            content["unknown"] = value
        else:
            content[key] = value
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        content[0][chance.choice(list(content[0]))] = value
    elif isinstance(content, list) and content:
        content[chance.randrange(len(content))] = value
    else:
        content = [value]
    file.attrs[name] = json.dumps(content)
    return None


def _no_attribute(file: h5py.File, chance: random.Random) -> None:
    holder = _holder(file, chance)
    if names := list(holder.attrs):
        del holder.attrs[chance.choice(names)]


def _many_attributes(file: h5py.File, chance: random.Random) -> None:
    for number in range(chance.choice((500, 3000))):
        file.attrs[f"a{number}"] = number


def _deep(file: h5py.File, chance: random.Random) -> None:
    group = file
    for _ in range(chance.choice((40, 400))):
        group = group.create_group("g")


def _wide(file: h5py.File, chance: random.Random) -> None:
    group = file.require_group("many")
    for number in range(2000):
        group.create_group(str(number))


FORGERIES: tuple[Forgery, ...] = (
    _number_in_array,
    _text_in_array,
    _other_kind,
    _compound,
    _other_shape,
    _huge_shape,
    _bomb,
    _group_for_array,
    _array_for_group,
    _remove,
    _add,
    _rename,
    _link,
    _stored_elsewhere,
    _attribute,
    _json_attribute,
    _no_attribute,
    _many_attributes,
    _deep,
    _wide,
)
# How often each is drawn: those with many outcomes more often.
_WEIGHTS = (6, 3, 2, 1, 3, 2, 1, 1, 1, 1, 1, 1, 2, 2, 4, 6, 1, 0.2, 0.2, 0.2)


@dataclass(frozen=True)
class Mutant:
    """A mutant of a file, reproducible from its seed."""

    schema: str
    seed: int

    def write(self, original: Path, path: Path) -> tuple[str, bool]:
        """Write it; its kind, and whether it is damage that has to be noticed."""
        chance = random.Random(f"{self.schema} {self.seed}")
        drawn = chance.random()
        if drawn < 0.5:  # bytes; half of them sealed again, as by an author of hostile files
            change = chance.choice(DAMAGE)
            content = bytearray(original.read_bytes())
            sealed = bytes(content[:SEAL_SIZE]) if drawn < 0.25 else b""
            if sealed:
                content = content[SEAL_SIZE:]
            change(content, chance)
            path.write_bytes(sealed + content)
            if sealed:
                write_seal(path)
            return change.__name__ + (" (sealed)" if sealed else ""), not sealed
        shutil.copyfile(original, path)
        changes = chance.choices(FORGERIES, _WEIGHTS, k=chance.choice((1, 1, 1, 2, 3)))
        with h5py.File(path, "r+", locking=False) as file:
            for change in changes:
                with contextlib.suppress(Exception):  # what an earlier change made impossible
                    change(file, chance)
        write_seal(path)
        return " ".join(change.__name__ for change in changes), False


# --- readers ---------------------------------------------------------------------------------------------------------

# A command line, with places for the file, the folder of good files and a new folder; or a function of these.
Reader = str | Callable[[Path, Path, Path], object]


def _framed(data: Path, cameras: Path, masks: Path) -> object:
    from nerfgen.data import framing

    listing = framing.list_images(data, cameras, masks)
    with framing.open_framer(listing, 12) as frame:
        rasters = [frame(row) for row in listing.rows]
    return listing.images, listing.status, listing.table, rasters


def _cameras_framed(file: Path, good: Path, out: Path) -> object:
    return _framed(good / "photos", file, good / "photos/masks.h5")


def _masks_framed(file: Path, good: Path, out: Path) -> object:
    return _framed(good / "photos", good / "photos/cameras.h5", file)


def _truth_framed(file: Path, good: Path, out: Path) -> object:
    return _framed(good / "cars", file, file)


def _mask_pictures(file: Path, good: Path, out: Path) -> None:
    from nerfgen.mask import mask_figure, write_png_masks

    mask_figure(good / "photos", file, out / "masks.png")
    write_png_masks(file, out / "png", workers=1)


def _camera_picture(file: Path, good: Path, out: Path) -> None:
    from nerfgen.landmark import landmark_figure

    landmark_figure(good / "mugs", file, out / "landmarks.png")


def _model(file: Path, good: Path, out: Path) -> object:
    from nerfgen.model import load_model

    return vars(load_model(file))


def _stored_objects(file: Path, good: Path, out: Path) -> object:
    from nerfgen.model import load_model, stored_objects

    model = good / "model.h5"
    return vars(stored_objects(load_model(model), storage.file_digest(model)[1], file))


def _direction(file: Path, good: Path, out: Path) -> object:
    from nerfgen.model import load_direction

    return vars(load_direction(file, storage.file_digest(good / "model.h5")[1]))


def _views_figures(file: Path, good: Path, out: Path) -> None:
    from nerfgen.render import figures

    with storage.reading(file, "views/1") as opened:
        figures.save_pngs(opened, out / "png", ("rgb", "depth", "normals", "opacity", "rgba"))
        figures.views_sheet(opened, ("rgb",), [])


def _checkpoint(file: Path, good: Path, out: Path) -> object:
    from nerfgen.optimize import load_checkpoint

    with h5py.File(good / FILES["checkpoint/1"]) as opened:
        like = storage.get_tree(opened["state"])
        attributes = dict(opened.attrs)
    stage = storage.Stage(
        file,
        "checkpoint/1",
        attributes["class"],
        json.loads(attributes["parameters"]),
        json.loads(attributes["inputs"]),
    )
    return load_checkpoint(file, stage, like)


def _pixels(file: Path, good: Path, out: Path) -> object:
    with storage.reading(file, "pixels/1") as opened:
        return {name: opened[name][:] for name in ("pixels", "order", "inside", "valid")}


def _landmarker(file: Path, good: Path, out: Path) -> object:
    from nerfgen.landmark.estimator_file import load_estimator

    return vars(load_estimator(file))


def _report(file: Path, good: Path, out: Path) -> object:
    from nerfgen.report import load_report

    report = load_report(file)
    report.as_dict()
    return vars(report)


def _study(file: Path, good: Path, out: Path) -> object:
    from nerfgen.report import load_study

    study = load_study(file)
    return study.as_dict(), study.metrics()


def _identities(file: Path, good: Path, out: Path) -> object:
    from nerfgen.dataset.stage import _nearness

    return _nearness([file], 0.5)


READERS: dict[str, tuple[Reader, ...]] = {
    "landmarks/1": (
        "info {file}",
        "fit-cameras {good}/mugs --landmarks {file} -o {out}/cameras.h5",
        _camera_picture,
    ),
    "cameras/1": (
        "info {file}",
        "segment {good}/photos --cameras {file} --method color --workers 1 -o {out}/masks.h5",
        "export-cameras {file} --data {good}/photos -o {out}/scene",
        "export-cameras {file} --data {good}/photos --format srn --pictures none -o {out}/srn",
        _cameras_framed,
    ),
    "masks/1": ("info {file}", _masks_framed, _mask_pictures),
    "truth/1": (
        "info {file}",
        "segment {good}/cars --cameras {file} --method color --workers 1 -o {out}/masks.h5",
        "export-cameras {file} --format eg3d -o {out}/scene --data {good}/cars",
        _truth_framed,
    ),
    "pixels/1": ("info {file}", _pixels),
    "model/1": ("info {file}", _model, "export-cameras {file} --data {good}/photos -o {out}/scene"),
    "checkpoint/1": ("info {file}", _checkpoint),
    "views/1": (
        "info {file}",
        _stored_objects,
        _views_figures,
        "export-cameras {file} -o {out}/scene",
    ),
    "personal/1": ("info {file}", _stored_objects),
    "direction/1": ("info {file}", _direction),
    "identities/1": ("info {file}", _identities),
    "landmarker/1": ("info {file}", _landmarker),
    "report/1": (
        "info {file}",
        _report,
        "evaluate --compare {file} {good}/report.h5 --html {out}/page.html",
    ),
    "study/1": ("info {file}", _study),
}
EVERY: tuple[Reader, ...] = ("verify {file}",)


def _fingerprint(value: object) -> str:
    """A digest of nested values; equal values have equal digests."""
    digest = hashlib.sha256()

    def add(item: object) -> None:
        if isinstance(item, Mapping):
            for key in sorted(item, key=str):
                digest.update(f"key {key}".encode(errors="surrogatepass"))
                add(item[key])
        elif isinstance(item, list | tuple):
            digest.update(f"list {len(item)}".encode())
            for each in item:
                add(each)
        elif hasattr(item, "shape") and hasattr(item, "dtype"):
            array = np.asarray(item)
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(
                np.ascontiguousarray(array).tobytes()
                if array.dtype.kind != "O"
                else repr(array.tolist()).encode()
            )
        elif hasattr(item, "__dict__") and not isinstance(item, type) and not callable(item):
            add(vars(item))
        else:
            digest.update(
                repr(item).encode(errors="surrogatepass") if not isinstance(item, Path) else b"path"
            )

    add(value)
    return digest.hexdigest()


def _written(folder: Path) -> dict[str, object]:
    """What files hold, without how they were made."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = os.fspath(path.relative_to(folder))
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                found[name] = {
                    each.name: hashlib.sha256(repr(each[()].tolist()).encode()).hexdigest()
                    for each in _arrays(file)
                }
        elif path.is_file() and path.suffix != ".html":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# --- the process that reads ----------------------------------------------------------------------------------------


def _serve() -> None:
    """Read the files that stdin names and answer on stdout what came of it."""
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT, _LIMIT))
    for line in sys.stdin:
        job = json.loads(line)
        program: Any = None if "seed" in job else _program()
        _reset_peak()
        outcome = _make(job) if "seed" in job else _read(job, program)
        answers.write(json.dumps(outcome | {"memory": _peak()}) + "\n")
        answers.flush()


@functools.cache
def _program() -> Any:
    import typer

    from nerfgen.cli.main import app

    return typer.main.get_command(app)


def _make(job: Mapping[str, Any]) -> dict[str, Any]:
    try:
        kind, is_damage = Mutant(job["schema"], job["seed"]).write(Path(job["original"]), Path(job["file"]))
    except Exception as error:
        return {"kind": type(error).__name__}
    return {"kind": "made", "text": kind, "is_damage": is_damage}


def _read(job: Mapping[str, str], program: Any) -> dict[str, str]:
    from nerfgen.errors import NerfgenError

    file, good, out = Path(job["file"]), Path(job["good"]), Path(job["out"])
    reader = ([*READERS[job["schema"]], *EVERY])[int(job["reader"])]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            if isinstance(reader, str):
                places = {"file": file, "good": good, "out": out}
                words = [word.format(**places) for word in reader.split()]
                code = program.main(words, "nerfgen", standalone_mode=False)
                value: object = printed.getvalue() if code in (None, 0) else "none"
                if code not in (None, 0):
                    return {"kind": "refused", "text": f"code {code}"}
            else:
                value = reader(file, good, out)
        return {"kind": "read", "text": _fingerprint([value, _written(out)])}
    except NerfgenError as error:
        return {"kind": "refused", "text": str(error)}
    except OSError as error:
        if error.filename:
            return {"kind": "refused", "text": str(error)}
        return {"kind": "fault", "text": _last_lines(error)}
    except BaseException as error:
        return {"kind": "fault", "text": _last_lines(error)}


def _last_lines(error: BaseException) -> str:
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({' '.join(places[-6:])})"


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory since :func:`_reset_peak`, bytes; of the whole process where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor_seconds(process: int) -> float:
    """Processor time of another process; the time of day where the system does not tell."""
    try:
        values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


class Readers:
    """A process that reads mutants, replaced when it dies or does not answer, and another one that makes them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._maker: Readers | None = None

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        if self._maker:
            self._maker.end()

    def read(
        self, schema: str, reader: int, file: Path, good: Path, out: Path, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """What came of it: ``kind`` (read, refused, fault, crash, hang), ``text`` and ``memory``."""
        job = {
            "schema": schema,
            "reader": reader,
            "file": os.fspath(file),
            "good": os.fspath(good),
            "out": os.fspath(out),
        }
        return self._ask(job, seconds)

    def make(self, schema: str, seed: int, original: Path, file: Path) -> dict[str, Any]:
        """Write a mutant, which may crash the library too: ``kind`` (made or the cause), ``text``, ``is_damage``.

        It may also leave much memory taken, which is not the readers'.
        """
        self._maker = self._maker or Readers()
        job = {"schema": schema, "seed": seed, "original": os.fspath(original), "file": os.fspath(file)}
        return self._maker._ask(job, SECONDS)

    def _ask(self, job: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer, dead = self._answer(process, seconds)
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
        self.end()
        if dead:
            return {"kind": "crash", "text": f"exit status {process.returncode}", "memory": 0}
        return {"kind": "hang", "text": f"no answer in {seconds:.0f} s", "memory": 0}

    def _answer(self, process: subprocess.Popen[str], seconds: float) -> tuple[str, bool]:
        """The answer, or whether the process ended without one; neither after so many seconds of its work."""
        assert process.stdout
        start, worked = time.monotonic(), _processor_seconds(process.pid)
        while time.monotonic() - start < _PATIENCE * seconds:
            ready, _, _ = select.select([process.stdout], [], [], 0.5)
            if ready:
                answer = process.stdout.readline()
                return answer, not answer
            if _processor_seconds(process.pid) - worked > seconds:
                break
        return "", False

    def _start(self) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self._process

    def end(self) -> None:
        """End the process that reads; the next reading starts another one."""
        if self._process is not None:
            assert self._process.stdin
            assert self._process.stdout
            self._process.kill()
            self._process.wait()
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


# --- campaign --------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a campaign over the mutants of one schema found."""

    schema: str
    mutants: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def campaign(
    schema: str,
    good: Path,
    scratch: Path,
    readers: Readers,
    seeds: Iterator[int] | range,
    say: Callable[[str], None] = lambda line: None,
    *,
    skip: Sequence[str] = (),
    verify_every: int = 1,
) -> Found:
    """Read mutants of the good file of a schema with everything that reads it.

    Args:
        good: the folder of good files, see :mod:`good_files`; read only.
        scratch: folder to work in.
        skip: commands that take long to compile.
        verify_every: `verify`, which starts a process, reads one in so many mutants.
    """
    original, found = good / FILES[schema], Found(schema)
    mutant, out = scratch / "mutant.h5", scratch / "out"
    scratch.mkdir(parents=True, exist_ok=True)
    known = _commands()
    numbers = [
        number
        for number, reader in enumerate((*READERS[schema], *EVERY))
        if not isinstance(reader, str) or reader.split()[0] in known - set(skip)
    ]

    def read(number: int, seconds: float = SECONDS) -> dict[str, Any]:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return readers.read(schema, number, mutant, good, out, seconds)

    shutil.copyfile(original, mutant)
    right = {number: read(number, 120) for number in numbers}
    right = {number: read(number, 120) for number in numbers}  # compiled now
    for number, result in right.items():
        if result["kind"] != "read":
            found.findings.append(f"the original itself, reader {number}: {result}")
    for seed in seeds:
        made = readers.make(schema, seed, original, mutant)
        if made["kind"] != "made":
            found.outcomes[f"not made: {made['kind']}"] += 1
            continue
        kind, is_damage = made["text"], made["is_damage"]
        found.mutants += 1
        for number in numbers:
            if number >= len(READERS[schema]) and found.mutants % verify_every:
                continue
            result = read(number)
            outcome = result["kind"]
            if outcome == "read" and is_damage and result["text"] != right[number]["text"]:
                outcome = "wrong"
            if result["memory"] > MEMORY:
                outcome = "memory"
                readers.end()  # what it has taken is not the next one's
            left = [path.name for path in out.rglob("*") if ".partial" in path.name]
            if left and outcome in ("read", "refused"):
                outcome = "left"
            found.outcomes[outcome] += 1
            if outcome not in ("read", "refused"):
                line = f"{schema} seed {seed} ({kind}), reader {number}: {outcome}: {result['text']}"
                found.findings.append(line)
                say(line)
    return found


def _commands() -> set[str]:
    return set(_program().commands)


if __name__ == "__main__":
    _serve()
