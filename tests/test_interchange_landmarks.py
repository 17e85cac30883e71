"""Import of annotated landmarks as landmarks.h5."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_images import columns, picture

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import decode
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
    summary = import_landmarks(tmp_path / "list.txt", overwrite=True)
    assert summary["statuses"] == {"absent": 1, "not_annotated": 2, "ok": 1}
    assert "line 3: 9 numbers" in summary["notes"][0]


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
    picture(tmp_path / paths[kind], (9, 8) if kind == "in_the_wild" else (8, 8))
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


MUG = """name = "mug"
landmarks = ["rim_left", "rim_right", "handle", "base"]
"""
POINTS = [[40, 30], [90, 32], [100, 60], [64, 100]]
TABLE = "image,rim_left_x,rim_left_y,rim_right_x,rim_right_y,handle_x,handle_y,base_x,base_y\n"


def _mugs(folder: Path, names: list[str], annotated: list[str] | None = None, **image) -> tuple[Path, str]:
    """A COCO file of images of 140 x 120 pixels, and the class of its landmarks."""
    described = folder / "mug.toml"
    described.write_text(MUG)
    content = {
        "images": [
            {"id": number, "file_name": name, "width": 140, "height": 120} | image
            for number, name in enumerate(annotated or names)
        ],
        "categories": [{"id": 1, "name": "mug", "keypoints": ["rim_left", "rim_right", "handle", "base"]}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "keypoints": [v for x, y in POINTS for v in (x, y, 2)]}
            for n in range(len(names))
        ],
    }
    source = folder / "mugs.json"
    source.write_text(json.dumps(content))
    return source, str(described)


def _first(folder: Path) -> list[list[float]]:
    return columns(folder / "landmarks.h5")["landmarks"][0].tolist()


def test_points_of_resized_images_are_scaled(tmp_path):
    source, mug = _mugs(tmp_path, ["a.png", "b.png", "c.png"])
    for name, size in (("a.png", (70, 60)), ("b.png", (140, 120)), ("c.png", (100, 100))):
        picture(tmp_path / name, size)
    summary = import_landmarks(source, object_class=mug)
    # An image that was cropped or stretched may show each point anywhere.
    assert summary["statuses"] == {"ok": 2, "wrong_shape": 1}
    assert summary["notes"] == [
        "1 images have another size than mugs.json states: their landmarks are scaled"
    ]
    assert _first(tmp_path) == [[20, 15], [45, 16], [50, 30], [32, 50]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_of_stored_pixels_follow_the_orientation(orientation, tmp_path):
    """A dot on the stored pixels is found at its landmark in the upright image."""
    source, mug = _mugs(tmp_path, ["a.jpg"])
    pixels = np.zeros((120, 140, 3), np.uint8)
    pixels[24:36, 34:46] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    import_landmarks(source, object_class=mug)
    x, y = _first(tmp_path)[0]
    if orientation >= 5:
        assert decode(tmp_path / "a.jpg")[int(y), int(x)].min() > 200
    else:  # both sizes are equal: taken as upright
        assert [x, y] == POINTS[0]


def test_names_mean_the_files_that_they_are_spelled_like(tmp_path):
    """Composed and decomposed, absolute, of another suffix, in another folder."""
    on_disk = "Ka\u0308ffchen.png"
    picture(tmp_path / "photos" / on_disk, (140, 120))
    for name in (
        "K\u00e4ffchen.png",
        str(tmp_path / "photos" / on_disk),
        "Ka\u0308ffchen.jpg",
        "train/" + on_disk,
    ):
        source, mug = _mugs(tmp_path, [name])
        summary = import_landmarks(source, tmp_path / "photos", object_class=mug, overwrite=True)
        assert summary["statuses"] == {"ok": 1}, name
        assert columns(tmp_path / "photos/landmarks.h5")["image"] == [on_disk]
    table = tmp_path / "mugs.csv"
    numbers = ",".join(str(value) for point in POINTS for value in point)
    table.write_text(f"{TABLE}{tmp_path / 'photos' / on_disk},{numbers}\n")
    summary = import_landmarks(table, tmp_path / "photos", object_class=mug, overwrite=True)
    assert summary["statuses"] == {"ok": 1}
    source, mug = _mugs(tmp_path, ["other.png"])
    with pytest.raises(InputError, match=r"has none of the images that .* annotates, such as other\.png"):
        import_landmarks(source, tmp_path / "photos", object_class=mug)


def test_an_annotation_of_no_image_costs_nothing_else(tmp_path):
    source, mug = _mugs(tmp_path, ["a.png", "b.png"], annotated=["a.png"])
    picture(tmp_path / "a.png", (140, 120))
    summary = import_landmarks(source, object_class=mug)
    assert summary["statuses"] == {"ok": 1}
    assert summary["notes"] == [
        "1 unusable entries (the first: annotation 1 does not name an image of the file)"
    ]


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    picture(tmp_path / "secret.png", (140, 120))
    picture(tmp_path / "photos/a.png", (140, 120))
    (tmp_path / "photos/link.png").symlink_to(tmp_path / "secret.png")
    outside = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "a\0.png",
        "\ud800.png",
        "a\n.png",
        "C:\\secret.png",
        "",
    ]
    source, mug = _mugs(tmp_path, ["a.png", "link.png", *outside])
    summary = import_landmarks(source, tmp_path / "photos", object_class=mug)
    read = columns(tmp_path / "photos/landmarks.h5")
    statuses = dict(zip(read["image"], read["status"], strict=True))
    assert statuses.pop("a.png") == "ok"
    assert set(statuses) <= {"link.png"}
    assert "ok" not in statuses.values()
    assert summary["notes"][0].startswith(
        "7 unusable entries (the first: annotation 2: the name '../secret.png' leads"
    )


def test_flat_copies_of_ffhq(tmp_path):
    """Copies are often of another size, without the folders of the published ones."""
    points = np.random.default_rng(0).uniform(200, 800, (2, 68, 2))
    entries = {
        str(number): {
            "image": {
                "file_path": f"images1024x1024/00000/{number:05d}.png",
                "pixel_size": [1024, 1024],
                "face_landmarks": own.tolist(),
            }
        }
        for number, own in enumerate(points)
    }
    (tmp_path / "ffhq.json").write_text(json.dumps(entries))
    for number in range(2):
        picture(tmp_path / f"faces/{number:05d}.jpg", (256, 256))
    summary = import_landmarks(tmp_path / "ffhq.json", tmp_path / "faces")
    assert summary["statuses"] == {"ok": 2}
    np.testing.assert_allclose(_first(tmp_path / "faces")[2], points[0, 30] / 4, rtol=1e-6)
