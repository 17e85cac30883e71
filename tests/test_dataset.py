"""Datasets of new identities: layout, conventions, determinism, shards, resuming, and what they say of nearness."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.dataset import DatasetSettings, PoseDistribution, parse_poses, write_dataset
from nerfgen.dataset.plan import cameras_at, draw_poses, training_poses
from nerfgen.dataset.shard import surface_landmarks
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import (
    aimed_at_origin,
    pixel_centers,
    pixel_rays,
    project,
    sphere_window,
    yaw_pitch_roll,
)
from nerfgen.image import DEPTH_LEVELS
from nerfgen.model import SampleSettings, neighbours, principal_axes, save_model, truncated_draws
from nerfgen.objectclass import object_class
from nerfgen.render import RenderSettings
from nerfgen.storage import Shard


def small(count=5, seed=3, **changes):
    """Settings of a small dataset."""
    dataset = {"views": 2, "shard_size": 2, "transforms": True, **changes}
    return {
        "sampling": SampleSettings(count=count, seed=seed),
        "rendering": RenderSettings(size=12, samples=4),
        "dataset": DatasetSettings(**dataset),
    }


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """A small dataset, and what the call returned."""
    out = tmp_path_factory.mktemp("made") / "out"
    return out, write_dataset(trained, out, **small())


def contents(folder):
    """The bytes of all files below a folder, by their path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_identity_has_a_folder_in_a_shard(made, trained):
    out, result = made
    assert (result["identities"], result["views"], result["shards"], result["rendered"]) == (5, 2, 3, 5)
    for identity in range(5):
        for kind in ("rgb", "mask", "depth"):
            folder = out / f"shard-{identity // 2:05d}" / kind / f"{identity:06d}"
            pictures = sorted(path.name for path in folder.glob("*.png"))
            assert pictures == ["00.png", "01.png"]
    assert sorted(path.name for path in out.iterdir()) == [
        "dataset.json",
        "shard-00000",
        "shard-00001",
        "shard-00002",
    ]
    told = json.loads((out / "dataset.json").read_text())
    assert told["settings"]["seed"] == 3
    assert told["inputs"] == [storage.file_record(trained)]
    text = json.dumps(told)
    assert str(trained.parent) not in text
    assert str(out.parent) not in text
    for place in told["layout"]:
        assert list(out.glob(place)), f"{place} is described and there"


def test_files_of_a_shard_are_those_of_their_schemas(made, model):
    out, _ = made
    shard = out / "shard-00001"
    names = ["000002/00.png", "000002/01.png", "000003/00.png", "000003/01.png"]
    with storage.reading(shard / "rgb" / "cameras.h5", "cameras/1") as file:
        assert storage.strings(file["image"]) == names
        matrices, poses = file["intrinsics"][:], file["cam_to_world"][:]
        np.testing.assert_array_equal(file["window"][:], np.tile([0.0, 0, 12], (4, 1)))
    with storage.reading(shard / "rgb" / "masks.h5", "masks/1") as file:
        assert storage.strings(file["image"]) == names
        for name, mask in zip(names, file["mask"][:], strict=True):
            with Image.open(shard / "mask" / name) as picture:
                assert picture.mode == "L"
                np.testing.assert_array_equal(np.asarray(picture), mask)
            with Image.open(shard / "depth" / name) as picture:
                depth = np.asarray(picture) / DEPTH_LEVELS
            np.testing.assert_array_equal(depth > 0, mask >= 127.5)
            assert np.abs(depth[depth > 0] - model.distance).max() < 1.5
    with storage.reading(shard / "identities.h5", "identities/1") as file:
        np.testing.assert_array_equal(file["identity"][:], [2, 3])
        drawn = truncated_draws(5, 8, 0.7, seed=3)
        np.testing.assert_allclose(file["coefficients"][:], drawn[2:4], atol=1e-6)
        principal = model.principal
        np.testing.assert_allclose(file["latents"][:], principal.codes(drawn[2:4]), atol=1e-6)
        angles = file["poses"][:].reshape(-1, 4)
        np.testing.assert_allclose(yaw_pitch_roll(poses), angles[:, :3], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(poses[:, :3, 3], axis=-1), angles[:, 3])
        distance, row = neighbours(principal, model.latents).nearest(principal.codes(drawn[2:4]))
        np.testing.assert_array_equal(file["nearest_row"][:], row)
        np.testing.assert_allclose(file["nearest_distance"][:], distance)
    assert not (shard / "rgb" / "landmarks.h5").exists(), "cars have none"
    np.testing.assert_allclose(matrices[:, :2, 2], 6)


