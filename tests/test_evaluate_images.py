"""Tables *fit*, *novel* and *depth*: held-out images, novel views and true depth."""

from __future__ import annotations

import csv
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from edited import edited

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.evaluate import EvaluationInputs, EvaluationSettings
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.depth import depth_table
from nerfgen.evaluate.held_out_views import score_model
from nerfgen.evaluate.inputs import read_keypoints, read_pairs, read_visible
from nerfgen.evaluate.novel_views import novel_table
from nerfgen.evaluate.reconstruction import fit_table
from nerfgen.evaluate.true_depth import denormalize_depth, normalize_depth
from nerfgen.geometry import project, rotation_from_vector
from nerfgen.metric import available_networks
from nerfgen.objectclass import object_class
from nerfgen.render import FLAT, render_views, surface_depths
from nerfgen.report.catalogue import metric_info
from nerfgen.synth import SynthSettings, synthesize

FEW = EvaluationSettings(images=6, fit_steps=20, shown=2)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Cars that the tiny model was not trained on, with held-out views."""
    folder = tmp_path_factory.mktemp("others")
    synthesize("cars", folder, SynthSettings(num_images=5, size=32, views=1, heldout_objects=5, seed=4))
    return folder


@pytest.fixture(scope="module")
def unseen(model, trained, cars, others) -> EvaluationContext:
    """The model and the held-out cars, fitted once."""
    return EvaluationContext(model, EvaluationInputs(trained, cars, others), FEW)


def means(table) -> dict[str, float]:
    return {name: figure.mean for name, figure in table.summary().items()}


def write_rows(path: Path, rows) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


# --- held-out images ---


@pytest.mark.slow
def test_held_out_images_are_compared_at_two_sizes(unseen) -> None:
    table = fit_table(unseen)
    figures = means(table)
    assert len(table.values["psnr_db"].items) == 5
    assert figures["psnr_db"] > 15
    assert figures["psnr_2x_db"] > 15
    assert 0 < figures["ssim"] < 1
    assert len(table.values["non_flatness"].items) == 5
    assert figures["non_flatness"] > FLAT
    assert any(line.startswith("detected_fraction") for line in table.missing)
    assert "identity_similarity" not in figures
    if available_networks(["features"]):
        assert figures["turned_feature_frechet"] > 0
    assert all(metric_info(metric).title != metric for metric in figures)


@pytest.mark.slow
def test_training_images_are_left_out_of_held_out_ones(model, trained, cars, others, tmp_path) -> None:
    for path in others.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    shutil.copyfile(cars / model.images[0], tmp_path / "known.png")
    table = fit_table(
        EvaluationContext(
            model, EvaluationInputs(trained, cars, tmp_path), EvaluationSettings(images=9, fit_steps=2)
        )
    )
    assert "known.png" not in table.values["psnr_db"].items
    assert any(line.startswith("1 more") for line in table.notes)


def test_unusable_images_are_noted_without_their_folder(model, trained, cars, others, tmp_path) -> None:
    shutil.copyfile(next(others.glob("*.png")), tmp_path / "new.png")
    context = EvaluationContext(model, EvaluationInputs(trained, cars, tmp_path), FEW)
    for table in (fit_table(context), novel_table(context)):
        assert not table.values
        assert any("truth.h5" in line for line in table.missing)
        assert str(tmp_path) not in "".join(table.missing)


# --- novel views ---


def test_novel_views_of_training_objects_agree_with_their_scores(model, trained, cars) -> None:
    table = novel_table(EvaluationContext(model, EvaluationInputs(trained, cars), FEW))
    known = score_model(model, cars / "truth.h5")
    figures = means(table)
    # Images are compared with 8 bits.
    assert figures["psnr_db"] == pytest.approx(known["foreground_psnr_db"], abs=0.05)
    assert figures["mask_iou"] == pytest.approx(known["mask_iou"], abs=1e-6)
    assert figures["mean_code_psnr_db"] == pytest.approx(known["class_mean_foreground_psnr_db"], abs=0.05)
    assert any("table's latent codes" in line for line in table.notes)


@pytest.mark.slow
def test_further_images_of_an_object_are_its_novel_views(model, trained, cars, tmp_path) -> None:
    synthesize(
        "cars",
        tmp_path,
        SynthSettings(
            num_images=3, size=32, views=0, heldout_objects=0, seed=5, views_per_instance=3, srn=True
        ),
    )
    context = EvaluationContext(
        model, EvaluationInputs(trained, cars, tmp_path), EvaluationSettings(images=10, fit_steps=20)
    )
    table = novel_table(context)
    with h5py.File(tmp_path / "truth.h5") as file:
        shown = dict(zip(storage.strings(file["image"]), storage.strings(file["instance"]), strict=True))
    pairs = [item.split(" -> ") for item in table.values["psnr_db"].items]
    # Ten images are of two objects, with up to four further views of each.
    assert len(pairs) == 4
    assert all(shown[first] == shown[second] and first != second for first, second in pairs)
    assert means(table)["mask_iou"] > 0.6


# --- depth ---


@dataclass(frozen=True)
class OwnTruth:
    """A folder whose ground truth is the model's own rendering, in another world."""

    data: Path
    pixels: np.ndarray
    depth: np.ndarray


