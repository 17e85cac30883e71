"""Volume rendering against closed forms: compositing, bounds, samplers, occupancy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerfgen.geometry import intrinsic_matrix, pixel_centers, pixel_rays, project, turned_camera
from nerfgen.volume import (
    box_bounds,
    cell_centers,
    composite,
    dilate,
    occupancy_samples,
    sample_grid,
    stratified_samples,
    update_occupancy,
    visual_hull,
    volume_render,
)

HALF = 1.2


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def rays_of(yaw, size=24, distance=4.0):
    """Rays of a camera that sees the whole cube, in both shapes that rendering wants: (1, rays, 3)."""
    focal = 0.5 * size * np.sqrt(distance**2 - HALF**2) / HALF / 1.3
    matrix = intrinsic_matrix(focal, [size / 2, size / 2])
    origins, directions = pixel_rays(pixel_centers(size), matrix, turned_camera(yaw, 12, distance))
    return jnp.asarray(origins[None], jnp.float32), jnp.asarray(directions[None], jnp.float32)


def constant_medium(density, length, count, near=0.7):
    samples = stratified_samples(None, jnp.array([near]), jnp.array([near + length]), count)
    color = jnp.broadcast_to(jnp.array([0.2, 0.5, 0.9]), (1, count, 3))
    return composite(jnp.full((1, count), density), color, *samples)


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0, 30.0, 1e6])
def test_constant_density_has_the_opacity_of_beer_and_lambert(density):
    rays = constant_medium(density, 1.7, 33)
    expected = -np.expm1(-density * 1.7)
    np.testing.assert_allclose(rays.opacity, [expected], rtol=1e-5)
    np.testing.assert_allclose(rays.color[0], expected * np.array([0.2, 0.5, 0.9]), rtol=1e-5)


def test_expected_distance_converges_to_the_integral():
    density, length, near = 1.3, 2.0, 0.7
    # The mean of an exponential distribution that is cut off at the length.
    expected = near + 1 / density - length / np.expm1(density * length)
    errors = [abs(float(constant_medium(density, length, n).distance[0]) - expected) for n in (4, 16, 64)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 1e-3


def test_empty_rays_have_distance_zero_and_finite_gradients():
    assert constant_medium(0.0, 2.0, 8).distance[0] == 0
    gradient = jax.grad(lambda density: constant_medium(density, 2.0, 8).distance[0])(0.0)
    assert np.isfinite(gradient)


def test_weights_are_the_alphas_times_the_transmittance(rng):
    density, spacing = rng.exponential(3, (5, 20)), rng.uniform(0, 0.3, (5, 20))
    distances = np.cumsum(spacing, axis=-1)
    color = rng.uniform(size=(5, 20, 3))
    rays = composite(*map(jnp.asarray, (density, color, distances, spacing)))
    for ray in range(5):
        transmittance, total = 1.0, np.zeros(3)
        for sample in range(20):
            alpha = 1 - np.exp(-density[ray, sample] * spacing[ray, sample])
            np.testing.assert_allclose(rays.weights[ray, sample], transmittance * alpha, rtol=1e-4, atol=1e-7)
            total += transmittance * alpha * color[ray, sample]
            transmittance *= 1 - alpha
        np.testing.assert_allclose(rays.opacity[ray], 1 - transmittance, rtol=1e-5)
        np.testing.assert_allclose(rays.color[ray], total, rtol=1e-4)
    assert (np.asarray(rays.weights) >= 0).all()
    assert (np.asarray(rays.opacity) <= 1 + 1e-6).all()


def test_what_lies_behind_an_opaque_sample_is_not_seen():
    density = jnp.array([[0.0, 1e4, 50.0]])
    color = jnp.array([[[1.0, 1, 1], [0.1, 0.2, 0.3], [1, 1, 1]]])
    rays = composite(density, color, jnp.array([[1.0, 2.0, 3.0]]), jnp.ones((1, 3)))
    np.testing.assert_allclose(rays.color[0], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(rays.distance, [2.0], rtol=1e-6)


def test_box_bounds_agree_with_walking_along_the_ray(rng):
    origins = rng.normal(0, 2, (400, 3))
    directions = rng.normal(size=(400, 3))
    directions[:60, 0] = 0  # parallel to faces
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    near, far = map(np.asarray, box_bounds(jnp.asarray(origins), jnp.asarray(directions), HALF))
    steps = np.linspace(0, 12, 6001)
    walk = origins[:, None] + steps[:, None] * directions[:, None]
    inside = (np.abs(walk) <= HALF).all(-1)
    hit = inside.sum(1) > 3
    assert 50 < hit.sum() < 350
    for ray in np.flatnonzero(hit):
        met = steps[inside[ray]]
        assert near[ray] == pytest.approx(met[0], abs=5e-3)
        assert far[ray] == pytest.approx(met[-1], abs=5e-3)
    missed = ~inside.any(1)
    assert (far[missed] - near[missed] < 5e-3).all()
    assert (near >= 0).all()


def test_rays_that_miss_or_leave_the_cube_behind_have_no_length():
    origins = jnp.array([[0.0, 0, 5], [0, 3, 5], [0, 0, 5]])
    directions = jnp.array([[0.0, 0, 1], [0, 0, -1], [0, 1, 0]])
    near, far = box_bounds(origins, directions, HALF)
    np.testing.assert_array_equal(near, far)


def test_rays_that_start_inside_the_cube_start_at_zero():
    near, far = box_bounds(jnp.zeros((1, 3)), jnp.array([[0.0, 0.0, 1.0]]), HALF)
    assert float(near[0]) == 0
    assert float(far[0]) == pytest.approx(HALF)


def a_ball(radius=0.7, density=60.0, edge=0.01):
    """A soft-edged ball whose colour varies with place, as a foreground."""

    def foreground(points):
        distance = jnp.linalg.norm(points, axis=-1)
        return density * jax.nn.sigmoid((radius - distance) / edge), 0.5 + 0.5 * jnp.sin(3 * points)

    return foreground


def ball_occupancy(radius=0.7, size=40):
    centers = np.asarray(cell_centers(size, HALF))
    width = 2 * HALF / size
    return jnp.asarray(
        (np.linalg.norm(centers, axis=-1) < radius + 0.1 + width).astype(np.float32).reshape((size,) * 3)
    )


@pytest.mark.parametrize("key", [None, 3])
def test_stratified_samples_lie_in_their_intervals(key, rng):
    near = jnp.asarray(rng.uniform(0, 2, 30), jnp.float32)
    far = near + jnp.asarray(rng.uniform(0, 3, 30), jnp.float32)
    samples = stratified_samples(None if key is None else jax.random.key(key), near, far, 16)
    edges = np.asarray(near)[:, None] + np.asarray(far - near)[:, None] * np.arange(17) / 16
    assert (np.asarray(samples.distances) >= edges[:, :-1] - 1e-5).all()
    assert (np.asarray(samples.distances) <= edges[:, 1:] + 1e-5).all()
    np.testing.assert_allclose(samples.spacings.sum(-1), far - near, rtol=1e-5)


@pytest.mark.parametrize("key", [None, 3])
def test_guided_samples_are_ordered_bounded_and_stand_for_the_whole_ray(key, rng):
    origins, directions = rays_of(30)
    near, far = box_bounds(origins, directions, HALF)
    key = None if key is None else jax.random.key(key)
    occupancy = jnp.asarray(rng.uniform(0.3, 1, size=(8, 8, 8)), jnp.float32)
    samples = occupancy_samples(key, origins, directions, near, far, occupancy, HALF, 256)
    assert (np.asarray(samples.distances) >= np.asarray(near)[..., None] - 1e-5).all()
    assert (np.asarray(samples.distances) <= np.asarray(far)[..., None] + 1e-5).all()
    assert (np.diff(samples.distances, axis=-1) >= -1e-5).all()
    length = np.asarray(far - near)
    # A spacing is 1 / pdf: the sum is the length up to a sample more or less in each of the bins.
    np.testing.assert_allclose(samples.spacings.sum(-1)[length > 0], length[length > 0], rtol=0.1)


def test_guided_samples_gather_where_the_occupancy_is():
    origins, directions = rays_of(0)
    near, far = box_bounds(origins, directions, HALF)
    occupancy = ball_occupancy(0.4)
    samples = occupancy_samples(None, origins, directions, near, far, occupancy, HALF, 16)
    center = len(origins[0]) // 2 + 12
    points = origins[0, center][None] + samples.distances[0, center][:, None] * directions[0, center][None]
    assert float(jnp.mean(jnp.linalg.norm(points, axis=-1) < 0.6)) > 0.85


def test_guided_samples_estimate_any_optical_depth_without_bias(rng):
    """Also of matter where the occupancy says that there is none."""
    origins, directions = rays_of(30, size=6)
    near, far = box_bounds(origins, directions, HALF)
    occupancy = jnp.asarray(rng.uniform(size=(10, 10, 10)) > 0.6, jnp.float32)

    def density(points):
        return 2 + jnp.sin(4 * points[..., 0]) + jnp.cos(7 * points[..., 1] * points[..., 2])

    @jax.jit
    def estimate(key):
        samples = occupancy_samples(key, origins, directions, near, far, occupancy, HALF, 24)
        points = origins[..., None, :] + samples.distances[..., None] * directions[..., None, :]
        return jnp.sum(density(points) * samples.spacings, axis=-1)

    estimates = np.asarray(jax.lax.map(estimate, jax.random.split(jax.random.key(0), 2000)))
    even = stratified_samples(None, near, far, 2000)
    points = origins[..., None, :] + even.distances[..., None] * directions[..., None, :]
    exact = np.asarray(jnp.sum(density(points) * even.spacings, axis=-1))
    error = estimates.mean(0) - exact
    spread = estimates.std(0) / np.sqrt(len(estimates))
    assert exact.max() > 3
    assert (np.abs(error) < 5 * spread + 1e-3 * exact + 1e-6).all()


def picture_psnr(first, second):
    return -10 * np.log10(np.mean((np.asarray(first) - np.asarray(second)) ** 2))


def test_few_guided_samples_see_what_many_even_ones_see():
    origins, directions = rays_of(25)
    foreground = a_ball()
    exact = volume_render(foreground, origins, directions, half=HALF, count=512)
    few = {"half": HALF, "count": 16}
    aimed = volume_render(foreground, origins, directions, occupancy=ball_occupancy(), **few)
    even = volume_render(foreground, origins, directions, **few)
    assert float(exact.opacity.max()) > 0.99
    assert float(exact.opacity.min()) < 0.01
    assert picture_psnr(aimed.color, exact.color) > 40
    assert picture_psnr(aimed.opacity, exact.opacity) > 40
    assert picture_psnr(aimed.color, exact.color) > picture_psnr(even.color, exact.color)
    solid = np.asarray(exact.opacity) > 0.95
    assert np.abs(np.asarray(aimed.distance - exact.distance)[solid]).mean() < 0.02


def test_a_rendered_ball_lies_where_the_ball_is():
    origins, directions = rays_of(25)
    rays = volume_render(a_ball(density=400.0, edge=1e-4), origins, directions, half=HALF, count=512)
    along = jnp.sum(origins * directions, axis=-1)
    inside = along**2 - jnp.sum(origins**2, axis=-1) + 0.7**2
    central = np.asarray(inside) > 0.1
    surface = np.asarray(-along - jnp.sqrt(jnp.maximum(inside, 0)))
    np.testing.assert_allclose(np.asarray(rays.distance)[central], surface[central], atol=0.03)


def test_random_samples_render_the_same_on_average():
    origins, directions = rays_of(25, size=10)
    foreground, occupancy = a_ball(density=6.0), ball_occupancy()
    exact = volume_render(foreground, origins, directions, half=HALF, count=512)
    render = jax.jit(
        lambda key: (
            volume_render(
                foreground, origins, directions, half=HALF, count=24, occupancy=occupancy, key=key
            ).opacity
        )
    )
    mean = np.mean([render(jax.random.key(seed)) for seed in range(40)], axis=0)
    assert picture_psnr(mean, exact.opacity) > 35


def test_cells_are_looked_up_along_x_y_z():
    grid = jnp.arange(27.0).reshape(3, 3, 3)
    points = jnp.array([[-1.0, -1, -1], [1.0, -1, -1], [-1, 1.0, -1], [-1, -1, 1.0], [9, 9, 9], [0, 0, 0]])
    np.testing.assert_array_equal(sample_grid(grid, points, HALF), [0, 18, 6, 2, 26, 13])
    centers = cell_centers(3, HALF)
    np.testing.assert_array_equal(sample_grid(grid, centers, HALF), jnp.arange(27.0))


def test_visual_hull_of_a_sphere_holds_the_sphere_and_no_corners():
    yaw, pitch = (values.ravel() for values in np.meshgrid(np.arange(0, 360, 30), [-50.0, 0, 50]))
    poses = turned_camera(yaw, pitch, 4.0)
    size, radius = 48, 0.6
    matrices = intrinsic_matrix(np.full(len(poses), 70.0), np.full((len(poses), 2), size / 2))
    origins, directions = pixel_rays(
        np.broadcast_to(pixel_centers(size), (len(poses), size**2, 2)), matrices, poses
    )
    closest = np.linalg.norm(np.cross(origins, directions), axis=-1)
    masks = (255 * (closest < radius)).astype(np.uint8).reshape(-1, size, size)
    given = (jnp.asarray(masks), jnp.asarray(matrices, jnp.float32), jnp.asarray(poses, jnp.float32))
    hull = np.asarray(visual_hull(*given, 20, HALF)).ravel()
    centers = np.asarray(cell_centers(20, HALF))
    assert np.abs(project(centers, matrices[0], poses[0])[0] - size / 2).max() < size, (
        "the test's own framing"
    )
    away = np.linalg.norm(centers, axis=-1)
    assert hull[away < radius - 0.05].min() > 0.99
    assert hull[away > 1.7].max() < 0.35
    assert hull.max() <= 1 + 1e-6


def test_hull_is_the_mean_of_the_masks():
    pose = turned_camera(np.zeros(2), 0, 4.0)
    matrices = intrinsic_matrix(np.full(2, 30.0), np.full((2, 2), 8.0))
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[0] = 255
    given = (jnp.asarray(masks), jnp.asarray(matrices, jnp.float32), jnp.asarray(pose, jnp.float32))
    np.testing.assert_allclose(visual_hull(*given, 4, HALF), 0.5, rtol=1e-6)


def test_refreshed_occupancy_approaches_the_opacity_of_the_cells():
    size, images = 8, 4

    def foreground(points):
        density = jnp.where(points[..., 0] > 0, 5.0, 0.0)
        return density, jnp.zeros((*density.shape, 3))

    occupancy = jnp.full((size,) * 3, 0.5)
    for step in range(60):
        occupancy = update_occupancy(occupancy, foreground, jax.random.key(step), HALF, images)
    opaque = -np.expm1(-5.0 * 2 * HALF / size)
    np.testing.assert_allclose(occupancy[size // 2 :], opaque, atol=0.01)
    np.testing.assert_allclose(occupancy[: size // 2], 0, atol=0.01)


def test_widened_is_the_largest_of_each_neighbourhood(rng):
    grid = rng.uniform(size=(6, 6, 6)).astype(np.float32)
    wide = np.asarray(dilate(jnp.asarray(grid)))
    padded = np.pad(grid, 1, constant_values=-np.inf)
    for x, y, z in rng.integers(0, 6, (40, 3)):
        assert wide[x, y, z] == padded[x : x + 3, y : y + 3, z : z + 3].max()
