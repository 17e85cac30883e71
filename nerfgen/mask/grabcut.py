"""Any object, by GrabCut, initialised from the camera and the landmarks.

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
from nerfgen.image import inside_image, resample_window
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest
from nerfgen.pretrained import missing_library, remedy

try:
    import cv2
except ImportError as error:
    library = missing_library(error)
    raise MissingDependencyError(
        f"`method` grabcut needs OpenCV: {library} is missing ({remedy(library)})"
        if library
        else "`method` grabcut needs OpenCV, which is not installed: pip install opencv-contrib-python"
    ) from error

# Size of the raster in pixels, and how much more than the window it shows, for context.
_SIZE, _CONTEXT = 160, 1.2
_ITERATIONS = 3
# Outlines in units of the projection of the class's bounds. All is background outside the box of the first or the
# ellipsoid of the second; the object is likely within the ellipsoid of the third and certain within that of the fourth.
_BOX, _ROUND, _LIKELY, _CERTAIN = 1.04, 1.0, 0.9, 0.5
# The same in units of the landmarks' convex hull, and for certainty of the polygon through all of them.
_HULL, _POLYGON = 1.1, 0.9
# Prior log odds of the object at a pixel: linear in the scale of the ellipsoid on whose outline the pixel lies, 0 at
# _EVEN; a gap between landmarks has the odds at _GAP.
_SLOPE, _EVEN, _GAP = 12.0, 0.85, 1.0
# Bound of the log odds by colour, and the total log odds that fix a pixel before the last cut.
_EVIDENCE, _CLEAR = 8.0, 2.0
# Parts of a smaller fraction of the largest part are islands.
_ISLAND = 0.1
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
_BALL = np.array([point for point in itertools.product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=3) if any(point)])
_BALL /= np.linalg.norm(_BALL, axis=1, keepdims=True)


class GrabCut:
    """GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) on the window and its surroundings.

    Two mixtures of five Gaussians of colour, in CIELAB, are fitted in alternation with the minimum cut between them.
    All is background outside the projected bounds of the class. The foreground starts inside them; it is certain at
    their centre and in the polygon of the landmarks.
    """

    def __init__(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The object in a request's window.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        source, (x0, y0, side) = request.image, request.window
        image, scale = source.pixels(int(np.ceil(max(source.size) * min(1.0, _SIZE / side))))
        margin = (_CONTEXT - 1) / 2 * side
        wide = x0 - margin, y0 - margin, _CONTEXT * side
        raster, valid = resample_window(
            image, (wide[0] * scale[0], wide[1] * scale[1], wide[2] * scale[0]), _SIZE
        )
        if not valid.any():
            return Segmentation("no_mask")
        # Only the image itself takes part: its repeated border would bias the background's colours.
        rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
        shown = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        start, prior = _start(request, wide)
        alpha = np.zeros((_SIZE, _SIZE), np.float32)
        alpha[shown] = _cut(raster[shown], start[shown], prior[shown])
        inner = _SIZE / _CONTEXT
        corner = (_SIZE - inner) / 2
        whole = np.round(alpha * 255).astype(np.uint8)[..., None]
        mask, _ = resample_window(whole, (corner, corner, inner), request.size)
        inside = inside_image(source.size, request.window, request.size)
        return Segmentation("ok", np.where(inside, mask[..., 0], 0))


def _start(
    request: SegmentationRequest, window: tuple[float, float, float]
) -> tuple[UInt8[np.ndarray, "side side"], Float[np.ndarray, "side side"]]:
    """The initial label of every pixel of a window, in GrabCut's numbering, and its prior log odds."""
    start = np.full((_SIZE, _SIZE), cv2.GC_BGD, np.uint8)
    box, ball = (_projected(points, request, window) for points in (_CORNERS, _BALL))
    possible = _filled(box, _BOX) & _filled(ball, _ROUND)
    likely, certain = _filled(ball, _LIKELY), _filled(ball, _CERTAIN)
    radius = np.full((_SIZE, _SIZE), 1.1)
    for scale in np.linspace(1.05, 0.4, 14):
        radius[_filled(ball, scale)] = scale
    points = np.zeros((0, 2)) if request.landmarks is None else request.landmarks
    points = (points[np.isfinite(points).all(axis=1)] - window[:2]) * (_SIZE / window[2])
    if len(points) >= 3:
        polygon = _by_angle(points, ball.mean(axis=0))
        possible |= _filled(points, _HULL)
        likely |= _filled(points, 1.0)
        # The hull contains background, such as that between the ears of a cat; the polygon does not.
        gaps = _filled(points, 1.0) & ~_filled(polygon, 1.0, hull=False)
        radius[gaps] = np.maximum(radius[gaps], _GAP)
        certain = (certain & ~gaps) | _filled(polygon, _POLYGON, hull=False)
    start[possible] = cv2.GC_PR_BGD
    start[possible & likely] = cv2.GC_PR_FGD
    start[possible & certain] = cv2.GC_FGD
    return start, _SLOPE * (_EVEN - radius)


