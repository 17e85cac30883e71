"""Import of annotated landmarks as landmarks.h5."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from posed_images import columns, picture

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.interchange import import_landmarks
from nerfgen.landmark import read_annotations
from nerfgen.objectclass import object_class

# Annotated landmarks.

CELEBA = """{count}
lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y
000001.jpg  69  109  106  113   77  142   73  152  108  154
000002.jpg  69  110  107  112   81  135   70  151  108  153
000009.jpg  69  110  107  112   81  135   70  151  108  153
"""


def test_celeba(tmp_path):
    for name in ("000001.jpg", "000002.jpg", "000003.jpg"):
        picture(tmp_path / name, (178, 218))
    (tmp_path / "list.txt").write_text(CELEBA.format(count=3))
    summary = import_landmarks(tmp_path / "list.txt")
    assert (summary["format"], summary["class"]) == ("celeba", "face")
    assert summary["statuses"] == {"absent": 1, "not_annotated": 1, "ok": 2}
    with storage.reading(tmp_path / "landmarks.h5", "landmarks/1") as file:
        names = storage.strings(file["landmark_names"])
        assert tuple(names) == object_class("face").landmark_names
        first = dict(zip(names, file["landmarks"][0].tolist(), strict=True))
        assert first == {
            "eye_left": [69, 109],
            "eye_right": [106, 113],
            "nose_tip": [77, 142],
            "mouth_left": [73, 152],
            "mouth_right": [108, 154],
        }
        assert file["image_size"][0].tolist() == [178, 218]
    assert import_landmarks(tmp_path / "list.txt")["kept"]
    (tmp_path / "list.txt").write_text(CELEBA.format(count=3).replace("  154", ""))
    with pytest.raises(InputError, match="line 3: 9 numbers"):
        import_landmarks(tmp_path / "list.txt")


def test_cameras_of_celeba_landmarks(tmp_path, call, capsys):
    picture(tmp_path / "images/000001.jpg", (178, 218))
    (tmp_path / "list.txt").write_text(CELEBA.format(count=3))
    call("import", tmp_path / "list.txt", "--images", tmp_path / "images", "--json")
    assert json.loads(capsys.readouterr().out)["usable"] == 1
    call("fit-cameras", tmp_path / "images")
    assert columns(tmp_path / "images/cameras.h5")["status"][0] == "ok"


@pytest.mark.parametrize("kind", ["image", "thumbnail", "in_the_wild"])
def test_ffhq(kind, tmp_path):
    """Eyes are the means of their six points; the person's right eye is on the viewer's left."""
    random = np.random.default_rng(0)
    aligned, wild = random.uniform(200, 800, (2, 68, 2))
    paths = {
        "image": "images1024x1024/00000/00000.png",
        "thumbnail": "thumbnails128x128/00000/00000.png",
        "in_the_wild": "in-the-wild-images/00000/00000.png",
    }
    entry = {
        "category": "training",
        "image": {
            "file_path": paths["image"],
            "pixel_size": [1024, 1024],
            "face_landmarks": aligned.tolist(),
        },
        "thumbnail": {"file_path": paths["thumbnail"], "pixel_size": [128, 128]},
        "in_the_wild": {
            "file_path": paths["in_the_wild"],
            "pixel_size": [900, 800],
            "face_landmarks": wild.tolist(),
        },
    }
    source = tmp_path / "ffhq-dataset-v2.json"
    source.write_text(json.dumps({"0": entry}))
    picture(tmp_path / paths[kind], (8, 8))
    points = {"image": aligned, "thumbnail": aligned / 8, "in_the_wild": wild}[kind]
    expected = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    found = read_annotations(source)
    assert found.images == (paths[kind],)
    np.testing.assert_allclose(found.points[0], expected)
    summary = import_landmarks(source, tmp_path / Path(paths[kind]).parts[0])
    assert (summary["format"], summary["usable"]) == ("ffhq", 1)


def test_coco_needs_a_class(tmp_path):
    picture(tmp_path / "a.png")
    names = list(object_class("cat").landmark_names)
    (tmp_path / "cats.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "categories": [{"id": 1, "name": "cat", "keypoints": names}],
                "annotations": [
                    {
                        "id": 1,
                        "image_id": 1,
                        "category_id": 1,
                        "keypoints": [v for k in range(9) for v in (k, k + 1, 2)],
                    }
                ],
            }
        )
    )
    with pytest.raises(InputError, match="`object_class`"):
        import_landmarks(tmp_path / "cats.json")
    with pytest.raises(InputError, match="coco, not celeba"):
        import_landmarks(tmp_path / "cats.json", format_name="celeba")
    assert import_landmarks(tmp_path / "cats.json", object_class="cat")["usable"] == 1


def test_files_without_annotations_are_refused(tmp_path):
    (tmp_path / "notes.md").write_text("no annotations")
    with pytest.raises(InputError, match=r"notes\.md has no annotations in a known format"):
        import_landmarks(tmp_path / "notes.md", object_class="cat")
    with pytest.raises(InputError, match=r"absent\.csv does not exist"):
        import_landmarks(tmp_path / "absent.csv", object_class="cat")
