"""Any object, by GrabCut: colours of foreground and background that start from where the camera says the object is.

Importing this module raises :class:`nerfgen.errors.MissingDependencyError` where OpenCV can't be loaded, so it
is imported inside functions, never at the top of a command.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from nerfgen.errors import MissingDependencyError
from nerfgen.geometry import project, window_intrinsics
from nerfgen.mask.segmenter import Scene, Segmentation
from nerfgen.mediapipe_check import missing_library, remedy
from nerfgen.photo import inside_photo, resample_window

try:
    import cv2
except ImportError as error:
    library = missing_library(error)
    raise MissingDependencyError(
        f"--method grabcut needs OpenCV: {library} is missing ({remedy(library)})"
        if library
        else "--method grabcut needs OpenCV, which is not installed: pip install opencv-python-headless"
    ) from error

# Pixels along the raster that is cut, which shows a little more than the window, for context.
_SIDE, _CONTEXT = 160, 1.2
_ITERATIONS = 3
# Outlines, in units of the projection of the class's bounds: beyond the box, or the ellipsoid, of the first two all
# is background; within the ellipsoid of the third the object is supposed, within that of the last it is certain.
_BOX, _ROUND, _LIKELY, _CERTAIN = 1.04, 1.0, 0.9, 0.5
# The same in units of the landmarks' outlines, their hull and, for what is certain, the polygon through all of them.
_HULL, _POLYGON = 1.1, 0.9
# The logarithm of the odds that a pixel shows the object, before its colour is looked at: linear in the size of the
# ellipsoid on whose outline it lies, 0 at _EVEN of the bounds'; in a gap between landmarks it is that at _GAP.
_SLOPE, _EVEN, _GAP = 12.0, 0.85, 1.0
# Colour may say so much for or against it; what both say this clearly stays out of the last cut.
_EVIDENCE, _CLEAR = 8.0, 2.0
# Less of the object than this is an island.
_ISLAND = 0.1
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
_BALL = np.array([point for point in itertools.product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=3) if any(point)])
_BALL /= np.linalg.norm(_BALL, axis=1, keepdims=True)


class GrabCut:
    """GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) on the window and what surrounds it.

    Two mixtures of five Gaussians of colour, in CIELAB, are fitted in turns with the minimal cut between them.
    Beyond the outline of the class's bounds, projected by the camera, all is background; inside of it the first
    foreground is taken from, and in its middle and in the polygon of the landmarks all is foreground.
    """

    def __init__(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, scene: Scene) -> Segmentation:
        """The object of a scene.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        photo, (x0, y0, side) = scene.photo, scene.window
        image, scale = photo.pixels(int(np.ceil(max(photo.size) * min(1.0, _SIDE / side))))
        margin = (_CONTEXT - 1) / 2 * side
        wide = x0 - margin, y0 - margin, _CONTEXT * side
        raster, valid = resample_window(
            image, (wide[0] * scale[0], wide[1] * scale[1], wide[2] * scale[0]), _SIDE
        )
        if not valid.any():
            return Segmentation("no_mask")
        # Only what the photograph shows takes part: a repeated edge would lend its colour to the background.
        rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
        seen = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        start, prior = _start(scene, wide)
        alpha = np.zeros((_SIDE, _SIDE), np.float32)
        alpha[seen] = _cut(raster[seen], start[seen], prior[seen])
        inner = _SIDE / _CONTEXT
        corner = (_SIDE - inner) / 2
        whole = np.round(alpha * 255).astype(np.uint8)[..., None]
        mask, _ = resample_window(whole, (corner, corner, inner), scene.size)
        inside = inside_photo(photo.size, scene.window, scene.size)
        return Segmentation("ok", np.where(inside, mask[..., 0], 0))


def _start(
    scene: Scene, window: tuple[float, float, float]
) -> tuple[UInt8[np.ndarray, "side side"], Float[np.ndarray, "side side"]]:
    """What is known beforehand of every pixel of a window, in GrabCut's numbering, and its log odds."""
    start = np.full((_SIDE, _SIDE), cv2.GC_BGD, np.uint8)
    box, ball = (_projected(points, scene, window) for points in (_CORNERS, _BALL))
    possible = _filled(box, _BOX) & _filled(ball, _ROUND)
    likely, certain = _filled(ball, _LIKELY), _filled(ball, _CERTAIN)
    radius = np.full((_SIDE, _SIDE), 1.1)
    for scale in np.linspace(1.05, 0.4, 14):
        radius[_filled(ball, scale)] = scale
    points = np.zeros((0, 2)) if scene.landmarks is None else scene.landmarks
    points = (points[np.isfinite(points).all(axis=1)] - window[:2]) * (_SIDE / window[2])
    if len(points) >= 3:
        polygon = _in_turn(points, ball.mean(axis=0))
        possible |= _filled(points, _HULL)
        likely |= _filled(points, 1.0)
        # Between the ears of a cat lies background: what the hull has beyond the polygon is not certain.
        gaps = _filled(points, 1.0) & ~_filled(polygon, 1.0, hull=False)
        radius[gaps] = np.maximum(radius[gaps], _GAP)
        certain = (certain & ~gaps) | _filled(polygon, _POLYGON, hull=False)
    start[possible] = cv2.GC_PR_BGD
    start[possible & likely] = cv2.GC_PR_FGD
    start[possible & certain] = cv2.GC_FGD
    return start, _SLOPE * (_EVEN - radius)