def test_a_shard_is_ready_to_train_on(made):
    rgb = made[0] / "shard-00000" / "rgb"
    framed = load_framed(rgb, rgb / "cameras.h5", rgb / "masks.h5", 12)
    assert len(framed.images) == 4
    assert not framed.skipped
    with Image.open(rgb / framed.images[1]) as picture:
        np.testing.assert_array_equal(framed.rgb[1], np.asarray(picture))


def test_conventions_agree_by_reprojection(made):
    """Depth lifted by cameras.h5 falls on its own pixel, and has its own depth, by transforms.json."""
    rgb = made[0] / "shard-00000" / "rgb"
    with storage.reading(rgb / "cameras.h5", "cameras/1") as file:
        matrices, poses = file["intrinsics"][:2], file["cam_to_world"][:2]
    scene = rgb / "000000"
    frames = json.loads((scene / "transforms.json").read_text())["frames"]
    pixels = pixel_centers(12)
    for frame, matrix, pose in zip(frames, matrices, poses, strict=True):
        with Image.open(scene / frame["depth_file_path"]) as picture:
            depth = np.asarray(picture).reshape(-1) / DEPTH_LEVELS
        seen = depth > 0
        origins, directions = pixel_rays(pixels, matrix, pose)
        points = (origins + directions * (depth / (directions @ pose[:3, 2]))[:, None])[seen]
        opengl = np.linalg.inv(np.array(frame["transform_matrix"]))
        local = points @ opengl[:3, :3].T + opengl[:3, 3]
        x = frame["cx"] + frame["fl_x"] * local[:, 0] / -local[:, 2]
        y = frame["cy"] - frame["fl_y"] * local[:, 1] / -local[:, 2]
        np.testing.assert_allclose(np.stack([x, y], axis=-1), pixels[seen], atol=1e-6)
        np.testing.assert_allclose(-local[:, 2], depth[seen], atol=1e-6)
        with Image.open(scene / frame["mask_path"]) as mask, Image.open(scene / frame["file_path"]) as color:
            assert mask.size == color.size == (frame["w"], frame["h"])


def test_shards_by_parts_are_the_whole(made, trained, tmp_path):
    for number in (1, 2):
        result = write_dataset(trained, tmp_path / "out", **small(shard=Shard(number, 2)))
        assert result["shards"] == (2, 1)[number - 1]
    assert contents(tmp_path / "out") == contents(made[0])


def test_identities_depend_neither_on_their_number_nor_on_shards(made, trained, tmp_path):
    write_dataset(trained, tmp_path / "out", **small(3, shard_size=3))
    few, large = contents(tmp_path / "out"), contents(made[0])
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 3 * 2 * 3
    for name in pictures:
        _, kind, identity, view = name.split("/")
        assert few[name] == large[f"shard-{int(identity) // 2:05d}/{kind}/{identity}/{view}"]


