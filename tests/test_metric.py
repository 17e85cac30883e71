"""Metrics against reference libraries and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nerfgen.geometry import pixel_centers, rotation_from_vector
from nerfgen.metric import (
    Coverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Mean,
    PooledCorrelation,
    SummedCorrelation,
    angles_between,
    bootstrap,
    depth_normals,
    pearson,
    psnr,
    rotation_errors,
    spearman,
    ssim,
    translation_errors,
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("size", [11, 24, 64])
def test_image_metrics_agree_with_scikit_image(generator, size) -> None:
    first = generator.random((size, size, 3))
    second = np.clip(first + 0.2 * generator.normal(size=first.shape), 0, 1)
    assert psnr(first, second) == pytest.approx(
        peak_signal_noise_ratio(first, second, data_range=1.0), abs=1e-4
    )
    known = structural_similarity(
        first, second, gaussian_weights=True, use_sample_covariance=False, data_range=1.0, channel_axis=-1
    )
    assert ssim(first, second) == pytest.approx(known, abs=1e-4)
    assert ssim(first, first) == pytest.approx(1.0)


def test_only_chosen_pixels_count(generator) -> None:
    first = generator.random((40, 40, 3))
    second = first.copy()
    second[:, 20:] = 1 - second[:, 20:]
    left = np.zeros((40, 40), bool)
    left[:, :14] = True  # windows about these pixels don't reach the other half
    assert ssim(first, second, left) == pytest.approx(1.0)
    assert psnr(first, second, left) == pytest.approx(120.0)
    assert ssim(first, second, ~left) < 0.5
    assert np.isnan(ssim(first, second, np.zeros((40, 40), bool)))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(first[:8, :8], second[:8, :8])


def test_correlations_are_those_of_scipy(generator) -> None:
    first = generator.integers(0, 9, 60).astype(float)
    second = first**2 + generator.normal(size=60)
    assert pearson(first, second) == pytest.approx(scipy.stats.pearsonr(first, second).statistic)
    assert spearman(first, second) == pytest.approx(scipy.stats.spearmanr(first, second).statistic)
    assert (pearson(first, np.ones(60)), spearman(first, np.ones(60)), pearson(first[:0], first[:0])) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize(("ranks", "known"), [(False, pearson), (True, spearman)])
def test_parts_of_a_pool_add_up(generator, ranks, known) -> None:
    # Far from zero, where sums of squares would lose digits.
    groups = [(1e6 + generator.normal(size=n), 1e6 + generator.normal(size=n)) for n in (5, 0, 40, 9)]
    parts = [PooledCorrelation([group], ranks) for group in groups]
    whole = (parts[0] + parts[1] + parts[2] + parts[3]).estimate(3)
    x, y = (np.concatenate(side) for side in zip(*groups, strict=True))
    assert whole.mean == pytest.approx(known(x, y), abs=1e-6)
    assert whole.low < whole.mean < whole.high
    assert whole.n == 3
    assert whole == PooledCorrelation(groups, ranks).estimate(3)
    assert np.isnan(PooledCorrelation([], ranks).estimate().mean)


def test_absolute_correlations_of_points_are_summed(generator) -> None:
    """Points of known correlation: 1, -1, 0.6 and 0, a constant one, one that two items know, one that some know."""
    items = 40
    # Orthogonal to each other and to a constant.
    x, other = np.linalg.qr(np.column_stack([np.ones(items), generator.normal(size=(items, 2))]))[0].T[1:]
    rare, partial = np.full((2, items), np.nan)
    rare[:2], partial[5:] = x[:2], x[5:] + other[5:]
    first = 1e3 + np.column_stack([x, x, x, x, x, x, x])
    second = np.column_stack(
        [2 * x + 7, 5 - x, 0.6 * x + 0.8 * other, other, np.full(items, 3.0), rare, partial]
    )
    expected = 1 + 1 + 0.6 + 0 + 0 + 0 + scipy.stats.pearsonr(x[5:], partial[5:]).statistic
    whole = SummedCorrelation(first, second)
    figure = whole.estimate(3)
    assert figure.mean == pytest.approx(expected, abs=1e-6)
    assert figure.low < figure.mean < figure.high <= 7
    assert figure.n == items
    parts = SummedCorrelation(first[:9], second[:9]) + SummedCorrelation(first[9:], second[9:])
    assert parts.estimate(3) == figure
    # Only points that three items know count.
    few = SummedCorrelation(first[:2], second[:2]).estimate()
    assert (np.isnan(few.mean), few.n) == (True, 0)
    same = SummedCorrelation(first[:, :1], first[:, :1]).estimate()
    assert (same.mean, same.low, same.high) == pytest.approx((1, 1, 1))


def test_intervals_contain_the_mean_as_often_as_stated(generator) -> None:
    held = 0
    for _ in range(120):
        figure = Mean(generator.normal(3.0, 2.0, 80)).estimate()
        held += figure.low <= 3.0 <= figure.high
    assert 102 <= held <= 120
    spread = Mean(generator.normal(size=400)).estimate()
    assert spread.high - spread.low == pytest.approx(2 * 1.96 / 20, rel=0.2)


def test_means_leave_out_what_could_not_be_measured() -> None:
    figure = (Mean(np.array([1.0, np.nan])) + Mean(np.array([3.0]))).estimate()
    assert (figure.mean, figure.n) == (2.0, 2)
    assert figure == Mean(np.array([1.0, 3.0])).estimate()
    nothing = Mean(np.array([np.nan])).estimate()
    assert (np.isnan(nothing.mean), nothing.n) == (True, 0)
    assert bootstrap(4, lambda chosen: 1.0).low == 1.0


def test_normals_of_a_plane_and_a_sphere() -> None:
    size = 48
    intrinsics = np.array([[60.0, 0, 24], [0, 60.0, 24], [0, 0, 1]])
    rays = np.concatenate([(pixel_centers(size) - 24) / 60, np.ones((size**2, 1))], axis=1).reshape(
        size, size, 3
    )
    normal = np.array([0.3, -0.2, -1.0])
    normal /= np.linalg.norm(normal)
    plane = (normal @ np.array([0, 0, 3.0])) / (rays @ normal)
    found, there = depth_normals(plane, intrinsics, np.ones((size, size), bool))
    assert there.sum() == 46 * 46
    np.testing.assert_allclose(found[there], np.tile(normal, (46 * 46, 1)), atol=1e-9)
    center = np.array([0.1, 0.0, 4.0])
    along, square = rays @ center, (rays**2).sum(-1)
    inside = along**2 - square * (center @ center - 1)
    depth = np.where(inside > 0, (along - np.sqrt(np.maximum(inside, 0))) / square, 0.0)
    found, there = depth_normals(depth, intrinsics, inside > 0)
    true = rays * depth[..., None] - center
    assert there.sum() > 500
    assert np.median(angles_between(found[there], true[there])) < 1.0
    # A step is no surface: what stands behind the sphere's edge has no normal there.
    wall = np.where(inside > 0, depth, 6.0)
    _, there = depth_normals(wall, intrinsics, np.ones((size, size), bool))
    edge = (inside > 0) ^ np.roll(inside > 0, 1, axis=1)
    assert not there[edge].any()
    assert there.any()


def test_angles_between_known_vectors() -> None:
    first = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    second = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0]])
    np.testing.assert_allclose(angles_between(first, second), [0, 90, 180], atol=1e-9)


def poses(generator: np.random.Generator, count: int) -> np.ndarray:
    found = np.tile(np.eye(4), (count, 1, 1))
    found[:, :3, :3] = rotation_from_vector(generator.normal(size=(count, 3)))
    found[:, :3, 3] = generator.normal(size=(count, 3)) + np.array([0, 0, 5])
    return found


def test_camera_errors_do_not_see_the_world_s_frame(generator) -> None:
    true = poses(generator, 40)
    turn, scale = rotation_from_vector(np.array([0.3, -0.5, 0.2])), 1.7
    moved = true.copy()
    moved[:, :3, :3] = turn @ true[:, :3, :3]
    moved[:, :3, 3] = scale * true[:, :3, 3] @ turn.T + [1.0, 2.0, -3.0]
    np.testing.assert_allclose(rotation_errors(moved, true), 0, atol=1e-5)
    np.testing.assert_allclose(translation_errors(moved, true), 0, atol=1e-12)
    # One camera that is off by a tenth of its distance does not affect the errors of the others.
    moved[7, :3, 3] += scale * 0.1 * np.linalg.norm(true[7, :3, 3]) * turn @ np.array([1.0, 0, 0])
    moved[8:12, :3, 3] += (
        scale * np.linalg.norm(true[8:12, :3, 3], axis=1)[:, None] * (turn @ np.array([0, 0.3, 0]))
    )
    errors = translation_errors(moved, true)
    np.testing.assert_allclose(errors[8:12], 0.3, rtol=1e-6)
    assert errors[7] == pytest.approx(0.1, rel=1e-3)
    assert np.delete(errors, range(7, 12)).max() < 1e-6


def test_frechet_distance_of_gaussians(generator) -> None:
    mix = generator.normal(size=(6, 6))
    first = generator.normal(size=(300, 6)) @ mix
    second = generator.normal(size=(250, 6)) + 0.5
    one, two = np.cov(first.T), np.cov(second.T)
    offset = first.mean(0) - second.mean(0)
    known = offset @ offset + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)
    figure = FrechetDistance(first, second).estimate()
    assert figure.mean == pytest.approx(known, rel=1e-6)
    assert FrechetDistance(first, first).estimate().mean == pytest.approx(0, abs=1e-8)
    # Fewer images than features.
    few = generator.normal(size=(4, 6))
    assert FrechetDistance(few, few + 2).estimate().mean == pytest.approx(24.0, abs=1e-8)
    halves = FrechetDistance(first[:100], second[:50]) + FrechetDistance(first[100:], second[50:])
    assert halves.estimate() == figure
    assert figure.low < figure.mean < figure.high


def test_kernel_distance_is_unbiased_and_tells_sets_apart(generator) -> None:
    first, second = generator.normal(size=(2, 400, 8))
    same = KernelDistance(first, second).estimate()
    apart = KernelDistance(first, second + 1).estimate()
    assert abs(same.mean) < 0.1 * apart.mean
    assert same.low < 0 < same.high
    assert np.isnan(KernelDistance(first[:3], second).estimate().mean)
    assert apart.low > 0
    x, y = first[:40], second[:40] + 1

    def kernel(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return (one @ two.T / 8 + 1) ** 3

    off = ~np.eye(40, dtype=bool)
    exact = kernel(x, x)[off].mean() + kernel(y, y)[off].mean() - 2 * kernel(x, y).mean()
    # Over all halves of the sets the unbiased estimate has the mean of the whole.
    assert KernelDistance(x, y).estimate().mean == pytest.approx(exact, rel=0.1)


def test_inception_scores_of_known_classes() -> None:
    certain = np.eye(10)
    assert InceptionScore(certain).estimate().mean == pytest.approx(10.0)
    assert InceptionScore(np.tile(certain[:1], (5, 1))).estimate().mean == pytest.approx(1.0)
    assert InceptionScore(np.full((4, 10), 0.1)).estimate().mean == pytest.approx(1.0)


def test_coverage_counts_real_items_with_a_generated_neighbour() -> None:
    real = np.arange(20.0)[:, None]
    assert Coverage(real, real, 1).estimate().mean == 1.0
    # What is as far away as the nearest real item does not count.
    assert Coverage(real, real[:3], 1).estimate().mean == 3 / 20
    assert Coverage(real, real[:3], 3).estimate().mean == 4 / 20
    assert Coverage(real, real + 1000, 5).estimate().mean == 0.0
    assert (Coverage(real[:4], real[:1], 1) + Coverage(real[4:], real[1:], 1)).estimate().mean == 1.0
    assert np.isnan(Coverage(real[:0], real).estimate().mean)
