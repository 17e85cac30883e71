"""Classes as data: those that ship, files that describe others, errors that name their line, files that carry them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.objectclass import CLASS_NAMES, class_text, object_class

MUG = """\
name = "mug"
landmarks = ["rim_left", "rim_right", "base", "handle"]
bounds = [0.8, 1, 0.8]
symmetry = [["rim_left", "rim_right"]]
unit = ["rim_left", "rim_right"]

[groups]
rim = ["rim_left", "rim_right"]
"""
JSON = {
    "name": "mug",
    "landmarks": ["a", "b", "c"],
    "canonical": {"a": [0, 0, 1], "b": [1, 0, 0], "c": [0, 1, 0]},
}


@pytest.fixture
def written(tmp_path):
    """A class file of that text."""

    def write(text, name="mug.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_what_ships_is_consistent(name):
    described = object_class(name)
    assert described.name == name
    assert described.text == ""
    assert min(described.bounds) > 0
    points, mirrored = described.canonical, described.mirrored
    np.testing.assert_array_equal(mirrored[mirrored], np.arange(len(described.landmark_names)))
    if len(points):
        assert len(points) == len(described.landmark_names)
        np.testing.assert_allclose(points[mirrored] * [-1, 1, 1], points, atol=1e-6)
        # Estimated points would come to lie where the template's do.
        centre = points.mean(0)
        np.testing.assert_allclose(described.center, centre, atol=0.01)
        assert described.spread == pytest.approx(np.sqrt(((points - centre) ** 2).sum(-1).mean()), abs=0.01)


def test_a_file_describes_a_class_and_leaves_the_rest_to_defaults(written):
    mug = object_class(str(written(MUG)))
    assert mug.landmark_names == ("rim_left", "rim_right", "base", "handle")
    assert mug.bounds == (0.8, 1.0, 0.8)
    assert mug.mirrored.tolist() == [1, 0, 2, 3]
    assert mug.mirror  # because it has pairs
    assert (mug.landmarker, mug.segmenter, len(mug.canonical)) == ("trained", "grabcut", 0)
    assert mug.groups == {"rim": ("rim_left", "rim_right")}
    again = pickle.loads(pickle.dumps(mug))
    assert again.text == MUG
    assert object_class(mug) is mug


def test_json_serves_as_well_as_toml_and_canonical_points_follow_the_landmarks(written):
    described = object_class(written(json.dumps(JSON), "mug.json"))
    np.testing.assert_array_equal(described.canonical, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert not described.mirror


def test_a_class_like_another_takes_what_it_does_not_say(written):
    like = object_class(written('name = "lynx"\nlike = "cat"\nfocal = 3.5'))
    cat = object_class("cat")
    assert like.focal == 3.5
    assert (like.landmark_names, like.symmetry, like.reach) == (cat.landmark_names, cat.symmetry, cat.reach)
    # With landmarks of its own, nothing that is said of the other's.
    own = object_class(written('name = "bust"\nlike = "face"\nlandmarks = ["chin", "brow", "ear"]'))
    assert (own.segmenter, own.symmetry, len(own.mesh_index), own.unit) == ("selfie", (), 0, None)


def test_errors_are_in_units_of_the_class(written):
    points = np.array([[[0, 0], [3, 4], [1, 0], [0, 1]]], float)
    assert object_class(written(MUG)).units(points) == pytest.approx([5.0])
    no_unit = object_class(written(MUG.replace('unit = ["rim_left", "rim_right"]', "")))
    assert no_unit.units(np.array([[[1, 0], [-1, 0], [0, 1], [0, -1]]], float)) == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("bounds = [0.8, 1, 0.8]", "bounds = [0.8, 1 0.8]", 3, "TOML"),
        ("bounds = [0.8, 1, 0.8]", "bounds = [0.8, 1]", 3, "bounds must be 3 numbers"),
        ("bounds = [0.8, 1, 0.8]", "bounds = [0.8, 1, -2]", 3, "above 1e-06"),
        ("bounds = [0.8, 1, 0.8]", "bound = [0.8, 1, 0.8]", 3, "there is no key bound"),
        ("bounds = [0.8, 1, 0.8]", "reach = true", 3, "reach must be a number"),
        ("bounds = [0.8, 1, 0.8]", 'landmarker = "guess"', 3, "landmarker must be"),
        ("bounds = [0.8, 1, 0.8]", 'like = "dragon"', 3, "like must be one of"),
        ("bounds = [0.8, 1, 0.8]", 'canonical = "guess"', 3, "canonical must be"),
        ("bounds = [0.8, 1, 0.8]", "largest_angle = 200", 3, "up to 180"),
        ('"rim_right"]]', '"rims"]]', 4, "rims, which is no landmark"),
        ('"rim_right"]]', '"rim_left"]]', 4, "rim_left twice"),
        ('unit = ["rim_left", "rim_right"]', 'unit = ["rim_left"]', 5, "unit must be 2 landmarks"),
        ('rim = ["rim_left", "rim_right"]', 'rim = ["lid"]', 8, "groups.rim has lid"),
        ('name = "mug"', 'name = "cat"', 1, "a class that ships"),
        ('name = "mug"\n', "", 1, "needs a name"),
        ("[groups]", "[canonical]\nbase = [0, 0, 0]\n[groups]", 7, "canonical lacks the landmark rim_left"),
    ],
)
def test_an_error_names_its_line(written, old, new, line, says):
    assert old in MUG
    path = written(MUG.replace(old, new))
    with pytest.raises(InputError, match=r"mug\.toml, line \d+: ") as raised:
        object_class(path)
    assert f"line {line}:" in str(raised.value)
    assert says in str(raised.value)


HOSTILE = {
    "many parts of a key take memory that grows with their square": (
        "a." * 100_000 + "a = 1",
        "too many parts",
    ),
    "nested arrays": ("x = " + "[" * 100_000, "nested too deeply"),
    "nested objects of JSON": ('{"name": ' + "[" * 100_000, "nested too deeply"),
    "digits that no float has": ("reach = " + "1" * 400, "line 1: reach must be a number"),
    "digits that no integer has": ("reach = " + "1" * 5000, "too many digits"),
    "a number that is none": ("reach = nan", "line 1: reach must be a number"),
    "a number whose square overflows": ("reach = 1e300", "line 1: reach must be a number"),
    "a date": ("reach = 1979-05-27", "line 1: reach must be a number"),
    "blank lines before an error": ("\n" * 200_000 + "bounds = [1]", "line 200001: bounds must be 3 numbers"),
    "landmarks without end": (
        'landmarks = ["' + '","'.join(map(str, range(6000))) + '"]',
        "6,000 names; the most are 5,000",
    ),
    "a name that a terminal obeys": ('landmarks = ["\\u001b[31m", "b"]', "printable characters"),
    "points in one place": (
        'landmarks = ["a", "b"]\ncanonical = {a = [1, 1, 1], b = [1, 1, 1]}',
        "line 2: canonical has all landmarks on one line",
    ),
    "a text without end": ("#" * 300_000, " characters; describe a class in 262,144 or fewer"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_an_error_in_one_short_line(case, written):
    text, says = HOSTILE[case]
    named = text if text.startswith("{") else f'{text}\nname = "mug"'
    with pytest.raises(InputError) as raised:
        object_class(written(named))
    message = str(raised.value).removeprefix(f"{written(named).parent}")
    assert says in message
    assert len(message) < 300
    assert message.isprintable()


def test_a_byte_order_mark_is_no_part_of_the_class(written):
    assert object_class(written("\ufeff" + MUG)) == object_class(written(MUG))
    path = written("")
    path.write_bytes(MUG.encode("utf-16"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        object_class(path)


def test_an_error_in_json_names_its_line(written):
    lines = json.dumps(JSON, indent=1).splitlines()
    place = next(number for number, text in enumerate(lines) if '"canonical"' in text)
    with pytest.raises(InputError, match=rf"mug.json, line {place + 1}: .*canonical lacks"):
        object_class(written("\n".join(lines).replace('"b": [', '"a2": ['), "mug.json"))
    with pytest.raises(InputError, match=r"mug.json line 2"):
        object_class(written('{"name": "mug",\n landmarks}', "mug.json"))


@pytest.mark.parametrize(
    ("given", "says"), [("dragon", "the classes are face, cat"), ("none.toml", "does not exist")]
)
def test_a_class_that_is_not_there_is_said(given, says):
    with pytest.raises(InputError, match=says):
        object_class(given)


def test_files_carry_the_class_that_they_are_of(written, tmp_path):
    mug, path = object_class(written(MUG)), tmp_path / "masks.h5"
    with storage.Stage(path, "masks/1", mug).create() as file:
        storage.put(file, "image", ["a"])
        storage.put(file, "status", ["ok"])
        storage.put(file, "image_size", [(4, 4)])
        storage.put(file, "mask", np.zeros((1, 4, 4)))
        storage.put(file, "mask_window", [(0, 0, 4)])
    (tmp_path / "mug.toml").unlink()
    with storage.reading(path, "masks/1") as file:
        assert storage.class_of(file).symmetry == mug.symmetry
    assert storage.Stage(path, "masks/1", mug).is_current()
    other = object_class(written(MUG.replace("0.8", "0.9")))
    with pytest.raises(OutputExistsError, match="differs in class description"):
        storage.Stage(path, "masks/1", other).is_current()


def test_classes_lists_shows_and_checks(run, written):
    listed = run("classes", "--json")
    assert [one["name"] for one in json.loads(listed.out)["classes"]] == list(CLASS_NAMES)
    assert all(name in run("classes").out for name in CLASS_NAMES)
    copy = written("", "copy.toml")
    refused = run("classes", "cat", "-o", copy)
    assert (refused.code, copy.read_text()) == (2, "")
    assert run("classes", "cat", "-o", copy, "--overwrite").code == 0
    assert copy.read_text() == class_text("cat")
    # As it is, it has the name of the class that ships.
    assert "line 2: cat is the name of a class that ships" in run("classes", copy).err
    shown = run("classes", written(MUG))
    assert "rim_left - rim_right" in shown.out
    wrong = run("classes", written(MUG.replace("0.8, 1", "0.8")))
    assert (wrong.code, wrong.out) == (2, "")
    assert "mug.toml, line 3" in wrong.err
