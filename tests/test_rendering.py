"""Rendering of trained models: where samples lie, what pictures agree with, how many programs are compiled."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import nerfgen
from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.field.radiance import render_rays
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays, turned_cameras, turned_views
from nerfgen.metric import psnr
from nerfgen.model import load_model, table_objects
from nerfgen.render import MAX_SAMPLES, ObjectRenderer, RenderSettings, render_to_file, render_views
from nerfgen.render import object_renderer as renderer_module
from nerfgen.volume import PARTS, cell_centers, composite, estimated_weights, surface_samples

DATA = Path(__file__).parent / "data"
HALF = 1.2
SIZE = 24


def soft_ball(points, radius=0.7, steepness=60.0):
    """A density that rises towards the middle of a ball."""
    return steepness * jax.nn.sigmoid(40 * (radius - jnp.linalg.norm(points, axis=-1)))


@pytest.fixture(scope="module")
def ball():
    """Rays towards a soft ball, of which some pass it by, and its densities on a grid."""
    across = jnp.linspace(-1.0, 1.0, 41)
    origins = jnp.stack([across, 0.1 * jnp.ones(41), jnp.full(41, 4.0)], axis=-1)
    directions = jnp.broadcast_to(jnp.array([0.0, 0.0, -1.0]), (41, 3))
    return origins, directions, soft_ball(cell_centers(48, HALF)).reshape(48, 48, 48)


def quadrature(origins, directions, samples):
    points = origins[:, None] + samples.distances[..., None] * directions[:, None]
    color = 0.5 + 0.4 * jnp.sin(3 * points)
    return composite(soft_ball(points), color, *samples)


def test_estimated_weights_know_which_rays_meet_something(ball):
    origins, directions, grid = ball
    weights = estimated_weights(grid, origins, directions, HALF)
    assert weights.shape == (41, PARTS)
    closest = np.hypot(origins[:, 0], origins[:, 1])
    opacity = np.asarray(weights.sum(-1))
    assert (opacity[closest < 0.6] > 0.99).all()
    assert (opacity[closest > 0.95] < 1e-3).all()


def test_surface_samples_are_an_exact_partition_about_the_surface(ball):
    origins, directions, grid = ball
    weights = estimated_weights(grid, origins, directions, HALF)
    samples = surface_samples(origins, directions, weights, HALF, 12)
    np.testing.assert_allclose(samples.spacings.sum(-1), 2 * HALF, rtol=1e-4)
    assert (samples.spacings >= 0).all()
    assert (np.diff(samples.distances, axis=-1) >= 0).all()
    ahead = np.asarray(samples.distances[20])
    surface = 4 - np.sqrt(0.7**2 - 0.1**2)
    # Nine in ten are spent within two parts of the surface, none to speak of behind it.
    assert np.mean(np.abs(ahead - surface) < 3 * 2 * HALF / PARTS) >= 0.7
    assert np.mean(ahead > surface + 0.5) < 0.2


def test_a_dozen_surface_samples_see_what_a_thousand_even_ones_see(ball):
    origins, directions, grid = ball
    weights = estimated_weights(grid, origins, directions, HALF)
    few = quadrature(origins, directions, surface_samples(origins, directions, weights, HALF, 16))
    even = jnp.linspace(4 - HALF, 4 + HALF, 2001)
    many = quadrature(
        origins,
        directions,
        type(surface_samples(origins, directions, weights, HALF, 2))(
            jnp.broadcast_to((even[1:] + even[:-1]) / 2, (41, 2000)), jnp.full((41, 2000), 2 * HALF / 2000)
        ),
    )
    assert float(jnp.abs(few.color - many.color).max()) < 0.02
    assert float(jnp.abs(few.opacity - many.opacity).max()) < 0.02
    solid = np.asarray(many.opacity) > 0.9
    assert float(np.abs(few.distance - many.distance)[solid].max()) < 0.02


def even_pictures(model, codes, matrices, poses, samples=256):
    """Colour, opacity and depth with so many even samples along every ray."""
    found = []
    for code, matrix, pose in zip(codes, matrices, poses, strict=True):
        origins, directions = (
            jnp.asarray(array, jnp.float32) for array in pixel_rays(pixel_centers(SIZE), matrix, pose)
        )
        field = jax.tree.map(jnp.asarray, model.parameters)
        rays, background = render_rays(
            model.config, field, jnp.asarray(code)[None], origins[None], directions[None], samples=samples
        )
        color = rays.color + (1 - rays.opacity[..., None]) * background
        depth = rays.distance[0] * (directions @ optical_axis(pose))
        found.append(
            [np.asarray(array).reshape(SIZE, SIZE, -1) for array in (color[0], rays.opacity[0], depth)]
        )
    return [np.stack(arrays) for arrays in zip(*found, strict=True)]


@pytest.fixture(scope="module")
def views(model):
    """Codes and cameras of two objects, two views each, and their pictures."""
    yaw, pitch = np.array([-30.0, 60, 120, 200]), np.array([10.0, 10, 30, 20])
    given = (np.repeat(model.latents[:2], 2, axis=0), *turned_views(yaw, pitch, model.distance, SIZE))
    return given, render_views(model, *given, SIZE, with_normals=True)


def test_pictures_agree_with_those_of_even_samples(model, views):
    given, seen = views
    color, opacity, depth = even_pictures(model, *given)
    assert psnr(seen.rgb / 255, color.clip(0, 1)) > 40
    np.testing.assert_allclose(seen.opacity, opacity[..., 0], atol=0.06)
    solid = opacity[..., 0] > 0.9
    assert solid.any()
    assert np.median(np.abs(seen.depth - depth[..., 0])[solid]) < 0.01


def test_small_passes_change_nothing(model, views, monkeypatch):
    """576 rays in chunks of 256, and of those that meet something few at a time: the last of each is not full."""
    given, seen = views
    monkeypatch.setattr(renderer_module, "_MAX_RAYS", 256)
    monkeypatch.setattr(renderer_module, "_MIN_LENGTH", 64)
    monkeypatch.setattr(renderer_module, "_MAX_POINTS_ON_CPU", 64 * 16)
    again = render_views(model, *given, SIZE, with_normals=True)
    for name in ("foreground", "opacity", "depth", "normals"):
        np.testing.assert_allclose(getattr(again, name), getattr(seen, name), atol=1e-4)


def test_more_views_compile_nothing_more(model, views):
    (codes, matrices, poses), _ = views
    compiled = renderer_module._shaded._cache_size()
    render_views(model, np.tile(codes, (3, 1)), np.tile(matrices, (3, 1, 1)), np.tile(poses, (3, 1, 1)), SIZE)
    assert renderer_module._shaded._cache_size() <= compiled + 1


def test_normals_are_those_of_the_depth(model):
    size = 72
    matrices, poses = turned_views(np.array([-30.0, 120]), np.array([10.0, 30]), model.distance, size)
    seen = render_views(model, model.latents[[0, 0]], matrices, poses, size, with_normals=True)
    length = np.linalg.norm(seen.normals, axis=-1)
    np.testing.assert_allclose(length[seen.depth > 0], 1, atol=1e-3)
    assert (length[seen.depth == 0] == 0).all()
    for view in range(2):
        origins, directions = pixel_rays(pixel_centers(size), matrices[view], poses[view])
        along = seen.depth[view].reshape(-1) / (directions @ optical_axis(poses[view]))
        points = (origins + along[:, None] * directions).reshape(size, size, 3)
        right, down = points[2:-2, 4:] - points[2:-2, :-4], points[4:, 2:-2] - points[:-4, 2:-2]
        crossed = np.cross(down, right)
        crossed /= np.linalg.norm(crossed, axis=-1, keepdims=True) + 1e-12
        smooth = (np.linalg.norm(right, axis=-1) < 0.25) & (np.linalg.norm(down, axis=-1) < 0.25)
        smooth &= scipy.ndimage.binary_erosion(seen.depth[view] > 0, iterations=3)[2:-2, 2:-2]
        assert smooth.sum() > 100
        cosine = (crossed * seen.normals[view, 2:-2, 2:-2]).sum(-1)[smooth]
        assert np.median(cosine) > 0.8
        towards = -(seen.normals[view] @ optical_axis(poses[view]))[seen.depth[view] > 0]
        assert np.mean(towards > -0.2) > 0.9, "they face the camera"


def test_antialiasing_is_the_mean_of_more_rays(model, views):
    (codes, matrices, poses), _ = views
    smooth = render_views(model, codes[:1], matrices[:1], poses[:1], SIZE, antialias=2)
    finer = matrices[:1] * np.array([[2], [2], [1.0]])
    fine = render_views(model, codes[:1], finer, poses[:1], 2 * SIZE)
    blocks = fine.opacity.reshape(1, SIZE, 2, SIZE, 2)
    np.testing.assert_allclose(smooth.opacity, blocks.mean((2, 4)), atol=1e-5)
    color = fine.rgb.reshape(1, SIZE, 2, SIZE, 2, 3).mean((2, 4))
    assert np.abs(color - smooth.rgb).max() <= 1
    solid = blocks.min((2, 4)) > 0.6
    depth = (fine.depth.reshape(blocks.shape) * blocks).mean((2, 4)) / np.maximum(blocks.mean((2, 4)), 1e-6)
    np.testing.assert_allclose(smooth.depth[solid], depth[solid], rtol=1e-4)


def test_colour_without_background_is_not_multiplied_by_opacity(model, views):
    _, seen = views
    solid = seen.opacity > 0.999
    assert solid.any()
    assert np.abs(seen.rgba[..., :3].astype(int) - seen.rgb)[solid].max() <= 1
    np.testing.assert_allclose(seen.rgba[..., 3] / 255, seen.opacity, atol=0.003)


@pytest.fixture(scope="module")
def small():
    """A small model of heads."""
    return load_model(DATA / "model_planes.h5")


def test_more_samples_than_points_of_a_pass_are_taken_ray_by_ray(small, monkeypatch):
    cameras = turned_views(np.array([0.0]), np.zeros(1), small.distance, 4)
    expected = render_views(small, small.latents[:1], *cameras, 4, samples=64)
    monkeypatch.setattr(renderer_module, "_MAX_POINTS_ON_CPU", 16)
    found = render_views(small, small.latents[:1], *cameras, 4, samples=64)
    np.testing.assert_allclose(found.foreground, expected.foreground, atol=1e-4)


@pytest.mark.parametrize("samples", [0, -1, MAX_SAMPLES + 1, 10**12])
def test_samples_out_of_range_are_refused(small, samples):
    cameras = turned_views(np.array([0.0]), np.zeros(1), small.distance, 4)
    with pytest.raises(InputError, match="`samples`"):
        render_views(small, small.latents[:1], *cameras, 4, samples=samples)


def test_no_views_are_no_error(small):
    views = render_views(small, small.latents[:0], np.zeros((0, 3, 3)), np.zeros((0, 4, 4)), 8)
    assert views.rgb.shape == (0, 8, 8, 3)


def test_no_objects_are_one_clear_line(small, tmp_path):
    stage = storage.Stage(tmp_path / "views.h5", "views/1", "heads")
    none = table_objects(small, [])
    cameras = turned_cameras(np.array([0.0]), np.array([0.0]), small.distance)
    with pytest.raises(InputError, match="no objects"):
        render_to_file(small, none, stage, cameras=cameras, rendering=RenderSettings(size=8))
    assert not stage.output.exists()


def test_parameters_go_to_the_device_once_per_model(small):
    first, second = (ObjectRenderer(small, small.latents[row]) for row in range(2))
    assert first._parameters is second._parameters


def test_empty_selections_in_python_are_one_clear_line():
    model = nerfgen.load(DATA / "model_planes.h5")
    with pytest.raises(InputError, match="no latent codes"):
        model.render(model.codes[:0], model.turned([0]))
    with pytest.raises(InputError, match="no cameras"):
        model.render(model.codes[:1], turned_cameras(np.zeros(0), np.zeros(0), 4.0))
    with pytest.raises(InputError, match="no objects"):
        model.objects()
    with pytest.raises(InputError, match="4 dimensions, not 3"):
        model.render(model.codes[:1, :3], model.turned([0]))


def test_the_parameters_of_a_model_go_to_the_device_once(trained, monkeypatch):
    fresh, sent = load_model(trained), []
    as_array = jax.numpy.asarray

    def record(values, *arguments, **named):
        sent.append(id(values))
        return as_array(values, *arguments, **named)

    monkeypatch.setattr(jax.numpy, "asarray", record)
    for row in range(3):
        ObjectRenderer(fresh, fresh.latents[row])
    assert [sent.count(id(array)) for array in jax.tree.leaves(fresh.parameters)] == [1] * len(
        jax.tree.leaves(fresh.parameters)
    )