@pytest.fixture(scope="module")
def own_truth(model, cars, tmp_path_factory) -> OwnTruth:
    """The model's own surfaces as the ground truth of its images, in a rotated world of twice the size; one keypoint of
    each car lies behind it."""
    data = tmp_path_factory.mktemp("own")
    turn, scale, size = rotation_from_vector(np.array([0.4, -1.0, 0.2])), 2.0, 32
    names = list(model.images)
    views = render_views(model, model.latents, model.intrinsics, model.cam_to_world, size)
    shutil.copyfile(cars / "truth.h5", data / "truth.h5")
    # Visible surface points of each car: well inside, and not at pixel centres.
    pixels = np.zeros((len(names), 8, 2))
    for own, opacity in zip(pixels, views.opacity, strict=True):
        row, column = np.nonzero(opacity > 0.9)
        chosen = np.linspace(0, len(row) - 1, 8).astype(int)
        own[:] = np.stack([column, row], axis=-1)[chosen] + np.array([0.3, 0.6])
    depth = surface_depths(model, model.latents, pixels, model.intrinsics, model.cam_to_world)
    assert np.isfinite(depth).mean() > 0.95
    with edited(data / "truth.h5") as file:
        assert storage.strings(file["image"]) == names
        poses = np.tile(np.eye(4), (len(names), 1, 1))
        poses[:, :3, :3] = turn @ model.cam_to_world[:, :3, :3]
        poses[:, :3, 3] = scale * model.cam_to_world[:, :3, 3] @ turn.T
        file["cam_to_world"][:] = poses
        file["depth"][:] = scale * views.depth
        file["mask"][:] = np.where(views.depth > 0, 255, 0)
        local = (
            np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], -1)
            @ np.linalg.inv(model.intrinsics).swapaxes(1, 2)
            * (scale * np.nan_to_num(depth, nan=1.0))[..., None]
        )
        local[:, 0] *= 1.3
        file["keypoints"][:] = local @ poses[:, :3, :3].swapaxes(1, 2) + poses[:, None, :3, 3]
    return OwnTruth(data, pixels, depth)


