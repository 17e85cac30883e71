"""Procedural heads and cars: determinism, consistent truth, detection, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import pixel_centers, pixel_rays, project
from nerfgen.image import InputImage
from nerfgen.landmark import estimator_for, map_landmarks
from nerfgen.objectclass import object_class
from nerfgen.storage import USABLE, reading, strings
from nerfgen.synth import SynthSettings, make_object, render_object, synthesize

SIZE = 48


@pytest.fixture(scope="module", params=["heads", "cars"])
def dataset(request, tmp_path_factory):
    """(kind, folder) of six small photographs with held-out views."""
    folder = tmp_path_factory.mktemp(request.param)
    synthesize(
        request.param,
        folder,
        SynthSettings(num_images=6, size=SIZE, views=2, heldout_objects=2, seed=5),
        workers=1,
    )
    return request.param, folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read(folder: Path) -> dict[str, np.ndarray]:
    with reading(folder / "truth.h5", "truth/1") as file:
        return {name: strings(file[name]) if file[name].dtype == object else file[name][:] for name in file}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nerfgen", "synth", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_same_seed_gives_the_same_bytes_whatever_the_workers(dataset, tmp_path):
    kind, folder = dataset
    options = {"num_images": 6, "size": SIZE, "views": 2, "heldout_objects": 2, "seed": 5}
    synthesize(kind, tmp_path, SynthSettings(**options), workers=2)
    assert contents(tmp_path) == contents(folder)


def test_more_images_extend_fewer_and_another_seed_differs(dataset, tmp_path):
    kind, folder = dataset
    options = {"size": SIZE, "views": 2, "heldout_objects": 1}
    synthesize(kind, tmp_path / "fewer", SynthSettings(num_images=2, seed=5, **options), workers=1)
    synthesize(kind, tmp_path / "other", SynthSettings(num_images=2, seed=6, **options), workers=1)
    fewer, full, other = read(tmp_path / "fewer"), read(folder), read(tmp_path / "other")
    for name in ("000000.png", "000001.png"):
        assert (tmp_path / "fewer" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()
    for name in ("mask", "depth", "keypoints", "cam_to_world", "intrinsics"):
        np.testing.assert_array_equal(fewer[name], full[name][:2])
        assert not np.array_equal(fewer[name], other[name])
    np.testing.assert_array_equal(fewer["heldout_rgb"], full["heldout_rgb"][:1])


def test_truth_has_every_image_and_shape(dataset):
    _, folder = dataset
    truth = read(folder)
    assert truth["image"] == [f"{i:06d}.png" for i in range(6)]
    assert set(truth["status"]) == {"ok"}
    assert truth["heldout_rgb"].shape == (2, 2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(truth["mask_window"], np.tile([0, 0, SIZE], (6, 1)))
    for name in truth["image"]:
        assert pixels(folder / name).shape == (SIZE, SIZE, 3)


def test_mask_and_depth_agree(dataset):
    _, folder = dataset
    truth = read(folder)
    for prefix in ("", "heldout_"):
        mask, depth = truth[f"{prefix}mask"], truth[f"{prefix}depth"]
        np.testing.assert_array_equal(mask > 0, depth > 0)
        assert 0.05 < (mask == 255).mean() < 0.9
        # Edges are antialiased.
        assert ((mask > 0) & (mask < 255)).any()


def test_depth_unprojects_into_the_bounds(dataset):
    kind, folder = dataset
    truth = read(folder)
    origins, directions = pixel_rays(
        np.broadcast_to(pixel_centers(SIZE), (6, SIZE * SIZE, 2)), truth["intrinsics"], truth["cam_to_world"]
    )
    depth = truth["depth"].reshape(6, -1)
    per_length = np.einsum("npc,nc->np", directions, truth["cam_to_world"][:, :3, 2])
    points = origins + (depth / per_length)[..., None] * directions
    solid_points = points[truth["mask"].reshape(6, -1) == 255]
    solid = make_object(kind, 5, 0)
    local = solid_points * solid.unit + np.asarray(solid.origin)
    assert np.all(local > np.asarray(solid.low) - 0.01 * solid.unit)
    assert np.all(local < np.asarray(solid.high) + 0.01 * solid.unit)
    # Most of it within the unit sphere: all of a car, and a head without its shoulders.
    inside = np.linalg.norm(solid_points, axis=-1) < 1.02
    assert inside.mean() > (0.75 if kind == "heads" else 0.9999)


def test_visible_keypoints_lie_on_the_depth_surface(dataset):
    kind, folder = dataset
    truth = read(folder)
    at, depth = project(truth["keypoints"], truth["intrinsics"], truth["cam_to_world"])
    visible, total = 0, 0
    for image in range(6):
        for pixel, expected in zip(at[image], depth[image], strict=True):
            column, row = pixel.astype(int)
            # Every keypoint, hidden or not, projects onto the object or its outline.
            window = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            assert (truth["mask"][image][window] > 0).any()
            seen = truth["depth"][image][window]
            # Nothing solid in front may be farther off than a point of the surface.
            assert seen[seen > 0].min() < expected + 0.03
            visible += np.abs(seen - expected).min() < 0.03
            total += 1
    assert visible / total > (0.9 if kind == "heads" else 0.3)


def test_keypoint_names_and_sides(dataset):
    kind, folder = dataset
    truth = read(folder)
    names = truth["keypoint_names"]
    if kind == "heads":
        assert names == ["eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right"]
    for index, name in enumerate(names):
        side = -1 if "left" in name else 1 if "right" in name else 0
        assert np.all(np.sign(truth["keypoints"][:, index, 0]) == side)


def test_written_photograph_is_the_rendered_object(dataset):
    kind, folder = dataset
    picture = render_object(kind, 5, 3, size=SIZE)
    np.testing.assert_array_equal(pixels(folder / "000003.png"), picture.rgb)
    np.testing.assert_array_equal(read(folder)["depth"][3], picture.depth)


def test_supersampling_only_refines():
    coarse = render_object("heads", 0, 1, size=32, supersample=1)
    fine = render_object("heads", 0, 1, size=32, supersample=3)
    assert set(np.unique(coarse.mask)) <= {0, 255}
    assert np.abs(coarse.rgb.astype(float) - fine.rgb).mean() < 8
    assert ((coarse.mask > 0) == (fine.mask > 127)).mean() > 0.97


def test_no_views_and_an_existing_result(tmp_path):
    options = {"num_images": 2, "size": 16, "views": 0}
    path = synthesize("cars", tmp_path, SynthSettings(**options), workers=1)
    assert read(tmp_path)["heldout_rgb"].shape == (2, 0, 16, 16, 3)
    before = path.stat().st_mtime_ns
    assert synthesize("cars", tmp_path, SynthSettings(**options), workers=1) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(OutputExistsError, match="seed"):
        synthesize("cars", tmp_path, SynthSettings(seed=1, **options), workers=1)
    # A picture that was lost comes back.
    lost = (tmp_path / "000001.png").read_bytes()
    (tmp_path / "000001.png").unlink()
    synthesize("cars", tmp_path, SynthSettings(**options), workers=1)
    assert (tmp_path / "000001.png").read_bytes() == lost
    # Replaced by a smaller one, no picture is left that the truth doesn't know.
    synthesize("cars", tmp_path, SynthSettings(**{**options, "num_images": 1}), workers=1, overwrite=True)
    assert sorted(contents(tmp_path)) == ["000000.png", "truth.h5"]


def test_pictures_of_others_are_safe(tmp_path):
    own = tmp_path / "000000.png"
    Image.new("RGB", (8, 8)).save(own)
    before = own.read_bytes()
    with pytest.raises(InputError, match="other images"):
        synthesize("cars", tmp_path, SynthSettings(num_images=1, size=16, views=0), workers=1)
    assert contents(tmp_path) == {"000000.png": before}


def test_an_interrupted_run_is_continued_to_the_same_files(tmp_path):
    def interrupt(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    settings = SynthSettings(
        num_images=4, size=16, views=2, heldout_objects=2, srn=True, views_per_instance=2
    )
    synthesize("cars", tmp_path / "whole", settings, workers=1)
    out, rendered, said = tmp_path / "parts", [], []
    with pytest.raises(KeyboardInterrupt):
        synthesize("cars", out, settings, workers=1, progress=interrupt)
    assert not (out / "truth.h5").exists()
    # Of the two finished objects, one is no longer as it was written.
    (out / "000001" / "rgb" / "000001.png").unlink()
    synthesize(
        "cars", out, settings, workers=1, progress=lambda done, *_: rendered.append(done), warn=said.append
    )
    assert rendered == [1, 2, 3]
    assert said == ["2 objects were finished by an earlier run, which is continued"]
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    whole = tmp_path / "whole"
    assert files == {
        path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 15}, "`size`.*at least 16"),
        ({"num_images": 0}, "`num_images`.*at least 1"),
        ({"views": -1}, "`views`"),
    ],
)
def test_bad_parameters(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        synthesize("heads", tmp_path / "out", SynthSettings(**options))
    assert not (tmp_path / "out").exists()


def test_unknown_class(tmp_path):
    with pytest.raises(InputError, match="heads or cars"):
        synthesize("boats", tmp_path / "out")


def test_command_line(tmp_path):
    out = tmp_path / "made"
    options = ("-n", 2, "--size", 16, "--views", 1, "--workers", 1)
    done = run("cars", out, *options, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 2
    assert Path(result["path"]) == out / "truth.h5"
    assert "2/2 images" in done.stderr
    again = run("cars", out, *options)
    assert again.returncode == 0
    assert again.stdout.count("\n") == 1
    other = run("cars", out, *options, "--seed", 1)
    assert other.returncode == 2
    assert "--overwrite" in other.stderr
    assert "Traceback" not in other.stderr
    assert run("cars", out, *options, "--seed", 1, "--overwrite", "--quiet").stderr == ""


@pytest.mark.parametrize("arguments", [("boats", "x"), ("cars",), ("cars", "x", "--size", "8")])
def test_wrong_usage_exits_with_2(arguments, tmp_path):
    assert run(*arguments).returncode == 2


@pytest.mark.slow
@pytest.mark.mediapipe
def test_the_face_estimator_finds_faces_in_synthetic_heads():
    images = [InputImage(render_object("heads", 3, index, size=128).rgb) for index in range(30)]
    found = map_landmarks(images, estimator_for(object_class("face")), workers=1)
    assert np.mean([detection.status in USABLE for detection in found]) >= 0.95


def test_what_a_killed_run_left_is_no_other_image(tmp_path):
    left = tmp_path / ".000001.0badcafe-1234567890ab.partial.png"
    Image.new("RGB", (8, 8)).save(left)
    synthesize("cars", tmp_path, SynthSettings(num_images=2, size=16, views=0), workers=1)
    assert (tmp_path / "truth.h5").is_file()
