"""A class that nobody thought of, from a class file and annotations alone, through all commands of docs/classes.md.

The owls are synthetic heads, so that the truth is known; nothing of the classes that ship is used.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from nerfgen import storage
from nerfgen.evaluate.held_out_views import camera_errors
from nerfgen.geometry import project, rotation_angle
from nerfgen.model import load_model
from nerfgen.synth import SynthSettings, synthesize

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "classes.md").read_text(encoding="utf-8")
(CLASS,) = re.findall(r'^```toml\n(name = "owl".*?)^```', PAGE, flags=re.MULTILINE | re.DOTALL)
(COMMANDS,) = re.findall(r"^```sh\n([^`]* owls [^`]*)^```", PAGE, flags=re.MULTILINE)
COUNT, NEW, SIZE = 64, 6, 64


@pytest.fixture(scope="module")
def owls(run, tiny_options, tmp_path_factory):
    """A folder in which the page's commands were run in order, and their results."""
    root = tmp_path_factory.mktemp("owls")
    truth = synthesize(
        "heads", root / "owls", SynthSettings(num_images=COUNT + NEW, size=SIZE, heldout_objects=0, seed=11)
    )
    with h5py.File(truth) as file:
        names = storage.strings(file["image"])
        columns = [file[name][:] for name in ("keypoints", "intrinsics", "cam_to_world")]
    pixels = [project(*of_image)[0] for of_image in zip(*columns, strict=True)]
    (root / "new").mkdir()
    for name in names[COUNT:]:
        (root / "owls" / name).rename(root / "new" / name)
    header = ["image", *(f"{axis}{number}" for number in range(5) for axis in "xy")]
    rows = [[name, *map(str, points.ravel())] for name, points in zip(names, pixels, strict=True)]
    (root / "owls.csv").write_text("\n".join(map(",".join, [header, *rows[:COUNT]])) + "\n")
    (root / "owl.toml").write_text(CLASS)
    # What is shortened; all else is as the page shows it.
    shorter = {
        "train-landmarker": ["--steps", "180", "--batch", "8", "--held-out", "0.1"],
        "landmark": ["--workers", "1"],
        "segment": ["--size", "64"],
        "train": [*tiny_options, "--set", "camera_learning_rate=0.01"],
        "render": ["--yaw", "0,30", "--size", "24", "--samples", "4"],
    }
    results = {}
    with contextlib.chdir(root):
        for line in COMMANDS.splitlines():
            command, *arguments = shlex.split(line)[1:]
            done = run(command, *arguments, *shorter.get(command, []), "--json")
            assert done.code == 0, (line, done.err)
            results[command] = json.loads(done.out)
            if command == "landmark":  # from here on, the files know the class
                (root / "owl.toml").unlink()
    return root, results


def test_the_landmarks_are_found_on_most_and_near_the_truth(owls):
    _, results = owls
    assert results["train-landmarker"]["error_percent"] < 30
    assert results["landmark"]["detected_fraction"] > 0.8


def test_the_cameras_are_those_of_the_truth_up_to_the_frame(owls):
    root, results = owls
    assert results["fit-cameras"]["canonical"]["images"] > 0.6 * COUNT
    errors = camera_errors(load_model(root / "owls"), root / "owls" / "truth.h5")
    with h5py.File(root / "owls" / "truth.h5") as file:
        poses = file["cam_to_world"][:COUNT, :3, :3]
    # Cameras that know nothing are as far off as the true ones are from one another.
    assert np.median(errors) < 0.5 * np.median(rotation_angle(poses[::2], poses[1::2]))


def test_every_owl_gets_a_mask_and_a_row(owls):
    root, results = owls
    assert results["segment"]["methods"].keys() == {"grabcut"}
    model = load_model(root / "owls")
    assert (model.object_class.name, model.object_class.landmark_names[2]) == ("owl", "beak")
    assert len(model.images) > 0.7 * COUNT
    with storage.reading(root / "owls" / "masks.h5", "masks/1") as masks:
        usable = storage.usable(storage.strings(masks["status"]))
        assert 0.1 < (masks["mask"][:][usable] > 127).mean() < 0.9
        assert storage.class_of(masks).text == CLASS


def test_new_photographs_of_the_class_are_fitted(owls):
    root, _ = owls
    with storage.reading(root / "fitted.h5", "views/1") as file:
        status = storage.strings(file["status"])
        assert storage.class_of(file).name == "owl"
    assert len(status) == NEW
    assert storage.usable(status).any()
    for picture in ("held-out.png", "cameras.png", "masks.png", "turned.png", "fitted.png"):
        with Image.open(root / picture) as sheet:
            assert np.asarray(sheet).std() > 5, picture