def test_normalized_depth_is_independent_of_unit_and_focal_length() -> None:
    pose = np.eye(4)[None].copy()
    pose[0, 2, 3] = -4.0
    focal = np.diag([100.0, 100.0, 1.0])[None]
    side = np.array([50.0])
    assert normalize_depth(np.array([[5.0, 4.0]]), focal, pose, side) == pytest.approx(np.array([[0.5, 0.0]]))
    larger = pose.copy()
    larger[0, :3, 3] *= 3
    assert normalize_depth(np.array([[15.0]]), focal, larger, side) == pytest.approx(np.array([[0.5]]))
    # At twice the distance and focal length, the object has the same size in the image.
    far = pose.copy()
    far[0, 2, 3] = -8.0
    double = np.diag([200.0, 200.0, 1.0])[None]
    assert normalize_depth(np.array([[9.0]]), double, far, side) == pytest.approx(np.array([[0.5]]))
    assert denormalize_depth(np.array([[0.5, 0.0]]), focal, pose, side) == pytest.approx(
        np.array([[5.0, 4.0]])
    )


def test_a_model_agrees_with_its_own_depth_in_another_world(model, trained, own_truth) -> None:
    table = depth_table(
        EvaluationContext(model, EvaluationInputs(trained, own_truth.data), EvaluationSettings(images=10))
    )
    figures = means(table)
    for name in ("pearson", "spearman", "keypoint_pearson", "keypoint_spearman"):
        assert figures[name] > 0.9999, name
        assert figures[f"{name}_pooled"] > 0.9999, name
    # Seven of the eight keypoints are visible: all correlations over images are 1, not those of the mean code.
    assert figures["depth_corr"] == pytest.approx(7, abs=1e-3)
    assert figures["mean_code_depth_corr"] < 6.9
    points = table.points["keypoints"]
    np.testing.assert_allclose(points.y, points.x, atol=1e-4)
    assert len(points.x) <= 70
    assert any("hidden" in line for line in table.notes)
    # Normals of so small a model are rough; in the other world's axes the error would exceed 90 degrees.
    assert figures["normals_error_deg"] < 35
    true, predicted = (table.grids["depth and normals"].rgb[:, column].astype(int) for column in (1, 2))
    assert np.abs(true - predicted).max() <= 2


def test_depth_is_compared_with_the_truth_of_held_out_images(unseen, others) -> None:
    table = depth_table(unseen)
    assert len(table.values["pearson"].items) == 5
    assert means(table)["pearson"] > 0.5
    assert others.name in table.notes[0]


def test_true_keypoints_of_any_unit(model, trained, cars, own_truth, tmp_path) -> None:
    names, depth = list(model.images)[:4], own_truth.depth[:4]
    header = ["image", *(f"{axis}{k}" for k in range(8) for axis in "xyz")]

    def figures(z: np.ndarray, more=()) -> tuple[dict[str, float], list[str]]:
        rows = [
            [name, *np.concatenate([xy, own[:, None]], axis=1).reshape(-1).tolist()]
            for name, xy, own in zip(names, own_truth.pixels[:4], np.nan_to_num(z, nan=4.0), strict=True)
        ]
        path = write_rows(tmp_path / "keypoints.csv", [header, *rows, *more])
        table = depth_table(EvaluationContext(model, EvaluationInputs(trained, cars, keypoints=path), FEW))
        return means(table), table.notes

    same, _ = figures(25 * depth + 7 * np.arange(4)[:, None])
    assert same["pearson"] == pytest.approx(1, abs=1e-4)
    assert same["pearson_pooled"] == pytest.approx(1, abs=1e-4)
    assert same["keypoint_spearman"] == same["spearman"] > 0.99
    towards, _ = figures(-depth)
    assert towards["pearson"] == pytest.approx(-1, abs=1e-4)
    with pytest.raises(InputError, match=r"keypoints.csv.*nobody.png"):
        figures(depth, [["nobody.png", *[""] * 24]])


