"""Titles, units and directions of metrics, and numbers as text."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from nerfgen.metric import Estimate
from nerfgen.report.pair_metrics import BACKGROUNDS, COMPARED, parse_pair_metric


@dataclass(frozen=True)
class MetricInfo:
    """Description of a metric.

    Attributes:
        title: name for people.
        unit: unit of its values; empty for ratios.
        digits: decimal places.
        better: which direction is better; empty if neither.
        description: what is measured, in a phrase.
    """

    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower", ""]
    description: str


TABLES = {
    "train": "Reconstruction of training images",
    "fit": "Reconstruction of held-out images by latent fitting",
    "novel": "Novel views",
    "pairs": "Pairs of images of one object",
    "depth": "Predicted and true depth",
    "samples": "New objects",
    "cameras": "Cameras of the training images",
}

# Headings of image grids whose stored title is another.
GRID_TITLES = {"new photographs": "held-out images"}

METRICS = {
    "psnr_db": MetricInfo("PSNR", "dB", 2, "higher", "peak signal-to-noise ratio"),
    "ssim": MetricInfo(
        "SSIM", "", 3, "higher", "structural similarity (Wang et al. 2004), Gaussian window of 11 pixels"
    ),
    "lpips": MetricInfo("LPIPS", "", 3, "lower", "learned perceptual distance (Zhang et al. 2018), AlexNet"),
    "feature_distance": MetricInfo(
        "feature distance",
        "",
        3,
        "lower",
        "perceptual distance by features of EfficientNet-Lite0, without learned weights",
    ),
    "psnr_2x_db": MetricInfo("PSNR at 2x", "dB", 2, "higher", "PSNR at twice the training resolution"),
    "ssim_2x": MetricInfo("SSIM at 2x", "", 3, "higher", "SSIM at twice the training resolution"),
    "lpips_2x": MetricInfo("LPIPS at 2x", "", 3, "lower", "LPIPS at twice the training resolution"),
    "feature_distance_2x": MetricInfo(
        "feature distance at 2x", "", 3, "lower", "feature distance at twice the training resolution"
    ),
    "mean_code_psnr_db": MetricInfo(
        "PSNR of the mean code",
        "dB",
        2,
        "",
        "PSNR of the mean latent code, one average object, as a baseline",
    ),
    "mask_iou": MetricInfo("mask IoU", "", 3, "higher", "intersection over union of the foreground masks"),
    "pearson": MetricInfo(
        "Pearson",
        "",
        3,
        "higher",
        "correlation of predicted and true depth within an image over its mask, or over its keypoints if there are no "
        "true depth maps",
    ),
    "spearman": MetricInfo("Spearman", "", 3, "higher", "the same for ranks"),
    "pearson_pooled": MetricInfo(
        "Pearson, pooled", "", 3, "higher", "correlation over the points of all images together"
    ),
    "spearman_pooled": MetricInfo("Spearman, pooled", "", 3, "higher", "the same for ranks"),
    "keypoint_pearson": MetricInfo(
        "Pearson at keypoints", "", 3, "higher", "correlation of predicted and true depth within an image"
    ),
    "keypoint_spearman": MetricInfo("Spearman at keypoints", "", 3, "higher", "the same for ranks"),
    "keypoint_pearson_pooled": MetricInfo(
        "Pearson at keypoints, pooled",
        "",
        3,
        "higher",
        "correlation over the keypoints of all images together",
    ),
    "keypoint_spearman_pooled": MetricInfo(
        "Spearman at keypoints, pooled", "", 3, "higher", "the same for ranks"
    ),
    "depth_corr": MetricInfo(
        "DepthCorr",
        "",
        2,
        "higher",
        "sum over the keypoints of the absolute correlation of predicted and true depth over images (Moniz et al. "
        "2018); at most the number of keypoints",
    ),
    "normals_error_deg": MetricInfo(
        "normals error", "degrees", 1, "lower", "mean angle between predicted and true normals over the mask"
    ),
    "detected_fraction": MetricInfo(
        "detected",
        "",
        3,
        "higher",
        "fraction of turned views in which the landmark estimator detects an object",
    ),
    "pose_error_deg": MetricInfo(
        "pose error",
        "degrees",
        2,
        "lower",
        "angle between the pose that a turned view was rendered at and the pose fitted to its detected landmarks; of "
        "fits, poses relative to the image's",
    ),
    "non_flatness": MetricInfo(
        "non-flatness",
        "",
        3,
        "",
        "thickness of the surfaces seen from three sides as a fraction of their width: 0 for a plane, 0.5 for half a "
        "sphere",
    ),
    "identity_similarity": MetricInfo(
        "identity similarity",
        "",
        3,
        "higher",
        "cosine similarity of the face in a turned view to that of the image, of new objects to that of their frontal "
        "view (SFace); above 0.363 for one person",
    ),
    "identity_similarity_unturned": MetricInfo(
        "identity similarity, unturned",
        "",
        3,
        "higher",
        "the same for the image's own fit, seen from the image's camera: the most that the latent code holds",
    ),
    "identity_similarity_others": MetricInfo(
        "identity similarity of others",
        "",
        3,
        "",
        "the same for turned views of other objects: the least to be expected",
    ),
    "identity_similarity_images": MetricInfo(
        "identity similarity of the images",
        "",
        3,
        "",
        "the same for the two images of a pair: the most to be expected",
    ),
    "nearest_distance": MetricInfo(
        "nearest training row",
        "",
        3,
        "",
        "distance of a sample's latent code to the nearest training row; about 1 for independent draws, 0 for "
        "a copy of a training object",
    ),
    "memorised_fraction": MetricInfo(
        "memorised",
        "",
        3,
        "lower",
        "fraction of samples nearer to a training row than 99% of rows are to their nearest row",
    ),
    "coverage": MetricInfo(
        "coverage",
        "",
        3,
        "higher",
        "fraction of training objects with a sample among their nearest objects (Naeem et al. 2020), by renderings "
        "from one camera",
    ),
    "fid": MetricInfo("FID", "", 1, "lower", "Fréchet distance of Inception features (Heusel et al. 2017)"),
    "kid": MetricInfo(
        "KID x 1000",
        "",
        2,
        "lower",
        "kernel distance of Inception features (Binkowski et al. 2018), x 1000",
    ),
    "inception_score": MetricInfo("IS", "", 2, "higher", "Inception score (Salimans et al. 2016)"),
    "feature_frechet": MetricInfo(
        "Fréchet feature distance",
        "",
        1,
        "lower",
        "Fréchet distance of 112 pooled features of EfficientNet-Lite0; not comparable with FID",
    ),
    **{
        f"turned_{name}": MetricInfo(
            f"{title} of turned views",
            "",
            digits,
            "lower",
            "the same of fitted objects, each seen from the camera of another image, against the images",
        )
        for name, title, digits in (
            ("fid", "FID", 1),
            ("kid", "KID x 1000", 2),
            ("feature_frechet", "Fréchet feature distance", 1),
        )
    },
    "reprojection_px": MetricInfo(
        "reprojection error",
        "pixels",
        2,
        "lower",
        "root mean square distance of landmarks to the canonical points reprojected by the model's cameras, in pixels "
        "of the image",
    ),
    "fitted_reprojection_px": MetricInfo(
        "reprojection error before training",
        "pixels",
        2,
        "lower",
        "the same for the cameras fitted to landmarks, before training refined them",
    ),
    "rotation_error_deg": MetricInfo(
        "rotation error",
        "degrees",
        2,
        "lower",
        "angle to the true rotation, after the best global rotation",
    ),
    "translation_error": MetricInfo(
        "translation error",
        "",
        4,
        "lower",
        "distance to the true camera centre as a fraction of its distance from the object, after the best global "
        "similarity",
    ),
    "opacity": MetricInfo(
        "opacity",
        "",
        3,
        "higher",
        "mean opacity of the target's own fit inside the target's mask",
    ),
    "camera_angle_deg": MetricInfo(
        "camera refined by", "degrees", 2, "", "angle between the camera after and before latent fitting"
    ),
    "camera_angle_median_deg": MetricInfo(
        "camera refined by, median", "degrees", 2, "", "the same, the median over images"
    ),
    "landmark_reprojection_px": MetricInfo(
        "reprojection error before fitting",
        "pixels",
        2,
        "lower",
        "the same for the cameras fitted to landmarks, before latent fitting refined them",
    ),
}
for _name in ("keypoint_pearson", "keypoint_spearman"):
    for _kind in ("visible", "hidden"):
        for _pooled in ("", "_pooled"):
            _whole = METRICS[f"{_name}{_pooled}"]
            METRICS[f"{_name}_{_kind}{_pooled}"] = replace(
                _whole,
                title=_whole.title.replace("keypoints", f"{_kind} keypoints"),
                description=f"the same at keypoints that are {_kind} in the image, standardised within each image",
            )
    for _kind in ("", "_visible", "_hidden"):
        _whole = METRICS[f"{_name}{_kind}_pooled"]
        METRICS[f"mean_code_{_name}{_kind}_pooled"] = replace(
            _whole,
            title=f"{_whole.title}, of the mean code",
            better="",
            description="the same for the mean latent code, one average object, as a baseline",
        )
METRICS["depth_corr_visible"] = replace(
    METRICS["depth_corr"],
    title="DepthCorr of visible keypoints",
    description="the same over the images that show the keypoint",
)
for _kind in ("", "_visible"):
    _whole = METRICS[f"depth_corr{_kind}"]
    METRICS[f"mean_code_depth_corr{_kind}"] = replace(
        _whole,
        title=f"{_whole.title}, of the mean code",
        better="",
        description="the same for the mean latent code, one average object, as a baseline",
    )
for _background, _over in BACKGROUNDS.items():
    for _name in ("unturned", "class_mean"):
        METRICS[f"turned_beats_{_name}_{_background}_fraction"] = MetricInfo(
            f"turned beats {COMPARED[_name].title}, {_over}",
            "",
            3,
            "higher",
            f"fraction of pairs in which the turned fit has a higher PSNR than: {COMPARED[_name].description}",
        )
    METRICS[f"turning_loss_{_background}_db"] = MetricInfo(
        f"lost by turning, {_over}",
        "dB",
        2,
        "lower",
        "PSNR of the target fitted itself, minus that of the turned fit",
    )
    METRICS[f"camera_loss_{_background}_db"] = MetricInfo(
        f"lost by the landmark camera, {_over}",
        "dB",
        2,
        "lower",
        "PSNR of the turned fit from the target's fitted camera, minus that from its camera before the fit",
    )

# Stands for a value that could not be measured.
DASH = "–"


def sort_names(order: Iterable[str], names: Iterable[str]) -> list[str]:
    """Distinct names in the given order; unknown names come last."""
    present, known = dict.fromkeys(names), dict.fromkeys(order)
    return [*(name for name in known if name in present), *(name for name in present if name not in known)]


def metric_info(metric: str) -> MetricInfo:
    """Description of a metric; its bare name if the catalogue lacks it, as in reports of later versions."""
    known, of_pair = METRICS.get(metric), parse_pair_metric(metric)
    if known is None and of_pair and of_pair.measure in METRICS:
        measure, compared = METRICS[of_pair.measure], COMPARED[of_pair.compared]
        known = replace(
            measure,
            title=f"{measure.title}, {compared.title}, {of_pair.condition}",
            better="" if compared.baseline else measure.better,
            description=of_pair.description,
        )
    return known or MetricInfo(metric, "", 3, "", "")


def metric_title(metric: str) -> str:
    """Title with unit, such as ``PSNR, dB``."""
    info = metric_info(metric)
    return f"{info.title}, {info.unit}" if info.unit else info.title


def format_value(metric: str, value: float, signed: bool = False) -> str:
    """The number with the metric's decimal places; a dash for NaN."""
    if not math.isfinite(value):
        return DASH
    digits = metric_info(metric).digits
    # Adding zero removes the sign of negative zero.
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def format_interval(metric: str, estimate: Estimate, signed: bool = False) -> str:
    """The bounds of the confidence interval; a dash without one."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return DASH
    return f"{format_value(metric, estimate.low, signed)} to {format_value(metric, estimate.high, signed)}"


def verdict(metric: str, difference: Estimate) -> str:
    """``better``, ``worse``, ``higher`` or ``lower`` if the interval of a difference excludes zero."""
    if not math.isfinite(difference.mean):
        return ""
    if difference.n < 2 or difference.low <= 0 <= difference.high:
        return "no clear difference"
    direction = "higher" if difference.mean > 0 else "lower"
    better = metric_info(metric).better
    if not better:
        return direction
    return "better" if direction == better else "worse"


def report_letter(place: int) -> str:
    """Short name of a report in narrow columns: A, B, ..., Z, A2, ..."""
    turn, letter = divmod(place, 26)
    return string.ascii_uppercase[letter] + (str(turn + 1) if turn else "")