def test_a_killed_run_goes_on_to_the_same_bytes(made, trained, tmp_path):
    out = tmp_path / "out"
    options = [
        "-n",
        "5",
        "--views",
        "2",
        "--size",
        "12",
        "--samples",
        "4",
        "--shard-size",
        "2",
        "--seed",
        "3",
    ]
    words = ["sample", str(trained), "--dataset", str(out), *options, "--transforms"]
    process = subprocess.Popen([sys.executable, "-m", "nerfgen", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("shard-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The kill may come too late on a slow machine: then what it would have left is made by hand.
    for name in ("shard-00001", "shard-00002"):
        if (out / name).exists():
            (out / name).rename(out / f".{name}.{process.pid}.partial")
    first = contents(out / "shard-00000")
    changed = (out / "shard-00000").stat().st_mtime_ns
    result = write_dataset(trained, out, **small())
    assert result["rendered"] == 3
    assert (out / "shard-00000").stat().st_mtime_ns == changed
    assert first == contents(out / "shard-00000")
    assert contents(out) == contents(made[0])


def test_the_claim_of_a_run_killed_after_its_last_shard_goes(made, trained, tmp_path):
    out = tmp_path / "out"
    write_dataset(trained, out, **small())
    program = "import os, sys; from pathlib import Path; from nerfgen import storage\n"
    program += "with storage.claim(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, str(out / "shard-00001")], check=False)
    assert (out / ".shard-00001.writer").exists()
    assert write_dataset(trained, out, **small())["rendered"] == 0
    assert contents(out).keys() == contents(made[0]).keys()


def test_shards_of_other_settings_are_refused_until_overwrite(made, trained, tmp_path):
    out = tmp_path / "out"
    write_dataset(trained, out, **small(4, views=1))
    before = contents(out)
    for settings, told in (
        (small(4, views=1, seed=4), "parameter seed"),
        (small(2, views=1), "beyond 2 identities"),
        (small(4, views=1, shard_size=3), "parameter identities"),
    ):
        with pytest.raises(OutputExistsError, match=f"{told}.*`overwrite`"):
            write_dataset(trained, out, **settings)
    assert contents(out) == before
    # What another part of the same dataset has finished stays.
    kept = (out / "shard-00001").stat().st_mtime_ns
    result = write_dataset(trained, out, **small(4, views=1, shard=Shard(1, 2)), overwrite=True)
    assert result["rendered"] == 2
    assert contents(out) == before
    assert (out / "shard-00001").stat().st_mtime_ns == kept
    write_dataset(trained, out, **small(2, views=1, seed=4), overwrite=True)
    assert not (out / "shard-00001").exists()
    (out / "shard-00000" / "identities.h5").unlink()
    with pytest.raises(OutputExistsError, match="not written by nerfgen"):
        write_dataset(trained, out, **small(4, views=1), overwrite=True)


def save(path, model):
    """A changed model as a file."""
    save_model(
        storage.Stage(path, "model/1", model.object_class), model, log=np.zeros((0, 2)), log_names=["loss"]
    )
    return path


def test_copies_of_training_rows_are_counted_and_rejected(model, tmp_path):
    """Identity 1 is planted into the table, so that its first draw is a training row."""
    drawn = model.principal
    planted = np.concatenate([model.latents, np.zeros_like(model.latents[:1])])
    for _ in range(50):  # the row moves the axes that it is drawn along
        drawn = principal_axes(planted, model.config.latent_size)
        planted[-1] = drawn.codes(truncated_draws(2, 8, 0.7, seed=3))[1]
    one = {
        name: np.concatenate([getattr(model, name), getattr(model, name)[:1]])
        for name in ("image_size", "intrinsics", "cam_to_world", "window")
    }
    names = {"images": [*model.images, "copy.png"], "digests": [*model.digests, "0" * 64]}
    path = save(tmp_path / "model.h5", replace(model, latents=planted, **names, **one))
    settings = {"count": 3, "views": 1, "shard_size": 3}
    free = write_dataset(path, tmp_path / "free", **small(**settings))
    with storage.reading(tmp_path / "free" / "shard-00000" / "identities.h5", "identities/1") as file:
        distance, row = file["nearest_distance"][:], file["nearest_row"][:]
        assert file.attrs["near"] == free["near_distance"]
    assert row[1] == len(model.images)
    assert distance[1] < 1e-2
    assert free["too_near"] == (distance <= free["near_distance"]).sum() >= 1
    assert free["rejected"] == 0
    kept = write_dataset(path, tmp_path / "kept", **small(**settings, min_distance=0.05))
    assert kept["rejected"] >= 1
    with storage.reading(tmp_path / "kept" / "shard-00000" / "identities.h5", "identities/1") as file:
        assert file["nearest_distance"][:].min() >= 0.05
        assert file["attempts"][1] > 1
    with pytest.raises(InputError, match="`min_distance`"):
        write_dataset(path, tmp_path / "none", **small(**settings, min_distance=1.4))
    assert not list((tmp_path / "none").glob("*shard*"))


def test_faces_bring_their_landmarks(model, tmp_path):
    path = save(tmp_path / "model.h5", replace(model, object_class=object_class("face")))
    result = write_dataset(path, tmp_path / "out", **small(2))
    assert result["landmarks"]
    face, rgb = object_class("face"), tmp_path / "out" / "shard-00000" / "rgb"
    with (
        storage.reading(rgb / "landmarks.h5", "landmarks/1") as file,
        storage.reading(rgb / "cameras.h5", "cameras/1") as cameras,
        storage.reading(rgb.parent / "identities.h5", "identities/1") as identities,
    ):
        assert storage.strings(file["image"]) == storage.strings(cameras["image"])
        assert tuple(storage.strings(file["landmark_names"])) == face.landmark_names
        content = (rgb / storage.strings(file["image"])[2]).read_bytes()
        assert file["image_bytes"][2] == len(content)
        points = np.repeat(identities["landmarks"][:], 2, axis=0)
        pixels, _ = project(points, cameras["intrinsics"][:], cameras["cam_to_world"][:])
        np.testing.assert_allclose(file["landmarks"][:], pixels, atol=1e-5)
        # The window of a face shows more than the unit sphere.
        windows = sphere_window(cameras["intrinsics"][:], cameras["cam_to_world"][:], face.reach)
        np.testing.assert_allclose(windows, np.tile([0.0, 0, 12], (4, 1)), atol=1e-9)


def test_landmarks_move_to_the_surface_and_no_farther(model):
    """Points before and behind a car's front, one too far before it, and one that no ray finds."""
    points = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.25], [0.0, 0.0, 1.2], [0.9, 0.9, 0.0]])
    found = surface_landmarks(model, model.latents[0], points)
    np.testing.assert_array_equal(found[2:], points[2:])
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)
    np.testing.assert_allclose(found[0, :2], 0, atol=1e-9)
    assert 0.25 < found[0, 2] < 0.5