def test_corners_of_the_inner_mouth_do_not_count(model, trained, cars, own_truth, tmp_path) -> None:
    """Of 68 keypoints, DepthCorr sums the 66 that 3DFAW annotates."""
    at = np.arange(68) % 7 + 1
    seen = np.flatnonzero(np.isfinite(own_truth.depth).all(1))[:5]
    z = 10 * own_truth.depth[seen][:, at]
    z[:, (60, 64)] = [[1.0, 9.0]]
    rows = [
        [
            model.images[k],
            *np.concatenate([own_truth.pixels[k][at], own[:, None]], axis=1).reshape(-1).tolist(),
        ]
        for k, own in zip(seen, z, strict=True)
    ]
    header = ["image", *(f"{axis}{k}" for k in range(68) for axis in "xyz")]
    path = write_rows(tmp_path / "keypoints.csv", [header, *rows])
    table = depth_table(EvaluationContext(model, EvaluationInputs(trained, cars, keypoints=path), FEW))
    assert means(table)["depth_corr"] == pytest.approx(66, abs=0.01)
    assert any("at most 66" in line and "60 and 64" in line for line in table.notes)


def test_hidden_keypoints_are_correlated_apart(model, trained, cars, own_truth, tmp_path) -> None:
    """Hidden keypoints of reversed depth spoil only the figures of all and of hidden ones."""
    names, depth = list(model.images)[:4], np.nan_to_num(own_truth.depth[:4], nan=4.0)
    hidden = np.tile(np.arange(8) >= 4, (4, 1))
    z = np.where(hidden, -depth, depth)
    keypoints = write_rows(
        tmp_path / "keypoints.csv",
        [
            ["image", *(f"{axis}{k}" for k in range(8) for axis in "xyz")],
            *(
                [name, *np.concatenate([xy, own[:, None]], axis=1).reshape(-1).tolist()]
                for name, xy, own in zip(names, own_truth.pixels[:4], z, strict=True)
            ),
        ],
    )
    header = ["image", *(f"p{k}" for k in range(8))]
    visible = write_rows(
        tmp_path / "visible.csv",
        [header, *([name, *(1 - own.astype(int)).tolist()] for name, own in zip(names, hidden, strict=True))],
    )
    inputs = EvaluationInputs(trained, cars, keypoints=keypoints, visible=visible)
    figures = means(depth_table(EvaluationContext(model, inputs, FEW)))
    for name in ("pearson", "spearman"):
        assert figures[f"keypoint_{name}_visible_pooled"] > 0.99
        assert figures[f"keypoint_{name}_visible"] > 0.99
        assert figures[f"keypoint_{name}_hidden_pooled"] < -0.99
        assert abs(figures[f"keypoint_{name}_pooled"]) < 0.99
    # At hidden points, depths that are reversed and standardised correlate as well: only the sign is lost.
    assert figures["depth_corr_visible"] == pytest.approx(4, abs=0.1)
    assert figures["depth_corr"] < 8
    assert figures["mean_code_keypoint_pearson_visible_pooled"] < figures["keypoint_pearson_visible_pooled"]
    assert all(metric_info(metric).title != metric for metric in figures)
    with pytest.raises(InputError, match=r"visible.csv.*`keypoints`"):
        depth_table(EvaluationContext(model, replace(inputs, keypoints=None), FEW))
    for rows, message in (
        ([header, [names[0], *"11110000"]], names[1]),
        ([header[:-1], *([name, *"1111000"] for name in names)], "7 points"),
    ):
        write_rows(visible, rows)
        with pytest.raises(InputError, match=f"visible.csv.*{message}"):
            depth_table(EvaluationContext(model, inputs, FEW))


