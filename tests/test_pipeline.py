"""Whole pipelines, judged by ground truth: geometry that only a true 3D model gets right."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image

from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.evaluate.held_out_views import held_out_views, score_model, score_views
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays, project
from nerfgen.image import resample_window
from nerfgen.model import PRESETS, load_model
from nerfgen.render import Views, render_views
from nerfgen.synth import SynthSettings, synthesize
from nerfgen.train import TrainingFiles, train

pytestmark = pytest.mark.slow

SIZE = 32
# A bar that the class mean and flat pictures must fail, below.
# Depth is correlated within each view: over all views together, how far off the car is would count too.
FOREGROUND_PSNR_DB, DEPTH_CORRELATION = 17.0, 0.9


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Three hundred cars and a model of them: (truth, model file)."""
    folder = tmp_path_factory.mktemp("street")
    truth = synthesize(
        "cars", folder, SynthSettings(num_images=300, size=SIZE, views=3, heldout_objects=16, seed=1)
    )
    recipe = PRESETS["fast"].with_values(
        size=SIZE,
        camera_learning_rate=0,
        images_per_batch=32,
        rays_per_image=32,
        latent_size=24,
        plane_size=24,
        latent_learning_rate=0.05,
        steps=1200,
    )
    train(TrainingFiles(folder, truth, truth, folder / "model.h5"), recipe, object_class="cars")
    return truth, folder / "model.h5"


@pytest.fixture(scope="module")
def scores(street):
    truth, file = street
    return score_model(load_model(file), truth)


def billboards(model, truth, held_out):
    """Each object as its photograph's foreground on a plane through the origin that faces its camera."""
    framed = load_framed(truth.parent, truth, truth, SIZE)
    at = storage.positions(model.images, framed.images)[held_out.row]
    centers = pixel_centers(SIZE)
    pictures = []
    for view, row in enumerate(at):
        own_pose, own_k = framed.cam_to_world[row], framed.raster_intrinsics[row]
        pose, matrix = held_out.cam_to_world[view], held_out.intrinsics[view]
        normal = optical_axis(own_pose)
        origins, directions = pixel_rays(centers, matrix, pose)
        distance = -(origins @ normal) / (directions @ normal)
        points = origins + distance[:, None] * directions
        seen, before = project(points, own_k, own_pose)
        column, line = np.floor(seen).astype(int).clip(0, SIZE - 1).T
        met = (distance > 0) & (before > 0) & (np.abs(seen - SIZE / 2) < SIZE / 2).all(-1)
        opacity = np.where(met, framed.mask[row][line, column] / 255, 0)
        depth = np.where(opacity > 0.5, distance * (directions @ optical_axis(pose)), 0)
        pictures.append((framed.rgb[row][line, column] / 255 * opacity[:, None], opacity, depth))
    color, opacity, depth = (np.stack(values) for values in zip(*pictures, strict=True))
    shape = (len(at), SIZE, SIZE)
    color = color.reshape(*shape, 3)
    return Views((color * 255).astype(np.uint8), color, opacity.reshape(shape), depth.reshape(shape))


def test_new_views_of_cars_pass_the_bar(scores):
    assert scores["foreground_psnr_db"] > FOREGROUND_PSNR_DB
    assert scores["psnr_db"] > scores["class_mean_psnr_db"] + 1
    assert scores["depth_correlation_within_views"] > DEPTH_CORRELATION
    assert scores["mask_iou"] > 0.8


def test_the_class_mean_fails_the_bar(scores):
    assert scores["class_mean_foreground_psnr_db"] < FOREGROUND_PSNR_DB
    assert scores["class_mean_depth_correlation_within_views"] < DEPTH_CORRELATION


def test_flat_pictures_fail_the_bar(street):
    truth, file = street
    model = load_model(file)
    held_out = held_out_views(model, truth)
    flat = score_views(billboards(model, truth, held_out), held_out)
    assert flat["depth_correlation_within_views"] < DEPTH_CORRELATION
    assert flat["foreground_psnr_db"] < FOREGROUND_PSNR_DB


