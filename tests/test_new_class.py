"""A class that nobody thought of, from a class file and annotations alone, through all commands.

Busts are synthetic heads under another name, so that the truth is known; nothing of the classes that ship is used.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from PIL import Image

from nerfgen import artifact
from nerfgen.field import load_model
from nerfgen.geometry import project, rotation_angle
from nerfgen.metric import camera_errors
from nerfgen.synth import write_dataset

pytestmark = pytest.mark.slow

CLASS = """\
name = "bust"
landmarks = ["eye_left", "eye_right", "nose", "corner_left", "corner_right"]
symmetry = [["eye_left", "eye_right"], ["corner_left", "corner_right"]]
unit = ["eye_left", "eye_right"]
nearest = ["nose"]
spread = 0.32
center = [0, -0.2, 0.5]
bounds = [1.2, 1.2, 1.2]
"""
COUNT, NEW, SIZE = 100, 4, 64


@pytest.fixture(scope="module")
def busts(run, tiny_options, tmp_path_factory):
    """The folder of photographs after the whole pipeline, and each command's result."""
    root = tmp_path_factory.mktemp("busts")
    data, new = root / "data", root / "new"
    truth = write_dataset("heads", data, num_images=COUNT + NEW, size=SIZE, heldout_objects=0, seed=11)
    with h5py.File(truth) as file:
        names = artifact.strings(file["image"])
        pixels = [
            project(points, matrix, pose)[0]
            for points, matrix, pose in zip(
                file["keypoints"][:], file["intrinsics"][:], file["cam_to_world"][:], strict=True
            )
        ]
    new.mkdir()
    for name in names[COUNT:]:
        (data / name).rename(new / name)
    (root / "bust.toml").write_text(CLASS)
    lines = [",".join([name, *map(str, points.ravel())]) for name, points in zip(names, pixels, strict=True)]
    header = ",".join(["image", *(f"{axis}{number}" for number in range(5) for axis in "xy")])
    (root / "busts.csv").write_text("\n".join([header, *lines[:COUNT]]) + "\n")
    estimator = root / "bust.h5"
    described = ["--class", root / "bust.toml"]
    learn = [*described, "--steps", 160, "--batch", 12, "-o", estimator]
    fit = ["--image", new, "--landmarker", estimator, "--fit-steps", 20, "-o", root / "fitted.h5"]
    steps = {
        "train-landmarker": [data, root / "busts.csv", *learn],
        "landmark": [data, *described, "--model", estimator],
        "fit-cameras": [data],
        "segment": [data, "--size", 64],
        "train": [data, *tiny_options, "--set", "camera_learning_rate=0.01", "--no-preview"],
        "render": [data / "model.h5", *fit, "--yaw", "0,30", "--sheet", root / "turned.png"],
    }
    results = {}
    for command, arguments in steps.items():
        done = run(command, *arguments, "--json")
        assert done.code == 0, (command, done.err)
        results[command] = json.loads(done.out)
        if command == "landmark":  # from here on, the files know the class
            (root / "bust.toml").unlink()
    return data, results


def test_the_landmarks_are_found_on_most_and_near_the_truth(busts):
    _data, results = busts
    assert results["train-landmarker"]["error_percent"] < 25
    assert results["landmark"]["detected_fraction"] > 0.8


def test_the_cameras_are_those_of_the_truth_up_to_the_frame(busts):
    data, results = busts
    assert results["fit-cameras"]["canonical"]["images"] > 0.6 * COUNT
    errors = camera_errors(load_model(data / "model.h5"), data / "truth.h5")
    with h5py.File(data / "truth.h5") as file:
        poses = file["cam_to_world"][:COUNT, :3, :3]
    # Cameras that know nothing are as far off as the true ones are from one another.
    assert np.median(errors) < 0.5 * np.median(rotation_angle(poses[::2], poses[1::2]))


def test_every_bust_gets_a_mask_and_a_row(busts):
    data, results = busts
    assert results["segment"]["methods"].keys() == {"grabcut"}
    model = load_model(data / "model.h5")
    assert model.object_class.name == "bust"
    assert model.object_class.landmark_names[2] == "nose"
    assert len(model.images) > 0.7 * COUNT
    with artifact.reading(data / "masks.h5", "masks/1") as masks, h5py.File(data / "truth.h5") as truth:
        usable = artifact.usable(artifact.strings(masks["status"]))
        assert 0.1 < (masks["mask"][:][usable] > 127).mean() < 0.9
        assert artifact.class_of(masks).text == CLASS
        assert truth.attrs["class"] == "heads"


def test_new_photographs_of_the_class_are_fitted(busts):
    data, _results = busts
    with artifact.reading(data.parent / "fitted.h5", "views/1") as file:
        status = artifact.strings(file["status"])
        assert artifact.class_of(file).name == "bust"
    assert len(status) == NEW
    assert artifact.usable(status).any()
    with Image.open(data.parent / "turned.png") as sheet:
        assert np.asarray(sheet).std() > 5