def test_relative_depth_of_landmarks_is_a_proxy(model, trained, cars, own_truth, tmp_path) -> None:
    context = EvaluationContext(model, EvaluationInputs(trained, tmp_path), FEW)
    assert any("`keypoints`" in line for line in depth_table(context).missing)
    names, count = list(model.images), len(model.images)
    mesh = np.concatenate([own_truth.pixels, -3 + 5 * own_truth.depth[..., None]], axis=-1)
    with storage.Stage(tmp_path / "landmarks.h5", "landmarks/1", "cars").create() as file:
        storage.put(file, "image", names)
        storage.put(file, "status", ["no_object", *["ok"] * (count - 1)])
        storage.put(file, "image_size", np.full((count, 2), 32, np.int32))
        storage.put(file, "image_bytes", np.zeros(count, np.int64))
        storage.put(file, "image_sha256", [""] * count)
        storage.put(file, "landmark_names", ["middle"])
        storage.put(file, "landmarks", np.zeros((count, 1, 2), np.float32))
        storage.put(file, "score", np.ones(count, np.float32))
        storage.put(file, "num_objects", np.ones(count, np.int32))
        storage.put(file, "mesh_index", np.arange(8, dtype=np.int32))
        storage.put(file, "mesh", mesh.astype(np.float32))
    table = depth_table(
        EvaluationContext(model, EvaluationInputs(trained, tmp_path), EvaluationSettings(images=count))
    )
    assert means(table)["pearson"] == pytest.approx(1, abs=1e-4)
    assert "proxy" in table.notes[0]
    assert names[0] not in table.values["pearson"].items
    assert len(table.values["pearson"].items) == count - 1


def test_depth_at_a_pixel_is_that_of_its_ray(model) -> None:
    """The depth at the projection of a surface point is that of the point."""
    rows = slice(0, 3)
    cameras = model.intrinsics[rows], model.cam_to_world[rows]
    middle, _ = project(np.zeros((3, 1, 3)), *cameras)
    depth = surface_depths(model, model.latents[rows], middle, *cameras)
    views = render_views(
        model, model.latents[rows], cameras[0] * np.array([[4], [4], [1.0]]), cameras[1], 128
    )
    column, row = np.moveaxis(np.floor(middle[:, 0] * 4).astype(int), -1, 0)
    np.testing.assert_allclose(depth[:, 0], views.depth[np.arange(3), row, column], atol=0.05)
    nowhere = surface_depths(
        model, model.latents[:1], np.array([[[0.1, 0.1], [np.nan, 3]]]), *(c[:1] for c in cameras)
    )
    assert np.isnan(nowhere).all()


# --- CSV files ---


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,x0,y0\na.png,1,2\n", "columns"),
        ("image,x0,y0,z0\na.png,1,two,3\n", "line 2.*two"),
        ("image,x0,y0,z0\na.png,1,2\n", "line 2"),
        ("image,x0,y0,z0\na.png,1,2,3\na.png,1,2,3\n", "line 3.*twice"),
        ("image,x0,y0,z0\n", "no rows"),
    ],
)
def test_invalid_keypoints_are_reported_with_their_line(tmp_path, text, told) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"points.csv.*{told}") as error:
        read_keypoints(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,p1\na.png,1\n", "columns"),
        ("image,p0\na.png,2\n", "line 2.*'2'"),
        ("image,p0\na.png,1\na.png,1\n", "line 3.*twice"),
    ],
)
def test_invalid_visibility_is_reported_with_its_line(tmp_path, text, told) -> None:
    path = tmp_path / "visible.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"visible.csv.*{told}"):
        read_visible(path)


@pytest.mark.parametrize(
    ("text", "told"), [("one,other\na,b\n", "source and target"), ("source,target\na,\n", "line 2")]
)
def test_invalid_pairs_are_reported_with_their_line(tmp_path, text, told) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"pairs.csv.*{told}"):
        read_pairs(path)


def test_without_mediapipe_its_metrics_are_missing(model, trained, cars, others, monkeypatch) -> None:
    # Other tests of this process may have loaded MediaPipe.
    for name in [*sys.modules]:
        if name.startswith("mediapipe.") or name in (
            "nerfgen.landmark.face_graphs",
            "nerfgen.landmark.face_tasks",
            "nerfgen.pretrained.graphs",
            "nerfgen.pretrained.tasks",
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    fitted = replace(
        model, object_class=object_class("heads"), canonical_index=np.arange(5), canonical=np.eye(5, 3)
    )
    context = EvaluationContext(fitted, EvaluationInputs(trained, cars, others), FEW, workers=1)
    for table in (fit_table(context), novel_table(context)):
        assert not table.values
        assert any("mediapipe" in line for line in table.missing)