def test_billboards_show_their_own_photograph(street):
    """The baseline itself is right: from the camera of the photograph it is the photograph."""
    truth, file = street
    model = load_model(file)
    framed = load_framed(truth.parent, truth, truth, SIZE)
    own = held_out_views(model, truth)
    rows = np.unique(own.row)
    at = storage.positions(model.images, framed.images)[rows]
    own = replace(
        own,
        row=rows,
        scale=np.ones(len(rows)),
        rgb=framed.rgb[at] / 255,
        mask=framed.mask[at] / 255,
        depth=np.ones((len(rows), SIZE, SIZE)),
        intrinsics=framed.raster_intrinsics[at],
        cam_to_world=framed.cam_to_world[at],
    )
    assert score_views(billboards(model, truth, own), own)["psnr_db"] > 30


def test_true_depth_scores_perfectly(street):
    """The judgement itself is right: the truth as a prediction gets full marks, and mirrored depth none."""
    truth, file = street
    held_out = held_out_views(load_model(file), truth)
    color = held_out.rgb - 1 + held_out.mask[..., None]
    perfect = Views((held_out.rgb * 255).astype(np.uint8), color, held_out.mask, held_out.depth)
    marks = score_views(perfect, held_out)
    assert marks["depth_correlation"] == pytest.approx(1, abs=1e-6)
    assert marks["depth_correlation_within_views"] == pytest.approx(1, abs=1e-6)
    assert marks["mask_iou"] == 1
    assert marks["psnr_db"] > 60
    wrong = Views(perfect.rgb, color, held_out.mask, 10 - held_out.depth)
    assert score_views(wrong, held_out)["depth_correlation_within_views"] == pytest.approx(-1, abs=1e-6)


def test_a_model_turns_consistently(street):
    """Views of one object agree with each other: a surface point seen in one view has its depth in the next."""
    truth, file = street
    model = load_model(file)
    held_out = held_out_views(model, truth)
    first, second = held_out.cam_to_world[0], held_out.cam_to_world[0].copy()
    angle = np.radians(10)
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    second = turn @ second
    code, matrix = model.latents[held_out.row[:1]], held_out.intrinsics[:1]
    one, other = (render_views(model, code, matrix, pose[None], SIZE) for pose in (first, second))
    solid = one.opacity[0].ravel() > 0.95
    origins, directions = pixel_rays(pixel_centers(SIZE)[solid], matrix[0], first)
    points = (
        origins + (one.depth[0].ravel()[solid] / (directions @ optical_axis(first)))[:, None] * directions
    )
    pixels, depth = project(points, matrix[0], second)
    column, line = np.floor(pixels).astype(int).clip(0, SIZE - 1).T
    there = other.depth[0][line, column]
    both = there > 0
    assert both.mean() > 0.85
    # What is hidden in the second view lies behind what is seen there.
    assert np.median(np.abs(there - depth)[both]) < 0.08


KEYS = {
    "images",
    "detected_fraction",
    "camera_rotation_error_deg_median",
    "novel_view_psnr_db",
    "class_mean_psnr_db",
    "depth_correlation",
    "class_mean_depth_correlation",
    "mask_iou",
    "seconds",
}


@pytest.fixture(scope="module")
def demo(run, tmp_path_factory):
    """`nerfgen demo --quick` on heads: (folder, how it ended)."""
    pytest.importorskip("mediapipe")
    folder = tmp_path_factory.mktemp("demo") / "with a space"
    return folder, run("demo", folder, "--quick", timeout=1200)


