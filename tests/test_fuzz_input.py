"""Annotations and class files with one or more fields replaced: an error in one line, or a note; never anything else.

``NERFGEN_MUTANTS=2000 pytest tests/test_fuzz_input.py`` tries more of them.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from posed_images import picture

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.interchange import import_landmarks
from nerfgen.objectclass import class_from_text
from nerfgen.untrusted import safe_relative_path

MUTANTS = int(os.environ.get("NERFGEN_MUTANTS", "40"))
SIZE = 24, 16
CLASS = 'name = "mug"\nlandmarks = ["a", "b", "c"]\n'

COCO = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in range(3)],
    "categories": [{"id": 1, "name": "mug", "keypoints": ["a", "b", "c"]}],
    "annotations": [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "keypoints": [1, 2, 2, 3, 4, 1, 5, 6, 2],
            "bbox": [0, 0, 5, 5],
            "iscrowd": 0,
        }
        for n in range(3)
    ],
}
FFHQ = {
    str(n): {
        "image": {
            "file_path": f"{n}.png",
            "pixel_size": list(SIZE),
            "face_landmarks": [[1.0 + k, 2.0] for k in range(68)],
        },
        "thumbnail": {"file_path": f"thumbs/{n}.png", "pixel_size": list(SIZE)},
    }
    for n in range(3)
}
CSV = [["image", "a_x", "a_y", "b_x", "b_y", "c_x", "c_y", "class"]] + [
    [f"{n}.png", "1", "2", "3", "4", "5", "6", "mug"] for n in range(3)
]
CELEBA = [
    ["3"],
    [
        f"{name}_{axis}"
        for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
        for axis in "xy"
    ],
    *([f"{n}.png", *map(str, range(10))] for n in range(3)),
]
CAT = [["9", *map(str, range(18))]]
JSON_CLASS = {
    "name": "mug",
    "description": "a mug",
    "landmarks": ["a", "b", "c"],
    "canonical": {"a": [0, 0, 1], "b": [1, 0, 0], "c": [0, 1, 0]},
    "symmetry": [["a", "b"]],
    "unit": ["a", "c"],
    "groups": {"rim": ["a", "b"]},
    "nearest": ["c"],
    "bounds": [0.5, 0.5, 0.5],
    "reach": 1.0,
    "focal": 2.0,
    "turn": 180.0,
    "mirror": True,
    "landmarker": "trained",
    "segmenter": "alpha",
}
TOML_CLASS = [
    [key, "=", *json.dumps(value).split(" ")]
    for key, value in JSON_CLASS.items()
    if not isinstance(value, dict)
] + [["[canonical]"], *([name, "=", str(place)] for name, place in JSON_CLASS["canonical"].items())]

# Stands for a number that JSON may hold and Python's floats may not.
DIGITS = 1234567891011
VALUES = [
    None, True, False, 0, -1, 1e308, -1e308, 1e7, 10**39, DIGITS, float("nan"), float("inf"), "", "a", "1.png",
    "../1.png", "/etc/passwd", "C:\\1.png", "1.png\0", "\ud800", "\x1b[31m", "a\nb", "x" * 5000, "1e400", [], {},
    [[]], [1], [1, [2]], {"id": 1}, ["a", "a"], [None] * 9, [[[[[[]]]]]], [0] * 100,
]  # fmt: skip
WORDS = [
    "", " ", "nan", "inf", "-1e308", "1" * 400, "1" * 5000, "\0", "\x1b[31m", "../1.png", "/etc/passwd", '"', '"a\nb"',
    "x" * 200_000,
    "\ufeff", "\u2028", "é", "[", "]", "{", "}", "=", ".", "a." * 50, "#", "'", '"""', "true", "1979-05-27", "0x1",
    "\x0c", "x0", "image",
]  # fmt: skip