def _projected(
    points: Float[np.ndarray, "points 3"], request: SegmentationRequest, window: tuple[float, float, float]
) -> Float[np.ndarray, "points 2"]:
    """Points in units of the class's bounds, projected to a window's raster; around its centre without a camera."""
    if (
        request.intrinsics is None
        or request.cam_to_world is None
        or not np.isfinite(request.intrinsics).all()
    ):
        center, extent = _SIZE / 2, _SIZE / 2 / _CONTEXT
        return center + extent * points[:, :2]
    intrinsics = window_intrinsics(request.intrinsics, np.array(window), _SIZE)
    return project(points * np.array(request.bounds), intrinsics, request.cam_to_world)[0]


def _by_angle(
    points: Float[np.ndarray, "points 2"], centre: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "points 2"]:
    """Points sorted by their angle about a centre."""
    offset = points - centre
    return points[np.argsort(np.arctan2(offset[:, 1], offset[:, 0]))]


def _filled(
    points: Float[np.ndarray, "points 2"], scale: float, *, hull: bool = True
) -> Bool[np.ndarray, "side side"]:
    """The interior of the convex hull of points, or of the polygon through them, scaled about their centroid."""
    centre = points.mean(axis=0)
    outline = centre + scale * (points - centre)
    if hull:
        outline = cv2.convexHull(outline.astype(np.float32))[:, 0]
    filled = np.zeros((_SIZE, _SIZE), np.uint8)
    # OpenCV's coordinates are those of pixel centres, in sixteenths.
    corners = np.round((outline - 0.5) * 16).clip(-(2**20), 2**20).astype(np.int32)
    cv2.fillPoly(filled, [corners], (1,), shift=4)
    return filled > 0


def _cut(
    raster: UInt8[np.ndarray, "height width 3"],
    start: UInt8[np.ndarray, "height width"],
    prior: Float[np.ndarray, "height width"],
) -> Float[np.ndarray, "height width"]:
    """Opacity of the foreground; the initial labels if they have no foreground or no background."""
    colors = cv2.cvtColor(np.ascontiguousarray(raster), cv2.COLOR_RGB2LAB)
    labels = np.ascontiguousarray(start)
    if _is_divided(labels):
        cv2.setRNGSeed(0)  # the mixtures start from k-means
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        no_rectangle = (0, 0, 0, 0)
        cv2.grabCut(colors, labels, no_rectangle, background, foreground, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
        # OpenCV's cut uses colours only. Pixels that are clear by position and colour are fixed before the last cut.
        # Where colours do not tell the two apart, a mixture can end without pixels, and position alone decides.
        told = _is_divided(labels)
        evidence = np.zeros(prior.shape)
        if told:
            evidence = _log_likelihood(foreground, colors) - _log_likelihood(background, colors)
        odds = ndimage.gaussian_filter(evidence.clip(-_EVIDENCE, _EVIDENCE) + prior, 1.0)
        labels = np.where(odds > 0, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
        labels[odds > _CLEAR] = cv2.GC_FGD
        labels[odds < -_CLEAR] = cv2.GC_BGD
        fixed = (start == cv2.GC_FGD) | (start == cv2.GC_BGD)
        labels[fixed] = start[fixed]
        if told and _is_divided(labels):
            cv2.grabCut(colors, labels, no_rectangle, background, foreground, 1, cv2.GC_EVAL_FREEZE_MODEL)
    # The outline is softened by half a pixel to either side.
    return ndimage.gaussian_filter(_largest(_is_foreground(labels)).astype(np.float32), 0.7)


def _is_foreground(labels: UInt8[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _is_divided(labels: UInt8[np.ndarray, "height width"]) -> bool:
    """Whether there are both foreground and background, which two mixtures need."""
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
    """The largest part and others that are not much smaller, with small holes filled."""
    labels, count = ndimage.label(found)
    if not count:
        return found
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    solid = (sizes >= _ISLAND * sizes.max())[labels] & (labels > 0)
    holes, count = ndimage.label(~solid)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    return solid | (sizes < 0.02 * solid.sum())[holes]
