"""How thick the learned shapes are: against closed forms, and on models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nerfgen.cli.progress import Reporter
from nerfgen.cli.train import _Watcher
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays, turned_views
from nerfgen.render import FLAT, non_flatness, training_non_flatness
from nerfgen.render.depth_ratio import surface_points, thickness

SIZE, DISTANCE = 48, 4.0


def depth_of(distances, directions, pose):
    """Distances along the rays as a depth map; not finite where nothing is met."""
    depth = distances * (directions @ optical_axis(pose))
    return np.where(np.isfinite(depth), depth, 0.0).reshape(SIZE, SIZE)


@pytest.fixture
def cameras():
    yaw = np.array([-40.0, 0.0, 40.0])
    return list(zip(*turned_views(yaw, np.array([10.0, 0, -10]), DISTANCE, SIZE), strict=True))


def sphere_depth(radius, matrix, pose):
    origins, directions = pixel_rays(pixel_centers(SIZE), matrix, pose)
    along = -(origins * directions).sum(-1)
    inside = radius**2 - ((origins**2).sum(-1) - along**2)
    with np.errstate(invalid="ignore"):
        return depth_of(along - np.sqrt(inside), directions, pose)


def test_points_lie_on_the_sphere_that_is_seen(cameras):
    for matrix, pose in cameras:
        depth = sphere_depth(0.6, matrix, pose)
        points = surface_points(depth, matrix, pose)
        assert len(points) == (depth > 0).sum() > 300
        np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 0.6, atol=1e-6)
        assert ((points @ pose[:3, 3]) > 0).all(), "its near side"


def test_points_of_a_plane_have_no_thickness(cameras):
    """A square card that stands at the origin, seen from three sides."""
    normal = np.array([0.2, 0.1, -1.0]) / np.linalg.norm([0.2, 0.1, -1.0])
    points = []
    for matrix, pose in cameras:
        origins, directions = pixel_rays(pixel_centers(SIZE), matrix, pose)
        distances = -(origins @ normal) / (directions @ normal)
        met = np.abs(origins + distances[:, None] * directions).max(-1) < 0.5
        depth = depth_of(np.where(met, distances, np.nan), directions, pose)
        points.append(surface_points(depth, matrix, pose))
    assert min(map(len, points)) > 200
    assert thickness(np.concatenate(points)) < 1e-6 < FLAT


def test_thickness_of_known_shapes():
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(20_000, 3))
    ball /= np.linalg.norm(ball, axis=-1, keepdims=True)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert thickness(ball + 5) == pytest.approx(1, abs=0.03)
    assert thickness(ball * [3, 2, 0.3] @ turn) == pytest.approx(0.1, abs=0.01)
    # A half sphere: its depth has variance 1/12, each side 1/3.
    half = np.column_stack([ball[:, :2], np.abs(ball[:, 2])])
    assert thickness(half) == pytest.approx(0.5, abs=0.02)
    assert thickness(ball[:3]) == 0
    assert thickness(np.zeros((0, 3))) == 0


def test_learned_cars_are_not_flat(model):
    assert FLAT * 2 < training_non_flatness(model) < 1


def test_objects_are_measured_each_by_itself(model):
    whole = non_flatness(model, model.latents[:3])
    np.testing.assert_allclose(whole[1:2], non_flatness(model, model.latents[1:2]), atol=1e-5)
    assert (whole > FLAT).all()
    assert len(np.unique(whole)) == 3


def test_an_empty_model_counts_as_flat(model):
    """All density taken away: no surfaces at all."""
    parameters = dict(model.parameters["foreground"])
    last = dict(parameters["outputs"])
    last["bias"] = np.asarray(last["bias"]) - np.array([1e4, 0, 0, 0], np.float32)
    empty = replace(model, parameters=model.parameters | {"foreground": parameters | {"outputs": last}})
    assert training_non_flatness(empty) == 0


@pytest.fixture
def billboards(model):
    """The model with its cars squeezed to cards: the box that holds them made thin, and what is in it denser."""
    x, y, z = model.config.bounds
    thin = replace(model.config, bounds=(x, y, z * 0.03), density_scale=model.config.density_scale / 0.03)
    return replace(model, config=thin)


def test_squeezed_cars_are_flat(billboards):
    assert 0 < training_non_flatness(billboards) < FLAT


def test_billboards_are_warned_of_once(billboards, model, tmp_path, capsys):
    watcher = _Watcher(tmp_path / "model.h5", tmp_path, Reporter(), preview=False)
    watcher.look(model)
    assert capsys.readouterr().err == ""
    watcher.look(billboards)
    watcher.look(billboards)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("warning: objects look flat")
    assert watcher.non_flatness < FLAT