def places(tree, path=()):
    """Every place in a tree of lists and objects."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def trees(draw, valid):
    """A copy of a tree with up to three places replaced, removed or doubled."""
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(list(places(tree)) or [("absent",)]))
        inner = tree
        for step in above:
            inner = inner[step]
        action = draw(st.sampled_from(("replace", "replace", "remove", "double")))
        if action == "remove":
            inner.pop(key, None) if isinstance(inner, dict) else inner.pop(key)
        elif action == "double" and isinstance(inner, list):
            inner.insert(key, copy.deepcopy(inner[key]))
        else:
            inner[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    text = json.dumps(tree, indent=draw(st.sampled_from((None, 1)))).replace(str(DIGITS), "1" * 400)
    return _bytes(draw, text)


@st.composite
def tables(draw, valid, separator):
    """A copy of a text with up to three words replaced, removed or doubled, or lines exchanged."""
    table = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        line = draw(st.sampled_from(table))
        place = draw(st.integers(0, max(0, len(line) - 1)))
        action = draw(st.sampled_from(("replace", "replace", "remove", "double", "line")))
        if action == "line":
            table.append(line)
        elif action == "double" or not line:
            line.insert(place, draw(st.sampled_from(WORDS)))
        elif action == "remove":
            line.pop(place)
        else:
            line[place] = draw(st.sampled_from(WORDS))
    text = draw(st.sampled_from(("\n", "\r\n", "\r"))).join(separator.join(line) for line in table)
    return _bytes(draw, text)


def _bytes(draw, text):
    encoding = draw(st.sampled_from(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "latin-1")))
    data = text.encode(encoding, "replace")
    cut = draw(st.integers(0, 20))
    return data[: len(data) * cut // 20] if cut > 17 else data


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        picture(folder / f"{number}.png", SIZE)
    return folder


def _one_line(message: str) -> None:
    assert message.isprintable()
    assert len(message) < 1500


def _check(photos: Path, name: str, content: bytes, object_class: str) -> None:
    """The import gives every image a row with safe names and finite points, or says in a line what is wrong."""
    out = photos / "out"
    source = photos / name
    source.write_bytes(content)
    try:
        summary = import_landmarks(source, photos, out, object_class=object_class)
    except InputError as error:
        _one_line(str(error).replace(str(photos), ""))
        return
    finally:
        source.unlink()
    for note in summary["notes"]:
        _one_line(note)
    with h5py.File(out / "landmarks.h5") as file:
        images, status = storage.strings(file["image"]), np.array(storage.strings(file["status"]))
        assert {"0.png", "1.png", "2.png"} <= set(images)
        assert len(set(images)) == len(images)
        assert images == [safe_relative_path(image, "") for image in images]
        assert set(status) <= set(storage.STATUSES)
        points = file["landmarks"][:][storage.usable(status.tolist())]
        assert np.isfinite(points).all()
        assert (np.abs(points) < 1e9).all()
    shutil.rmtree(out)


def mutants(strategy):
    """Many values of a strategy, the same ones every time."""
    return lambda test: settings(
        max_examples=MUTANTS,
        derandomize=True,
        deadline=10_000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(content=strategy)(test))


@pytest.fixture(scope="module")
def mug(tmp_path_factory):
    path = tmp_path_factory.mktemp("class") / "mug.toml"
    path.write_text(CLASS)
    return str(path)


@mutants(trees(COCO))
def test_coco(photos, mug, content):
    _check(photos, "a.json", content, mug)


@mutants(trees(FFHQ))
def test_ffhq(photos, content):
    _check(photos, "a.json", content, "face")


@mutants(tables(CSV, ","))
def test_csv(photos, mug, content):
    _check(photos, "a.csv", content, mug)


@mutants(tables(CELEBA, " "))
def test_celeba(photos, content):
    _check(photos, "a.txt", content, "face")


@mutants(tables(CAT, " "))
def test_cat(photos, content):
    folder = photos / "cats"
    folder.mkdir(exist_ok=True)
    (folder / "1.png.cat").write_text(" ".join(CAT[0]))
    shutil.copy(photos / "1.png", folder)
    (folder / "2.png.cat").write_bytes(content)
    summary = import_landmarks(folder, object_class="cat", overwrite=True)
    assert summary["usable"] == 1
    for note in summary["notes"]:
        _one_line(note)


def _check_class(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    try:
        described = class_from_text(text, "mug")
    except InputError as error:
        _one_line(str(error))
        return
    for name in (described.name, described.description, *described.landmark_names, *described.groups):
        assert name.isprintable()
    assert described.name.replace("-", "_").isidentifier() or described.name[0].isdigit()
    assert np.isfinite(described.canonical).all()
    assert np.isfinite([*described.bounds, *described.center, described.reach, described.spread]).all()


@mutants(trees(JSON_CLASS))
def test_json_class(content):
    _check_class(content)


@mutants(tables(TOML_CLASS, " "))
def test_toml_class(content):
    _check_class(content)
