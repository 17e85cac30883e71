"""Annotations of other people, in the formats in which they are found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nerfgen import landmark
from nerfgen.errors import InputError


def test_table_of_numbered_columns(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("image,x0,y0,x1,y1,source\na/b.jpg,1.5,2,3,4,web\nc.jpg,,,5,6,\n")
    found = landmark.read_annotations(path)
    assert found.images == ("a/b.jpg", "c.jpg")
    np.testing.assert_array_equal(found.points[0], [[1.5, 2], [3, 4]])
    assert np.isnan(found.points[1, 0]).all()
    named = found.with_names(("eye", "nose"), "points.csv")
    assert named.names == ("eye", "nose")
    with pytest.raises(InputError, match="2 unnamed points, but the class has 3"):
        found.with_names(("eye", "nose", "tail"), "points.csv")


def test_table_of_named_columns_in_any_order(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("nose_y,nose_x,class,file,eye_x,eye_y\n2,1,cat,a.jpg,3,4\n6,5,dog,b.jpg,7,8\n")
    found = landmark.read_annotations(path).with_names(("eye", "nose"), "points.csv")
    np.testing.assert_array_equal(found.points[0], [[3, 4], [1, 2]])
    assert found.labels == ("cat", "dog")
    with pytest.raises(InputError, match="lacks the landmark tail"):
        found.with_names(("tail",), "points.csv")


def test_table_with_several_objects_in_an_image_keeps_the_largest_and_says_so(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("image,x0,y0,x1,y1\na.jpg,0,0,1,1\na.jpg,5,5,9,9\na.jpg,0,0,2,2\n")
    found = landmark.read_annotations(path)
    np.testing.assert_array_equal(found.points, [[[5, 5], [9, 9]]])
    assert found.notes == ("2 objects with a larger one in the same image",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x0,y0\n\nb.jpg,1,zwei\n", r"points.csv line 3: 'zwei' is not a number"),
        ("image,x0,y0\na.jpg,1,-inf\n", r"points.csv line 2: '-inf' is not a position"),
        ("image,x0,y0\na.jpg,1,1e300\n", r"points.csv line 2: 1e\+300 is not a position"),
        ("image,x0,y0\n../a.jpg,1,2\n", r"points.csv line 2: the name '../a.jpg' leads out of its folder"),
        ("image,x0,y0\na\0.jpg,1,2\n", r"points.csv line 2: the name 'a\\x00.jpg' has control characters"),
        ("image,x0,y0,x0\na.jpg,1,2,3\n", r"points.csv line 1: two columns 'x0'"),
        ("image,x0,y0\na.jpg,1\n", r"points.csv line 2: 2 fields, but the header has 3"),
        ("image,x0,x1,y1\n", r"points.csv line 1: no column 'y0'"),
        ("image,left,right\n", r"points.csv line 1: no columns of points"),
        ("path,x0,y0\n", r"points.csv line 1: no column 'image'"),
        ("image,x0,y0\n", "no annotated image"),
    ],
)
def test_errors_of_tables_name_the_line(tmp_path, text, message):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        landmark.read_annotations(path)


def test_an_unusable_line_costs_its_image_alone(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("image,x0,y0\na.jpg,1,2\nb.jpg,1,zwei\nc.jpg,1,2,3\n")
    found = landmark.read_annotations(path)
    assert found.images == ("a.jpg",)
    assert found.notes == ("2 unusable entries (the first: line 3: 'zwei' is not a number)",)


def test_more_landmarks_than_memory_permits_are_an_error(tmp_path, monkeypatch):
    """One category with many keypoints makes the row of every image of the others as long."""
    path = _coco(tmp_path, [])
    content = json.loads(path.read_text())
    content["categories"].append({"id": 3, "keypoints": [str(number) for number in range(10_000)]})
    content["annotations"] = [
        {"image_id": image, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1]} for image in (7, 8)
    ]
    path.write_text(json.dumps(content))
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "0.0002")
    monkeypatch.setattr("nerfgen.landmark.annotation_json.read_json_input", lambda path: content)
    with pytest.raises(InputError, match="1 images of 10,002 landmarks, which take more than the limit"):
        landmark.read_annotations(path)


def _coco(tmp_path: Path, annotations: list[dict]) -> Path:
    path = tmp_path / "coco.json"
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "categories": [
            {"id": 1, "name": "cat", "keypoints": ["eye", "nose"]},
            {"id": 2, "name": "dog", "keypoints": ["nose", "eye"]},
        ],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content, indent=1))
    return path


def test_coco(tmp_path):
    """Categories, visibility, several objects in an image and what is left out."""
    path = _coco(
        tmp_path,
        [
            {"id": 1, "image_id": 7, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1], "bbox": [0, 0, 5, 5]},
            {"id": 2, "image_id": 7, "category_id": 2, "keypoints": [5, 6, 2, 0, 0, 0], "bbox": [0, 0, 9, 5]},
            {"id": 3, "image_id": 8, "category_id": 1, "keypoints": [0, 0, 0, 0, 0, 0]},
            {"id": 4, "image_id": 8, "category_id": 1, "iscrowd": 1, "keypoints": [1, 1, 2, 1, 1, 2]},
        ],
    )
    found = landmark.read_annotations(path)
    assert (found.images, found.names, found.labels) == (("a.jpg",), ("eye", "nose"), ("dog",))
    assert np.isnan(found.points[0, 0]).all()
    np.testing.assert_array_equal(found.points[0, 1], [5, 6])
    assert sorted(found.notes) == [
        "1 crowds",
        "1 entries without a point",
        "1 images without an annotation",
        "1 objects with a larger one in the same image",
    ]


def test_errors_of_coco_name_the_annotation(tmp_path):
    path = _coco(tmp_path, [{"id": 5, "image_id": 7, "category_id": 1, "keypoints": [1, 2, 2]}])
    with pytest.raises(InputError, match=r"coco.json annotation 5 has 3 keypoint values"):
        landmark.read_annotations(path)
    path = _coco(tmp_path, [{"id": 6, "image_id": 70, "category_id": 1}])
    with pytest.raises(InputError, match="annotation 6 does not name an image"):
        landmark.read_annotations(path)
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(InputError, match="line 2: not valid JSON"):
        landmark.read_annotations(path)


def test_cat_files(tmp_path):
    """The CAT dataset's files lie beside their images."""
    (tmp_path / "CAT_00").mkdir()
    values = list(range(18))
    (tmp_path / "CAT_00" / "1.jpg.cat").write_text("9 " + " ".join(map(str, values)) + " \n")
    found = landmark.read_annotations(tmp_path)
    assert found.images == ("CAT_00/1.jpg",)
    assert found.names[:4] == ("eye_left", "eye_right", "mouth", "ear_left_outer")
    np.testing.assert_array_equal(found.points[0].ravel(), values)
    assert landmark.read_annotations(tmp_path / "CAT_00", tmp_path).images == ("CAT_00/1.jpg",)
    (tmp_path / "CAT_00" / "2.jpg.cat").write_text("9 1 2 3")
    found = landmark.read_annotations(tmp_path)
    assert found.images == ("CAT_00/1.jpg",)
    assert found.notes[0].startswith("1 unusable entries (the first: CAT_00/2.jpg.cat: 4 numbers")


def test_what_is_no_annotation(tmp_path):
    with pytest.raises(InputError, match="has no"):
        landmark.read_annotations(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        landmark.read_annotations(tmp_path / "none.csv")
    (tmp_path / "points.xml").write_text("<a/>")
    with pytest.raises(InputError, match="are read from"):
        landmark.read_annotations(tmp_path / "points.xml")