@pytest.mark.mediapipe
def test_the_demo_estimates_everything_from_photographs(demo):
    folder, done = demo
    assert done.code == 0, done.err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.keys() >= KEYS
    stages = {"synth", "landmark", "fit-cameras", "segment", "train", "render", "sample", "total"}
    assert summary["seconds"].keys() >= stages
    parts = sum(value for name, value in summary["seconds"].items() if name != "total")
    assert summary["seconds"]["total"] == pytest.approx(parts, rel=0.05)
    assert summary["detected_fraction"] >= 0.97
    assert summary["camera_rotation_error_deg_median"] < 6
    assert summary["novel_view_psnr_db"] > summary["class_mean_psnr_db"]
    assert summary["depth_correlation"] > 0.7
    assert summary["mask_iou"] > 0.8
    assert f"{summary['novel_view_psnr_db']:.2f}" in done.out
    for name in ("landmarks.png", "cameras.png", "masks.png", "turned.png", "new.gif"):
        with Image.open(folder / "pictures" / name) as picture:
            assert picture.width > 100
    for command in ("synth", "landmark", "fit-cameras", "segment", "train", "render", "sample"):
        assert f"$ nerfgen {command} " in done.err, "every command is shown as it would be typed"


@pytest.mark.mediapipe
def test_a_photograph_is_fitted_by_the_command_line(demo, run, tmp_path):
    folder, done = demo
    assert done.code == 0, done.err
    photograph, output = folder / "heads" / "000003.png", tmp_path / "views.h5"
    album = tmp_path / "album"
    (album / "more").mkdir(parents=True)
    shutil.copyfile(photograph, album / "a.png")
    shutil.copyfile(photograph, album / "more" / "a.png")
    (album / "cut.png").write_bytes(photograph.read_bytes()[:900])
    words = ["render", folder / "heads", "--image", album, "-o", output, "--yaw", "0,30", "--samples", 16]
    words += ["--fit-steps", 60, "--tune", "--tune-steps", 5]
    fitted = run(*words, "--sheet", tmp_path / "sheet.png", "--json")
    assert fitted.code == 0, fitted.err
    result = json.loads(fitted.out)
    with h5py.File(output) as file:
        quality = file["fit_psnr"][:]
        assert file["rgb"].shape[:2] == (3, 3)
        np.testing.assert_array_equal(file["row"][:], -1)
        assert file["tuned"].keys() == {"0", "2"}
        own, matrix, window = file["rgb"][0, 0], file["intrinsics"][0, 0], file["rgb"].shape[2]
    told = {each["name"]: each for each in result["photographs"]}
    assert [each["status"] for each in told.values()] == ["ok", "unreadable", "ok"]
    assert told.keys() == {"a.png", "cut.png", "more/a.png"}
    assert told["cut.png"] == {"name": "cut.png", "status": "unreadable", "psnr_db": None, "iterations": 0}
    assert told["a.png"]["psnr_db"] == pytest.approx(float(quality[0]))
    assert told["a.png"]["iterations"] in (60, 120)
    assert quality[0] > 15
    assert abs(quality[0] - quality[2]) < 0.1, "the same photograph"
    assert matrix[0, 2] == pytest.approx(window / 2, abs=window)
    # The first view is the photograph's own: it looks like the photograph more than the turned head does.
    with h5py.File(folder / "heads" / "model.h5") as file:
        names = [name.decode() for name in file["image"][:]]
        frame = file["window"][names.index("000003.png")]
    with Image.open(photograph) as picture:
        seen = resample_window(np.asarray(picture.convert("RGB")), tuple(frame), window)[0]
    with h5py.File(output) as file:
        turned = file["rgb"][0, 2]
    error = [np.mean((picture.astype(float) - seen) ** 2) for picture in (own, turned)]
    assert error[0] < error[1]


@pytest.mark.mediapipe
def test_a_picture_without_a_face_is_told_in_one_line(demo, run, tmp_path):
    folder, _ = demo
    y, x = np.mgrid[:90, :120]
    Image.fromarray(np.stack([x * 2, y * 2, x + y], axis=-1).astype(np.uint8)).save(tmp_path / "field.png")
    done = run(
        "render", folder / "heads", "--image", tmp_path / "field.png", "-o", tmp_path / "v.h5", "--quiet"
    )
    assert done.code == 2
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert "field.png" in lines[0]
    assert "Traceback" not in done.err
    assert not (tmp_path / "v.h5").exists()
