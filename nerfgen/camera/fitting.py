"""Cameras and windows from observations in memory: canonical keypoints first, then a camera for every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Float, Int

from nerfgen import storage
from nerfgen.camera.canonical import LEAST_IMAGES, LEAST_POINTS, estimate_canonical, images_for_shape
from nerfgen.camera.joint import refine
from nerfgen.camera.observations import Observations
from nerfgen.camera.settings import CameraSettings
from nerfgen.camera.solve import BATCH, CameraFit, acceptable, join_fits, solve_cameras
from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, sphere_window
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import map_ordered

# Prior on the logarithm of a focal length. The solvers measure it in units of their residuals, whose noise is
# about Huber's scale: divided by that scale, it weighs as much as one landmark that is off by its noise.
_FOCAL_SPREAD = 0.3
# Images that are fitted at a time in this process: a multiple of the solver's batch, so that the batches are those of
# all together.
_BLOCK = 32 * BATCH


@dataclass(frozen=True)
class FittedCameras:
    """Cameras of images; NaN where an image has none.

    Attributes:
        status: one of ``nerfgen.storage.STATUSES`` for every image.
        window: (x0, y0, side) of the square window that shows the object, pixels.
        reprojection_rmse: root mean square distance of observed points to reprojected canonical keypoints, pixels.
        canonical: keypoints that the cameras were fitted to, world units.
    """

    status: list[str]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    window: Float[np.ndarray, "images 3"]
    reprojection_rmse: Float[np.ndarray, "images"]
    iterations: Int[np.ndarray, "images"]
    canonical: Float[np.ndarray, "points 3"]


def images_to_estimate_from(observed: Observations, settings: CameraSettings, source: str) -> list[int]:
    """Images that canonical keypoints are estimated from, checked to be sufficient; none if they are not estimated.

    Args:
        source: of the observations, for messages.

    Raises:
        InputError: there are too few images or landmarks.
    """
    if not (settings.estimate_canonical or not len(observed.canonical)):
        return []
    remedy = "or describe the class with canonical keypoints (`canonical`)"
    if len(observed.names) < LEAST_POINTS:
        raise InputError(
            f"{source}: {len(observed.names)} landmarks do not determine a shape; "
            f"annotate at least {LEAST_POINTS}, {remedy}"
        )
    rows = np.flatnonzero(storage.usable(observed.status) & observed.determinate)
    chosen = rows[images_for_shape(observed.points_of(rows))]
    if len(chosen) < LEAST_IMAGES:
        raise InputError(
            f"{source}: {len(chosen)} images have {LEAST_POINTS} landmarks or more, and canonical keypoints are "
            f"estimated from at least {LEAST_IMAGES}; add images, {remedy}"
        )
    seen = np.isfinite(observed.points[chosen]).all(-1).sum(0)
    if seen.min() < LEAST_IMAGES:
        raise InputError(
            f"{source}: landmark {observed.names[seen.argmin()]} is visible in {seen.min()} images, and its canonical "
            f"keypoint is estimated from at least {LEAST_IMAGES}; add images, {remedy}"
        )
    return [int(row) for row in chosen]


def fit_cameras(
    observed: Observations,
    described: ObjectClass,
    settings: CameraSettings = CameraSettings(),
    *,
    only: range | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    source: str = "the images",
    say: Callable[[str], None] = lambda line: None,
) -> FittedCameras:
    """Fit a camera to every image that has landmarks, and frame the object.

    Args:
        only: the images to fit, the same as if all were fitted. What is returned of the others means nothing.
        workers, scheduler: take workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        source: of the observations, for messages.
        say: receives a line when canonical keypoints are estimated, and a warning if they are uncertain.

    Raises:
        InputError: there are too few images or landmarks to estimate canonical keypoints from.
    """
    count = len(observed.images)
    rows = np.flatnonzero(storage.usable(observed.status))
    chosen = images_to_estimate_from(observed, settings, source)
    enough = observed.determinate
    enough &= np.isfinite(observed.points).all(-1).sum(1) >= min(LEAST_POINTS, len(observed.names))
    status = list(observed.status)
    for row in rows[~enough[rows]]:
        status[row] = "not_converged"
    rows = rows[enough[rows]]
    canonical, focal = _shared_by_all(observed, described, settings, rows, chosen, say)
    intrinsics, poses = np.full((count, 3, 3), np.nan), np.full((count, 4, 4), np.nan)
    window, rmse = np.full((count, 3), np.nan), np.full(count, np.nan)
    iterations = np.zeros(count, np.int32)
    rows = _whole_batches(rows, only)
    if len(rows):
        center = observed.image_size[rows] / 2
        solve = partial(
            _solve,
            canonical=canonical,
            depth_weight=settings.depth_weight,
            robust=settings.robust,
            free_focal=settings.intrinsics == "per-image",
            focal_spread=_FOCAL_SPREAD / settings.robust,
        )
        parts = map_ordered(
            solve,
            _Parts(observed, focal, rows, BATCH if scheduler else _BLOCK),
            workers=workers if scheduler else 1,
            scheduler=scheduler,
            batch=1,
            name_of=lambda part: f"the fit of {part.name} and the images after it",
        )
        fit = join_fits(list(parts))
        accepted = acceptable(fit, described.largest_angle, settings.max_error)
        for row in rows[~accepted]:
            status[row] = "not_converged"
        matrices = intrinsic_matrix(fit.focal, center)
        good = rows[accepted]
        intrinsics[good] = matrices[accepted]
        poses[good] = fit.cam_to_world[accepted]
        window[good] = sphere_window(matrices, fit.cam_to_world, described.reach)[accepted]
        rmse[rows], iterations[rows] = fit.rmse, fit.iterations
    return FittedCameras(status, intrinsics, poses, window, rmse, iterations, canonical)


class _Part(NamedTuple):
    """Images that are fitted together.

    Attributes:
        name: of the first.
        points, focal, center, depth: see :func:`solve_cameras`.
    """

    name: str
    points: Float[np.ndarray, "images points 2"]
    focal: Float[np.ndarray, "images"]
    center: Float[np.ndarray, "images 2"]
    depth: Float[np.ndarray, "images points"] | None


def _solve(part: _Part, canonical: Float[np.ndarray, "points 3"], **options: Any) -> CameraFit:
    return solve_cameras(part.points, canonical, part.focal, part.center, depth=part.depth, **options)


class _Parts(Sequence[_Part]):
    """Rows in parts, which are gathered when they are needed: the points of many images take much memory.

    The last part is no shorter than a batch of the solver.
    """

    def __init__(
        self,
        observed: Observations,
        focal: Float[np.ndarray, "images"],
        rows: Int[np.ndarray, "rows"],
        size: int,
    ) -> None:
        self._observed, self._focal = observed, focal
        self._rows = np.split(rows, range(size, len(rows) - BATCH + 1, size))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> _Part: ...
    @overload
    def __getitem__(self, place: slice) -> list[_Part]: ...
    def __getitem__(self, place: int | slice) -> _Part | list[_Part]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        rows, observed = self._rows[place], self._observed
        return _Part(
            observed.images[rows[0]],
            observed.points_of(rows),
            self._focal[rows],
            observed.image_size[rows] / 2,
            observed.depth_of(rows),
        )


def _whole_batches(rows: Int[np.ndarray, "usable"], only: range | None) -> Int[np.ndarray, "some"]:
    """The rows of the solver's batches that hold the images ``only``: a camera depends on its batch in rounding."""
    if only is None:
        return rows
    first, last = np.searchsorted(rows, [only.start, only.stop])
    if first == last:
        return rows[:0]
    # Batches before the last one are full, and so is the last if it is not alone, by repetition.
    first = min(first // BATCH * BATCH, max(0, len(rows) // BATCH - 1) * BATCH)
    return rows[first : -(-last // BATCH) * BATCH]


def _shared_by_all(
    observed: Observations,
    described: ObjectClass,
    settings: CameraSettings,
    rows: Int[np.ndarray, "usable"],
    chosen: list[int],
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "images"]]:
    """Canonical keypoints, and focal lengths of all images in pixels.

    Args:
        rows: images with enough landmarks.
        chosen: images that canonical keypoints are estimated from; none to keep those of the class.
    """
    size = observed.image_size.astype(float)
    focal = size.max(axis=1) * (settings.focal or described.focal)
    canonical = observed.canonical
    if chosen:
        why = "" if len(canonical) else f"class {described.name} has no canonical keypoints: "
        say(f"{why}estimating {len(observed.names)} canonical keypoints from {len(chosen)} images")
        found = estimate_canonical(
            observed.points_of(np.array(chosen)),
            focal[chosen],
            size[chosen] / 2,
            mirrored=observed.mirrored,
            nearest=observed.nearest,
            spread=observed.spread,
            middle=observed.middle,
            depth=observed.depth_of(np.array(chosen)),
            depth_weight=settings.depth_weight,
            robust=settings.robust,
            max_error=settings.max_error,
        )
        canonical = found.canonical
        if not found.certain:
            say(
                "warning: the images hardly determine the depths of the landmarks, because they show objects from too "
                "similar directions; a prior draws the depths to a shallow dome"
            )
    is_shared = settings.intrinsics == "shared"
    if len(rows) and (settings.refine_canonical or is_shared):
        joint = refine(
            observed.points_of(rows),
            canonical,
            focal[rows],
            size[rows] / 2,
            depth=observed.depth_of(rows),
            depth_weight=settings.depth_weight,
            free_shape=settings.refine_canonical or bool(chosen),
            free_focal=is_shared,
            robust=settings.robust,
            focal_spread=_FOCAL_SPREAD / settings.robust,
        )
        canonical, focal = joint.canonical, focal * joint.focal_factor
    return canonical, focal
