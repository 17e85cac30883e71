"""The figures of a report: what they are called, their units and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """What a metric is.

    Attributes:
        title: for people.
        unit: of its values; empty for a ratio.
        digits: behind the point.
        better: which way is better; empty where neither is.
        description: what is measured, in a sentence.
    """

    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower", ""]
    description: str


TABLES = {
    "train": "Reconstruction of training photographs",
    "fit": "Reconstruction of new photographs by latent fitting",
    "novel": "Views that the photograph did not show",
    "depth": "Predicted against true depth",
    "samples": "New objects",
    "cameras": "Cameras of the training photographs",
}

METRICS = {
    "psnr_db": Figure("PSNR", "dB", 2, "higher", "peak signal-to-noise ratio"),
    "ssim": Figure(
        "SSIM", "", 3, "higher", "structural similarity (Wang et al. 2004), Gaussian window of 11 pixels"
    ),
    "lpips": Figure("LPIPS", "", 3, "lower", "learned perceptual distance (Zhang et al. 2018), AlexNet"),
    "psnr_2x_db": Figure("PSNR at 2x", "dB", 2, "higher", "the same at twice the training resolution"),
    "ssim_2x": Figure("SSIM at 2x", "", 3, "higher", "the same at twice the training resolution"),
    "lpips_2x": Figure("LPIPS at 2x", "", 3, "lower", "the same at twice the training resolution"),
    "mean_code_psnr_db": Figure(
        "PSNR of the mean", "dB", 2, "", "what the mean code, one average object, scores"
    ),
    "mask_iou": Figure("mask IoU", "", 3, "higher", "intersection over union of the masks"),
    "pearson": Figure(
        "Pearson",
        "",
        3,
        "higher",
        "correlation of predicted and true depth within an image, over the mask; at "
        "keypoints where the truth has no more",
    ),
    "spearman": Figure("Spearman", "", 3, "higher", "the same of ranks"),
    "pearson_pooled": Figure(
        "Pearson, pooled", "", 3, "higher", "correlation over the points of all images together"
    ),
    "spearman_pooled": Figure("Spearman, pooled", "", 3, "higher", "the same of ranks"),
    "keypoint_pearson": Figure("Pearson at keypoints", "", 3, "higher", "within an image, at keypoints"),
    "keypoint_spearman": Figure("Spearman at keypoints", "", 3, "higher", "the same of ranks"),
    "keypoint_pearson_pooled": Figure(
        "Pearson at keypoints, pooled", "", 3, "higher", "at keypoints of all images"
    ),
    "keypoint_spearman_pooled": Figure("Spearman at keypoints, pooled", "", 3, "higher", "the same of ranks"),
    "normals_error_deg": Figure(
        "normals error", "degrees", 1, "lower", "mean angle between normals over the mask"
    ),
    "detected_fraction": Figure(
        "detected", "", 3, "higher", "samples in which the landmarker finds the object"
    ),
    "pose_error_deg": Figure(
        "pose error",
        "degrees",
        2,
        "lower",
        "angle between the pose that a turned sample was asked for and the pose that its landmarks tell",
    ),
    "nearest_distance": Figure(
        "nearest training row",
        "",
        3,
        "",
        "distance of a sample's code to the nearest training row; about 1 for "
        "independent draws, 0 for a training object again",
    ),
    "memorised_fraction": Figure(
        "memorised",
        "",
        3,
        "lower",
        "samples nearer to a training row than the nearest 1% of rows are to another",
    ),
    "coverage": Figure(
        "coverage",
        "",
        3,
        "higher",
        "share of training objects that have a sample among their nearest objects "
        "(Naeem et al. 2020), in pictures from one camera",
    ),
    "fid": Figure("FID", "", 1, "lower", "Fréchet distance of Inception features (Heusel et al. 2017)"),
    "kid": Figure(
        "KID x 1000",
        "",
        2,
        "lower",
        "kernel distance of Inception features (Binkowski et al. 2018), x 1000",
    ),
    "inception_score": Figure("IS", "", 2, "higher", "Inception score (Salimans et al. 2016)"),
    "reprojection_px": Figure(
        "reprojection error",
        "pixels",
        2,
        "lower",
        "root mean square distance of landmarks to the reprojected "
        "canonical points, in the photograph, by the model's cameras",
    ),
    "fitted_reprojection_px": Figure(
        "reprojection error before training",
        "pixels",
        2,
        "lower",
        "the same by the cameras that landmarks alone gave",
    ),
    "rotation_error_deg": Figure(
        "rotation error",
        "degrees",
        2,
        "lower",
        "angle to the true rotation, after the best rotation of the world",
    ),
    "translation_error": Figure(
        "translation error",
        "",
        4,
        "lower",
        "distance to the true camera centre as a share of its distance from the "
        "object, after the best similarity of the world",
    ),
}


def in_order(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Names, each once, by an order of the catalogue; those that it lacks come last."""
    there, order = dict.fromkeys(names), dict.fromkeys(known)
    return [*(name for name in order if name in there), *(name for name in there if name not in order)]