def test_poses_are_those_of_the_training_cameras(model):
    table = training_poses(model)
    cars = object_class("cars")
    aimed = cameras_at(table, cars.reach)
    np.testing.assert_allclose(aimed.cam_to_world[:, :3, 3], model.cam_to_world[:, :3, 3], atol=1e-9)
    drawn = draw_poses(PoseDistribution(), table, 0, 4, 30)
    assert all((np.abs(table - pose).max(1) == 0).any() for pose in drawn)
    assert len(np.unique(drawn, axis=0)) > 10
    np.testing.assert_array_equal(draw_poses(PoseDistribution(), table, 0, 4, 3), drawn[:3])
    assert (draw_poses(PoseDistribution(), table, 0, 5, 30) != drawn).any()


def test_poses_follow_their_distribution(model):
    table = training_poses(model)
    many = np.concatenate(
        [draw_poses(parse_poses("poses", "uniform:40,10"), table, 1, k, 20) for k in range(50)]
    )
    np.testing.assert_allclose(many[:, :2].std(0), np.array([40, 10]) / np.sqrt(3), rtol=0.1)
    assert (np.abs(many[:, :2]) <= [40, 10]).all()
    assert (many[:, 2] == 0).all()
    np.testing.assert_allclose(many[:, 3], model.distance)
    normal = np.concatenate(
        [draw_poses(parse_poses("poses", "normal:20,5"), table, 1, k, 20) for k in range(50)]
    )
    np.testing.assert_allclose(normal[:, :2].std(0), [20, 5], rtol=0.1)
    assert np.abs(normal[:, :2].mean(0)).max() < 2


def test_aiming_at_the_origin_keeps_place_and_smallest_turn(model):
    poses = model.cam_to_world.copy()
    poses[:, :3, 3] += 0.2
    aimed = aimed_at_origin(poses)
    pixels, depth = project(np.zeros((len(poses), 1, 3)), np.eye(3), aimed)
    np.testing.assert_allclose(pixels, 0, atol=1e-9)
    assert (depth > 0).all()
    np.testing.assert_array_equal(aimed[:, :3, 3], poses[:, :3, 3])
    np.testing.assert_allclose(aimed_at_origin(aimed), aimed, atol=1e-9)
    turn = np.swapaxes(poses[:, :3, :3], 1, 2) @ aimed[:, :3, :3]
    axis = np.stack(
        [turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]]
    )
    np.testing.assert_allclose(axis[2], 0, atol=1e-9)  # no turn about the optical axis


@pytest.mark.parametrize(
    "text", ["", "left", "uniform", "uniform:3", "normal:a,b", "uniform:200,3", "training:1"]
)
def test_poses_that_are_none_are_told(text):
    with pytest.raises(InputError, match="`poses`"):
        parse_poses("poses", text)


@pytest.mark.slow
def test_workers_of_dask_write_the_same_files(trained, tmp_path):
    pytest.importorskip("distributed")
    alone, together = tmp_path / "alone", tmp_path / "together"
    expected = write_dataset(trained, alone, **small())
    found = write_dataset(trained, together, **small(), scheduler="local", workers=2)
    assert found | {"output": ""} == expected | {"output": ""}
    names = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(together) for path in together.rglob("*") if path.is_file())
    assert [(together / name).read_bytes() for name in names] == [
        (alone / name).read_bytes() for name in names
    ]