def _projected(
    points: Float[np.ndarray, "points 3"], scene: Scene, window: tuple[float, float, float]
) -> Float[np.ndarray, "points 2"]:
    """Points in units of the class's bounds in a window's raster; about its middle where there is no camera."""
    if scene.intrinsics is None or scene.cam_to_world is None or not np.isfinite(scene.intrinsics).all():
        middle, reach = _SIDE / 2, _SIDE / 2 / _CONTEXT
        return middle + reach * points[:, :2]
    intrinsics = window_intrinsics(scene.intrinsics, np.array(window), _SIDE)
    return project(points * np.array(scene.bounds), intrinsics, scene.cam_to_world)[0]


def _in_turn(
    points: Float[np.ndarray, "points 2"], centre: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "points 2"]:
    """Points in the order in which they lie around a centre."""
    offset = points - centre
    return points[np.argsort(np.arctan2(offset[:, 1], offset[:, 0]))]


def _filled(
    points: Float[np.ndarray, "points 2"], scale: float, *, hull: bool = True
) -> Bool[np.ndarray, "side side"]:
    """The inside of the convex hull of points, or of the polygon through them, scaled about their centroid."""
    centre = points.mean(axis=0)
    outline = centre + scale * (points - centre)
    if hull:
        outline = cv2.convexHull(outline.astype(np.float32))[:, 0]
    filled = np.zeros((_SIDE, _SIDE), np.uint8)
    # OpenCV counts from the centre of the first pixel, in sixteenths.
    corners = np.round((outline - 0.5) * 16).clip(-(2**20), 2**20).astype(np.int32)
    cv2.fillPoly(filled, [corners], (1,), shift=4)
    return filled > 0


def _cut(
    raster: UInt8[np.ndarray, "height width 3"],
    start: UInt8[np.ndarray, "height width"],
    prior: Float[np.ndarray, "height width"],
) -> Float[np.ndarray, "height width"]:
    """Opacity of the foreground; start alone decides if that leaves nothing to tell apart."""
    colors = cv2.cvtColor(np.ascontiguousarray(raster), cv2.COLOR_RGB2LAB)
    labels = np.ascontiguousarray(start)
    if _is_divided(labels):
        cv2.setRNGSeed(0)  # the mixtures start from k-means
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        nowhere = (0, 0, 0, 0)
        cv2.grabCut(colors, labels, nowhere, background, foreground, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
        # OpenCV's cut knows colours only. What place and colour together say clearly is fixed before the last one.
        evidence = _log_likelihood(foreground, colors) - _log_likelihood(background, colors)
        odds = ndimage.gaussian_filter(evidence.clip(-_EVIDENCE, _EVIDENCE) + prior, 1.0)
        labels = np.where(odds > 0, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
        labels[odds > _CLEAR] = cv2.GC_FGD
        labels[odds < -_CLEAR] = cv2.GC_BGD
        fixed = (start == cv2.GC_FGD) | (start == cv2.GC_BGD)
        labels[fixed] = start[fixed]
        if _is_divided(labels):
            cv2.grabCut(colors, labels, nowhere, background, foreground, 1, cv2.GC_EVAL_FREEZE_MODEL)
    # Half a pixel to either side of the cut.
    return ndimage.gaussian_filter(_largest(_is_foreground(labels)).astype(np.float32), 0.7)


def _is_foreground(labels: UInt8[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _is_divided(labels: UInt8[np.ndarray, "height width"]) -> bool:
    """Whether there are both foreground and background, without which there are no two mixtures."""
    found = _is_foreground(labels)
    return bool(found.any() and not found.all())


def _log_likelihood(
    mixture: Float[np.ndarray, "1 65"], colors: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "height width"]:
    """Log density of colours under a mixture as OpenCV stores it: five weights, means and covariances."""
    weights, means = mixture[0, :5], mixture[0, 5:20].reshape(5, 3)
    covariances = mixture[0, 20:].reshape(5, 3, 3) + 0.01 * np.eye(3)
    terms = []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        if weight > 1e-6:
            offset = colors.reshape(-1, 3) - mean
            distance = ((offset @ np.linalg.inv(covariance)) * offset).sum(-1)
            terms.append(np.log(weight) - 0.5 * (np.log(np.linalg.det(covariance)) + distance))
    return np.logaddexp.reduce(terms, axis=0).reshape(colors.shape[:2])


def _largest(found: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The largest part and what is not much smaller, small holes filled."""
    labels, count = ndimage.label(found)
    if not count:
        return found
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    solid = (sizes >= _ISLAND * sizes.max())[labels] & (labels > 0)
    holes, count = ndimage.label(~solid)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    return solid | (sizes < 0.02 * solid.sum())[holes]
